"""Many clients at once, on plain non-blocking sockets: what a client does and when is decided to the instruction."""

import random
import socket
import struct
import time

LEAVES = ("fin", "rst", "half")


def leave(sock, how):
    """Ends a client's side; the time just before it, Unix nanoseconds."""
    if how == "rst":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    now = time.time_ns()
    if how == "half":
        sock.shutdown(socket.SHUT_WR)
    else:
        sock.close()
    return now


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def spread(rng, count, seconds):
    """Random moments within so many seconds, in order."""
    return sorted(rng.random() * seconds for _ in range(count))


def seeded(name):
    """A generator whose seed is printed when a test fails, for it is in the test's name."""
    return random.Random(f"wire {name}")
