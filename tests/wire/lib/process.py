"""The gateway and the simulated server as processes."""

import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .sock import Conn

ROOT = Path(__file__).resolve().parents[3]


def binary(name):
    """In `$SLUICE_BIN_DIR`, else what cargo built in the quick profile."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(os.environ.get("SLUICE_BIN_DIR", target / "quick")) / name
    if not path.exists():
        sys.exit(f"{path} does not exist: cargo build --profile quick -p sluice -p sluice-sim")
    return str(path)


def free_port():
    """Below the ports that the kernel gives to outgoing connections, one of which could take it meanwhile."""
    while True:
        port = random.randint(10_000, 30_000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


async def get(address, path, headers="", patience=10):
    """One GET; (status, body)."""
    async with await Conn.open(address) as conn:
        await conn.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n".encode())
        reply = await conn.reply(patience=patience)
        return reply.status, reply.body


class Process:
    """A child with its standard error in a file."""

    def __init__(self, arguments, environment=None):
        self.place = Path(tempfile.mkdtemp(prefix="sluice-wire-"))
        self.errors = self.place / "stderr"
        self.output = self.place / "stdout"
        self.arguments = [str(one) for one in arguments]
        self.environment = {**os.environ, **(environment or {})}

    def start(self):
        with self.errors.open("wb") as errors, self.output.open("wb") as output:
            self.child = subprocess.Popen(
                self.arguments, stderr=errors, stdout=output, stdin=subprocess.DEVNULL, env=self.environment
            )

    async def said(self, file, pattern, patience=20):
        """Waits until a line of `file` matches."""
        until = time.monotonic() + patience
        while not (found := re.search(pattern, file.read_text(errors="replace"))):
            if self.child.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self.arguments[0]} says only: {self.errors.read_text()}")
            await asyncio.sleep(0.01)
        return found

    async def stop(self, patience=40):
        """SIGTERM; the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        until = time.monotonic() + patience
        while self.child.poll() is None:
            if time.monotonic() > until:
                self.child.kill()
                self.child.wait()
                raise AssertionError("does not end")
            await asyncio.sleep(0.01)
        return self.child.returncode

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    def rss_kib(self):
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))


class Sim(Process):
    """A simulated GPU server."""

    def __init__(self, *arguments):
        super().__init__([binary("sluice-sim"), "--listen", "127.0.0.1:0", *arguments])

    async def __aenter__(self):
        self.start()
        found = await self.said(self.output, r"listening on (\S+):(\d+)")
        self.address = (found[1], int(found[2]))
        self.url = f"http://{found[1]}:{found[2]}"
        return self

    async def __aexit__(self, *_):
        self.kill()

    async def ask(self, path):
        status, body = await get(self.address, path)
        assert status == 200, body
        return json.loads(body)


def toml(values):
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


class Gateway(Process):
    """Sluice in front of `endpoints` (things with a url), all of which serve `m`.

    Leaving it checks what must hold after any test: nothing outstanding, one row for each request, no
    panic, exit status 0."""

    # What /readyz may say for a gateway to be waited for no longer.
    ready_statuses = (200,)

    def __init__(
        self, driver, endpoints, *, limits=None, timeouts=None, endpoint=None, keys=None, shards=1,
        environment=None, extra="", engine="generic", model=None,
    ):
        super().__init__([binary("sluice"), "serve", "--config"], environment)
        self.admin = ("127.0.0.1", free_port())
        self.arguments.append(str(self.place / "sluice.toml"))
        self.access = self.place / "access"
        server = {"listen": f"127.0.0.1:{free_port()}"}
        if not keys:
            # The tables of requests name hosts of all kinds.
            server["open_access"] = "anyone who reaches this port may use it"
        parts = [
            "[server]\n" + toml(server),
            "[admin]\n" + toml({"listen": f"127.0.0.1:{self.admin[1]}"}),
            "[runtime]\n" + toml({"shards": shards, "driver": driver, "pin": False}),
            "[log]\n" + toml({"access": f"file:{self.access}", "usage": f"file:{self.place / 'usage'}"}),
            "[limits]\n" + toml(limits or {}),
            "[timeouts]\n" + toml({"drain_seconds": 10, **(timeouts or {})}),
        ]
        names = [f"e{at}" for at in range(len(endpoints))]
        for name, one in zip(names, endpoints):
            table = {"name": name, "url": one.url, "engine": engine, **(endpoint or {})}
            parts.append("[[endpoints]]\n" + toml(table))
        parts.append("[[models]]\n" + toml({"name": "m", "endpoints": names, "policy": "round-robin", **(model or {})}))
        for name, secret in (keys or {}).items():
            parts.append("[[keys]]\n" + toml({"name": name, "secret": secret}))
        (self.place / "sluice.toml").write_text("\n".join(parts) + extra)

    async def __aenter__(self):
        self.start()
        found = await self.said(self.errors, r"listening.*address=\"?([\d.]+):(\d+)")
        self.address = (found[1], int(found[2]))
        await self.said(self.errors, "")
        until = time.monotonic() + 20
        while True:
            try:
                if (await get(self.admin, "/readyz"))[0] in self.ready_statuses:
                    return self
            except OSError:
                pass
            assert time.monotonic() < until, f"not ready: {self.errors.read_text()}"
            await asyncio.sleep(0.02)

    async def __aexit__(self, kind, *_):
        try:
            if kind is None:
                await self.check()
        finally:
            if kind is not None:
                print(f"--- the gateway said:\n{self.errors.read_text()[-3000:]}", file=sys.stderr)
            self.kill()

    async def check(self):
        await self.settled()
        metrics = await self.metrics()
        assert metrics.sum("sluice_panics_total") == 0, "a panic was caught"
        requests = metrics.sum("sluice_requests_total")
        assert await self.stop() == 0, self.errors.read_text()
        rows = self.rows()
        dropped = metrics.sum("sluice_access_rows_total", result="dropped")
        assert len(rows) + dropped == requests, f"{len(rows)} rows, {dropped} dropped, {requests} requests"
        return rows

    async def settled(self, patience=10):
        """Waits until nothing but what is idle is outstanding; fails if that does not come."""
        until = time.monotonic() + patience
        while True:
            _, body = await get(self.admin, "/debug/lifecycle")
            report = json.loads(body)
            held = {
                kind: entry["outstanding"]
                for kind, entry in report["sum"].items()
                if entry["outstanding"] and kind not in IDLE_KINDS
            }
            assert report["balanced"], report
            metrics = await self.metrics()
            # Ledgers are published once a tick, so they may tell of the time before the last request.
            for name in ("sluice_requests_in_flight", "sluice_streams_open"):
                if metrics.sum(name):
                    held[name] = metrics.sum(name)
            if not held:
                return metrics
            assert time.monotonic() < until, f"outstanding: {held}"
            await asyncio.sleep(0.02)

    async def metrics(self):
        status, body = await get(self.admin, "/metrics")
        assert status == 200
        return Metrics(body.decode())

    def rows(self):
        if not self.access.exists():
            return []
        return [json.loads(line) for line in self.access.read_text().splitlines()]

    async def row(self, request_id, patience=5):
        """The access row of one request."""
        until = time.monotonic() + patience
        while True:
            found = [row for row in self.rows() if row.get("request_id") == request_id]
            if found:
                assert len(found) == 1, found
                return found[0]
            assert time.monotonic() < until, f"no row of {request_id}"
            await asyncio.sleep(0.02)

    def conn(self, **options):
        return Conn.open(self.address, **options)


# Kinds that idle connections hold.
IDLE_KINDS = {"connection", "upstream_connection", "stream_buffer"}


class Metrics:
    """A scrape."""

    def __init__(self, text):
        self.samples = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
                pairs = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
                self.samples.append((name, pairs, float(value)))

    def sum(self, wanted, **labels):
        return sum(
            value
            for name, pairs, value in self.samples
            if name == wanted and all(pairs.get(key) == text for key, text in labels.items())
        )
