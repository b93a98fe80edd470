"""The measuring harness: that a short round of it works, and that it leaves nothing behind. No time is judged."""

import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from harness import binary

CPUS = sorted(os.sched_getaffinity(0))


def compare(driver, out, mark, rounds):
    floor = "floor" if driver == "uring" else "floor-epoll"
    arguments = ["compare", "--scenario", "unary-1k", "--peer", f"direct,{floor},sluice@{driver}"]
    arguments += ["--rounds", rounds, "--stretch", 0.2, "--out", out]
    arguments += ["--proxy-cpu", CPUS[0], "--load-cpu", CPUS[-1]]
    return subprocess.Popen(
        [binary("sluice-perf"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SLUICE_PERF_TEST": mark},
        # A shell that runs the tests in its background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def marked(mark):
    """Processes, zombies aside, that carry the mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append((place.name, (place / "cmdline").read_text()))
        except OSError:
            continue
    return found


def rows(out):
    text = (out / "compare.jsonl").read_text() if (out / "compare.jsonl").exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def gone(mark, within=5):
    until = time.monotonic() + within
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def test_one_round(driver, tmp_path):
    mark = str(uuid.uuid4())
    run = compare(driver, tmp_path, mark, rounds=1)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    found = {row["peer"]: row for row in rows(tmp_path)}
    assert len(found) == 3, said
    for row in found.values():
        assert row["outcome"]["ok"] > 0 and not row["outcome"]["errors"]
    proxies = [row["proxy"] for row in found.values() if row["proxy"]]
    assert len(proxies) == 2
    assert all(it["cpu_us_per_request"] > 0 and it["rss_loaded_kib"] > 0 for it in proxies)
    assert f"sluice@{driver}" in (tmp_path / "summary.md").read_text()
    assert gone(mark) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_leaves_nothing_but_the_finished_rounds(tmp_path, how):
    driver = os.environ.get("SLUICE_DRIVERS", "uring").split(",")[0]
    mark = str(uuid.uuid4())
    run = compare(driver, tmp_path, mark, rounds=1000)
    try:
        until = time.monotonic() + 60
        while not rows(tmp_path) and time.monotonic() < until:
            time.sleep(0.05)
        # Somewhere inside the next round.
        time.sleep(0.7)
        assert run.poll() is None and marked(mark)
        run.send_signal(how)
        run.communicate(timeout=40)
    finally:
        run.kill()
    assert gone(mark) == []
    assert len(rows(tmp_path)) % 3 == 0 and rows(tmp_path)


@pytest.mark.skipif(not shutil.which("valgrind"), reason="there is no valgrind")
def test_the_gate_closes_where_a_count_is_above_its_limit(tmp_path):
    limits = tmp_path / "limits.toml"

    def gate(text):
        limits.write_text(text)
        arguments = [binary("sluice-perf"), "gate", limits, "--driver", "epoll", "--scenario", "event-alone"]
        run = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
        return run.returncode, run.stdout + run.stderr

    status, said = gate("[epoll]\nevent-alone = 100\n")
    assert status == 1 and "limit 100 (+" in said and "ABOVE" in said, said
    status, said = gate("[epoll]\nevent-alone = 1000000\n")
    assert status == 0 and "within" in said, said
    status, said = gate("[epoll]\nevent-in-8 = 1000000\n")
    assert status == 1 and "has no epoll event-alone" in said, said
