"""Lets pytest run these tests too: each is a coroutine that takes the driver's name."""

import asyncio
import inspect
import resource

import pytest


def pytest_configure():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    asyncio.run(pyfuncitem.obj(pyfuncitem.funcargs["driver"]))
    return True
