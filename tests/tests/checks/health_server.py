"""grpc.health.v1 on grpcio, with the two messages of one field each written by hand.

health_server.py ADDRESS [KEY CERTIFICATE]
"""

import sys
from concurrent import futures

import grpc

STATUS = {b"": 1, b"shop.Cart": 2, b"shop.Odd": 0}


def check(request, context):
    service = request[2:] if request else b""
    if service not in STATUS:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    if service == b"shop.Odd":
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many checks")
    return bytes([8, STATUS[service]])


handler = grpc.unary_unary_rpc_method_handler(check)
server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
server.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
)
if len(sys.argv) > 2:
    with open(sys.argv[2], "rb") as key, open(sys.argv[3], "rb") as certificate:
        credentials = grpc.ssl_server_credentials([(key.read(), certificate.read())])
    server.add_secure_port(sys.argv[1], credentials)
else:
    server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
