"""gRPC by grpcio, over its own BoringSSL or plain.

grpc_peer.py server HOST PORT [CERT KEY]: as grpc-server.mjs.
grpc_peer.py client HOST:PORT CERT JSON: as grpc.mjs.
"""

import json
import signal
import sys
import threading
from concurrent import futures

import grpc

KINDS = ("Unary", "Upload", "Download", "Chat")


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


class Calls(grpc.GenericRpcHandler):
    """Every method as one that streams both ways: on the wire it is the same."""

    def service(self, details):
        service, _, method = details.method[1:].partition("/")
        if service != "test.Calls" or method not in KINDS:
            return None
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: serve(method, requests, context))


def serve(method, requests, context):
    received = received_bytes = sent = sent_bytes = 0
    ask = {}
    for message in requests:
        received += 1
        received_bytes += len(message)
        ask = json.loads(message)
        if method == "Chat":
            reply = b"y" * ask.get("bytes", 10)
            sent += 1
            sent_bytes += len(reply)
            yield reply
    status = ask.get("status", 0)
    replies = 0
    if method == "Download" and not ask.get("failFirst"):
        replies = ask.get("replies", 3)
    elif method in ("Unary", "Upload") and status == 0 and not ask.get("hang"):
        replies = 1
    for _ in range(replies):
        reply = b"y" * ask.get("bytes", 10)
        sent += 1
        sent_bytes += len(reply)
        yield reply
    if ask.get("hang"):
        ended = threading.Event()
        if context.add_callback(ended.set):
            ended.wait()
        return
    say(
        {
            "method": method,
            "requests": received,
            "responses": sent,
            "status": status,
            "requestBytes": received_bytes,
            "responseBytes": sent_bytes,
        }
    )
    if status != 0:
        code = next(code for code in grpc.StatusCode if code.value[0] == status)
        context.abort(code, "not for traces")


def server(host, port, cert=None, key=None):
    # Blocked in every thread, so that it can be waited for.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    # A call that hangs keeps its thread.
    made = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=[("grpc.so_reuseport", 0)])
    made.add_generic_rpc_handlers((Calls(),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if cert is None:
        bound = made.add_insecure_port(address)
    else:
        with open(key, "rb") as key_file, open(cert, "rb") as cert_file:
            credentials = grpc.ssl_server_credentials([(key_file.read(), cert_file.read())])
        bound = made.add_secure_port(address, credentials)
    made.start()
    print(f"listening {bound}", flush=True)
    signal.sigwait({signal.SIGTERM})
    made.stop(0)


def call(channel, each):
    path = each["path"]
    requests = each.get("requests", 1)
    message = json.dumps(each.get("ask", {})).encode()
    deadline = each.get("deadlineMs")
    metadata = list(each.get("metadata", {}).items())
    stream = channel.stream_stream(path)(
        iter([message] * requests), timeout=deadline / 1000 if deadline else None, metadata=metadata
    )
    timer = threading.Timer(each["cancelMs"] / 1000, stream.cancel) if "cancelMs" in each else None
    if timer:
        timer.start()
    responses = 0
    status = 0
    try:
        for _ in stream:
            responses += 1
    except grpc.RpcError as error:
        status = error.code().value[0]
    except grpc.FutureCancelledError:
        status = grpc.StatusCode.CANCELLED.value[0]
    if timer:
        timer.cancel()
    return {"path": path, "status": status, "requests": requests, "responses": responses}


def client(target, cert, task):
    task = json.loads(task)
    options = [("grpc.enable_http_proxy", 0)]
    if task.get("compress"):
        options.append(("grpc.default_compression_algorithm", grpc.Compression.Gzip))
    if cert == "-":
        channel = grpc.insecure_channel(target, options)
    else:
        with open(cert, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        options.append(("grpc.ssl_target_name_override", "localhost"))
        channel = grpc.secure_channel(target, credentials, options)
    # Deadlines are of calls, not of the connection.
    grpc.channel_ready_future(channel).result(timeout=60)
    every = [each for each in task["calls"] for _ in range(each.get("count", 1))]
    with futures.ThreadPoolExecutor(max_workers=len(every)) as pool:
        ends = list(pool.map(lambda each: call(channel, each), every))
    channel.close()
    say(ends)


if __name__ == "__main__":
    {"server": server, "client": client}[sys.argv[1]](*sys.argv[2:])
