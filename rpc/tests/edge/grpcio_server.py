"""A server without a schema: octets in, octets out. It prints its port."""

import time
from concurrent import futures

import grpc

begun = []
cancelled = []


def remaining(_, context):
    """The seconds that are left, or 'none'."""
    left = context.time_remaining()
    return b"none" if left is None or left > 1e6 else str(left).encode()


def sleep(request, context):
    key = request.decode()
    begun.append(key)
    # False: it is over already, and nobody will be called.
    if not context.add_callback(lambda: cancelled.append(key)):
        cancelled.append(key)
    while context.is_active():
        time.sleep(0.01)
    return b""


def was_cancelled(request, _):
    return str(request.decode() in cancelled).encode()


def has_begun(request, _):
    return str(request.decode() in begun).encode()


def metadata(_, context):
    got = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    context.send_initial_metadata([("x-initial", "first")])
    context.set_trailing_metadata(got + [("x-trailing-bin", bytes(range(256)))])
    return b"done"


def echo(requests, _):
    for request in requests:
        yield request


METHODS = {
    "/test.T/Remaining": grpc.unary_unary_rpc_method_handler(remaining),
    "/test.T/Sleep": grpc.unary_unary_rpc_method_handler(sleep),
    "/test.T/WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
    "/test.T/HasBegun": grpc.unary_unary_rpc_method_handler(has_begun),
    "/test.T/Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "/test.T/Echo": grpc.stream_stream_rpc_method_handler(echo),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers((Handler(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
