"""Free ports below the kernel's ephemeral range, so that no outgoing connection takes one meanwhile."""

import os
import random
import socket

FIRST, LAST = 18_000, 32_000
_given = set()
# Test workers run side by side: each draws from a sequence of its own.
_random = random.Random(f"{os.getpid()}-{os.environ.get('PYTEST_XDIST_WORKER', '')}")


def free_port(host="127.0.0.1"):
    """A port on which nobody listens at this moment, never the same twice in one process."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(1_000):
        port = _random.randrange(FIRST, LAST)
        if port in _given:
            continue
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port")
