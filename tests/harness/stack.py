"""Servers and a gateway in front of them."""

from .checks import check_counts, check_idle, check_process
from .gateway import Gateway

# Of an idle gateway: its own (rings, bells, logs, libraries), pooled connections, clients that stay.
DESCRIPTORS_MAX = 128

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
        check_process(self.gateway, DESCRIPTORS_MAX)

    def close(self):
        try:
            self.check()
            self.gateway.stop()
        finally:
            self.gateway.kill()
            for sim in self.sims:
                sim.process.kill()
