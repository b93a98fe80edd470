"""Fixtures of the socket tests. Each test that names `driver` runs once per I/O driver."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Gateway, Sim, Upstream, binary  # noqa: E402

DRIVERS = os.environ.get("SLUICE_DRIVERS", "uring,epoll").split(",")


@pytest.fixture(scope="session", autouse=True)
def binaries():
    return binary("sluice"), binary("sluice-sim")


@pytest.fixture(scope="session", params=DRIVERS)
def driver(request):
    return request.param


@pytest.fixture
def gateways(driver, tmp_path):
    """Makes gateways for one test; each must stop cleanly."""
    made = []

    def make(urls=(), name=None, **more):
        directory = tmp_path / (name or f"gateway-{len(made)}")
        start = more.pop("start", True)
        gateway = Gateway(driver, directory, urls, start=False, **more)
        made.append(gateway)
        return gateway.start() if start else gateway

    yield make
    try:
        for gateway in made:
            if gateway.process is not None and gateway.process.child.poll() is None:
                gateway.stop()
    finally:
        for gateway in made:
            gateway.kill()


@pytest.fixture
def sims():
    """Makes simulated servers for one test."""
    made = []

    def make(*arguments, **more):
        made.append(Sim(*arguments, **more))
        return made[-1]

    yield make
    for sim in made:
        sim.process.kill()


@pytest.fixture
def upstreams():
    """Makes upstreams that show what they were sent, for one test."""
    made = []

    def make(*arguments, **more):
        made.append(Upstream(*arguments, **more))
        return made[-1]

    yield make
    for upstream in made:
        upstream.stop()
