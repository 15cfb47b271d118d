"""What a client of grpcio sees through the edge; each line that holds is printed."""

import sys
import time

import grpc

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")


def unary(method):
    return channel.unary_unary(f"/test.T/{method}")


def wait_until(what, holds):
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < 30, what
        time.sleep(0.02)


# Seconds of slack everywhere: this machine may be busy with other tests, and what is looked at is not its speed.
grpc.channel_ready_future(channel).result(timeout=30)

# gRPC's core rounds what it sends up, to three digits.
left = float(unary("Remaining")(b"", timeout=20))
assert 10 < left <= 20.1, left
print("ok: deadline")

# The edge's max_timeout of 30 s holds for a call that brings none.
left = float(unary("Remaining")(b""))
assert 20 < left < 30, left
print("ok: no deadline")


def heard_of(key):
    return unary("WasCancelled")(key) == b"True"


def began(key):
    return unary("HasBegun")(key) == b"True"


def comes_late(key, timeout):
    """A call that sleeps beyond its deadline; whether the server had begun it by then."""
    start = time.monotonic()
    try:
        unary("Sleep")(key, timeout=timeout)
        raise AssertionError("it should have been late")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert timeout * 0.8 < time.monotonic() - start < timeout + 10
    return began(key)


# A call whose deadline passes before it is begun need not be: then one with more time is asked.
late = next(key for key, timeout in ((b"late", 0.3), (b"later", 2), (b"latest", 8)) if comes_late(key, timeout))
wait_until("the server hears of the deadline", lambda: heard_of(late))
print("ok: sleeping")

call = unary("Sleep").future(b"cancelled")
wait_until("the call is under way", lambda: began(b"cancelled"))
call.cancel()
wait_until("the server hears of the cancellation", lambda: heard_of(b"cancelled"))
print("ok: cancelled")

sent = [("x-text", "value"), ("x-text", "another"), ("x-octets-bin", bytes(range(256)))]
answer, call = unary("Metadata").with_call(b"", metadata=sent)
assert answer == b"done"
assert ("x-initial", "first") in [tuple(pair) for pair in call.initial_metadata()]
trailing = [tuple(pair) for pair in call.trailing_metadata()]
for pair in sent + [("x-trailing-bin", bytes(range(256)))]:
    assert pair in trailing, (pair, trailing)
print("ok: metadata")

messages = [bytes([number]) * (number * 1000) for number in range(100)]
answers = list(channel.stream_stream("/test.T/Echo")(iter(messages)))
assert answers == messages
print("ok: stream")
