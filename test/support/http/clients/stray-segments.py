"""Asks a server for paths on kept connections, and puts segments among them that neither end has sent and both ends refuse.

usage: stray-segments.py PORT

Each connection has a kind of stray segment, sent towards both ends between its requests, over a raw socket. Prints one line for each
connection: its kind and how many of its requests were answered. The numbers of a connection come from the kernel (TCP_REPAIR).
"""
import socket
import struct
import sys

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
RECEIVE_QUEUE, SEND_QUEUE = 1, 2
REPAIR_OFF_NO_PROBE = -1
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
REQUESTS = 3


def numbers(connection):
    """The next sequence numbers that this end sends and receives."""
    found = []
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    for queue in (SEND_QUEUE, RECEIVE_QUEUE):
        connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        found.append(connection.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_NO_PROBE)
    return found


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(source, destination, seq, ack, flags, payload=b""):
    def header(total):
        return struct.pack("!HHIIBBHHH", source[1], destination[1], seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 << 4, flags, 512, total, 0)

    ends = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    length = 20 + len(payload)
    summed = ends + struct.pack("!BBH", 0, 6, length) + header(0) + payload
    return header(checksum(summed + b"\0" * (len(summed) % 2))) + payload


KINDS = {
    "old reset": lambda seq, ack: (seq - 20, 0, RST),
    "reset ahead in the window": lambda seq, ack: (seq + 10, 0, RST),
    "reset far ahead": lambda seq, ack: (seq + 1_000_000_000, ack, RST | ACK),
    "SYN": lambda seq, ack: (seq + 90_000_000, 0, SYN),
    "SYN in the window": lambda seq, ack: (seq + 10, 0, SYN),
    "SYN-ACK": lambda seq, ack: (seq + 90_000_000, ack, SYN | ACK),
    "data far ahead": lambda seq, ack: (seq + 900_000_000, ack, PSH | ACK, b"stray"),
    "FIN far ahead": lambda seq, ack: (seq + 900_000_000, ack, FIN | ACK),
    "keep-alive": lambda seq, ack: (seq - 1, ack, ACK, b"\0"),
}


def answered(connection, path):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{connection.getpeername()[1]}\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        if not part:
            return False
        got += part
    head, body = got.split(b"\r\n\r\n", 1)
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head.startswith(b"HTTP/1.1 200 ")


def main():
    port = int(sys.argv[1])
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    for name, make in KINDS.items():
        count = 0
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            client, server = connection.getsockname(), connection.getpeername()
            for request in range(REQUESTS):
                count += answered(connection, f"/orders/{name.replace(' ', '-')}-{request}")
                sent, received = numbers(connection)
                raw.sendto(segment(client, server, *make(sent, received)), (server[0], 0))
                raw.sendto(segment(server, client, *make(received, sent)), (client[0], 0))
        print(name, count, flush=True)


main()
