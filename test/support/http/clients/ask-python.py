"""python3 ask-python.py BASE REQUESTS-AS-JSON: the requests, one after the other on one connection. See clients.ts."""
import http.client
import json
import ssl
import sys
from urllib.parse import urlsplit

base = urlsplit(sys.argv[1])
if base.scheme == "https":
    connection = http.client.HTTPSConnection(base.hostname, base.port, context=ssl._create_unverified_context())
else:
    connection = http.client.HTTPConnection(base.hostname, base.port)
for request in json.loads(sys.argv[2]):
    body = b"y" * request["bodyBytes"] if request["bodyBytes"] > 0 else None
    connection.request(request["method"], request["target"], body=body)
    connection.getresponse().read()
connection.close()
