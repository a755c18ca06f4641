"""python3 python-server.py HOST PORT [CERT KEY]: see servers.ts. Says `listening PORT`, then a line of JSON per answer."""
import json
import re
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

host, port = sys.argv[1], int(sys.argv[2])
files = sys.argv[3:]
output = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self):
        length = int(self.headers.get("content-length", 0))
        request_body = self.rfile.read(length)
        match = re.match(r"/(\w+)(?:/(\d+))?", self.path)
        path, number = (match[1], int(match[2] or 0)) if match else ("", 0)
        status, body = 200, b""
        if path == "echo":
            body = request_body
        elif path == "bytes":
            body = b"x" * number
        elif path == "status":
            status = number
        elif path == "slow":
            time.sleep(number / 1000)
            body = b"slow"
        else:
            status, body = 404, b"not found\n"
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            body = b""
        self.wfile.write(body)
        self.wfile.flush()
        with output:
            print(json.dumps({"method": self.command, "target": self.path, "status": status, "bodyBytes": len(body)}), flush=True)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def finish_request(self, request, client_address):
        # The handshake in the connection's own thread: a slow client must not hold up the others.
        if files:
            request = context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        pass


if files:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
server = Server((host, port), Handler)
print("listening", server.server_address[1], flush=True)
server.serve_forever()
