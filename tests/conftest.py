"""Fixtures of the socket tests. Each test that names `driver` runs once per I/O driver."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Gateway, Sim, binary, check_counts, check_idle, check_process  # noqa: E402

DRIVERS = os.environ.get("SLUICE_DRIVERS", "uring,epoll").split(",")


@pytest.fixture(scope="session", autouse=True)
def binaries():
    return binary("sluice"), binary("sluice-sim")


@pytest.fixture(scope="session", params=DRIVERS)
def driver(request):
    return request.param


class Stack:
    """Servers and a gateway in front of them, checked and stopped at the end."""

    def __init__(self, driver, directory, sims, **more):
        self.sims = sims
        self.gateway = Gateway(driver, directory, [sim.url for sim in sims], **more)
        self.aborts = False
        self.counted = True

    @property
    def url(self):
        return self.gateway.url

    @property
    def admin(self):
        return self.gateway.admin

    @property
    def sim(self):
        return self.sims[0]

    def check(self):
        """Everything at rest and counted alike on both sides."""
        check_idle(self.gateway)
        if self.counted:
            check_counts(self.gateway, self.sims, self.aborts)
        check_process(self.gateway)

    def close(self):
        try:
            self.check()
            self.gateway.stop()
        finally:
            self.gateway.kill()
            for sim in self.sims:
                sim.process.kill()


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
    from harness import Upstream

    made = []

    def make(*arguments, **more):
        made.append(Upstream(*arguments, **more))
        return made[-1]

    yield make
    for upstream in made:
        upstream.stop()
