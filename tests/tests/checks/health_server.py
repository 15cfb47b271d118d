"""grpc.health.v1 on grpcio, with the two messages of one field each written by hand.

health_server.py ADDRESS [KEY CERTIFICATE | --no-watch | --everywhere]

SIGUSR1 makes shop.Flip serve, SIGUSR2 makes it not serve.
"""

import queue
import signal
import sys
import threading
from concurrent import futures

import grpc

STATUS = {b"": 1, b"shop.Cart": 2, b"shop.Odd": 0, b"shop.Flip": 1}
watchers = []
lock = threading.Lock()


def named(request):
    return request[2:] if request else b""


def check(request, context):
    service = named(request)
    if service not in STATUS:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    if service == b"shop.Odd":
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many checks")
    return bytes([8, STATUS[service]])


def watch(request, context):
    news = queue.Queue()
    with lock:
        watchers.append(news)
    context.add_callback(lambda: news.put(None))
    print("watched", flush=True)
    while True:
        yield bytes([8, STATUS.get(named(request), 3)])
        if news.get() is None:
            return


def flip(number, _frame):
    STATUS[b"shop.Flip"] = 1 if number == signal.SIGUSR1 else 2
    for news in list(watchers):
        news.put(True)


signal.signal(signal.SIGUSR1, flip)
signal.signal(signal.SIGUSR2, flip)
methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
if "--no-watch" not in sys.argv:
    methods["Watch"] = grpc.unary_stream_rpc_method_handler(watch)
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),)
)
if len(sys.argv) > 3:
    with open(sys.argv[2], "rb") as key, open(sys.argv[3], "rb") as certificate:
        credentials = grpc.ssl_server_credentials([(key.read(), certificate.read())])
    server.add_secure_port(sys.argv[1], credentials)
else:
    port = sys.argv[1].rpartition(":")[2]
    everywhere = "--everywhere" in sys.argv
    server.add_insecure_port("0.0.0.0:" + port if everywhere else sys.argv[1])
server.start()
# Woken for signals, which are handled between two waits.
while server.wait_for_termination(timeout=0.05):
    pass
