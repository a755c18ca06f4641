"""python3 extension-headers.py PORT TARGET: a request over IPv6 loopback, each of whose packets carries a hop-by-hop and a destination options header."""

import socket
import sys

port, target = int(sys.argv[1]), sys.argv[2]
# Next header and length, both for the kernel to fill in; PadN of 14 bytes (RFC 8200 section 4.2).
OPTIONS = bytes([0, 1, 1, 12, *([0] * 12)])
client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, OPTIONS)
client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, OPTIONS)
client.connect(("::1", port))
client.sendall(f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n".encode())
client.sendall(b"y" * 100_000)
answer = b""
while part := client.recv(65536):
    answer += part
print(answer.split(b"\r\n")[0].decode(), len(answer.partition(b"\r\n\r\n")[2]))
