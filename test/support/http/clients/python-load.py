"""python3 python-load.py BASE COUNT PREFIX: requests one after the other, on a kept connection and, every fifth, on a new one."""
import http.client
import ssl
import sys
from urllib.parse import urlsplit

base, count, prefix = urlsplit(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl._create_unverified_context()


def connect():
    if base.scheme == "https":
        return http.client.HTTPSConnection(base.hostname, base.port, context=context)
    return http.client.HTTPConnection(base.hostname, base.port)


kept = connect()
for index in range(count):
    connection = connect() if index % 5 == 0 else kept
    connection.request("GET", f"/orders/{prefix}-{index}?from=python")
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status
    if connection is not kept:
        connection.close()
kept.close()
print(count)
