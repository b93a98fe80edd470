"""A module's own servers and gateway, checked when the module is done."""

import pytest
from harness import Sim, Stack


@pytest.fixture(scope="module")
def stack(request, driver, tmp_path_factory):
    """Servers with the arguments in the module's `SIMS`, a gateway with its `CONFIG`.

    The module's counts are compared with the servers' at its end, so every test of the module goes
    through the gateway only, and none leaves a request without its end.
    """
    directory = tmp_path_factory.mktemp("stack")
    sims = [Sim(*arguments) for arguments in getattr(request.module, "SIMS", [[], []])]
    stack = Stack(driver, directory, sims, **getattr(request.module, "CONFIG", {}))
    stack.aborts = getattr(request.module, "ABORTS", False)
    stack.gateway.expected += getattr(request.module, "EXPECTED", [])
    yield stack
    stack.close()
