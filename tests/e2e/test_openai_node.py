"""The official Node client of OpenAI's API: tests/clients/openai.mjs does the asking."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness import wait_for

SCRIPT = Path(__file__).parents[1] / "clients" / "openai.mjs"
KEY = "sk-node-0123456789"
CONFIG = {
    "keys": [{"name": "team", "secret": "env:TEAM_KEY"}],
    "env": {"TEAM_KEY": KEY},
    "models": [
        {"name": "mock-model", "endpoints": ["gpu-0"]},
        {"name": "org/mock-model-8b", "endpoints": ["gpu-0"], "upstream_model": "mock-model"},
    ],
}
SIMS = [[]]
# It leaves one stream and one silent request.
ABORTS = True
CHECKS = [line.split("(")[0].split()[1] for line in SCRIPT.read_text().splitlines()
          if line.startswith("  async ")]


@pytest.fixture(scope="module")
def results(stack):
    done = subprocess.run(
        ["node", SCRIPT, stack.url, KEY],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found, done.stderr
    return {line["name"]: line["error"] for line in found}


@pytest.mark.parametrize("name", CHECKS)
def test_node(results, name):
    assert results[name] is None


def test_the_server_heard_of_the_clients_that_left(stack, results):
    assert results["cancel"] is None
    wait_for(lambda: stack.sim.counts()["aborted"] == 2, 5, "both aborts")
