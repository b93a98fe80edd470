"""A child process whose output is read all the time, so that it never blocks on a full pipe."""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 200_000


def binary(name):
    """`$SLUICE_BIN`, `$SLUICE_SIM_BIN`, `$SLUICE_PERF_BIN`, or what cargo built in the quick profile."""
    named = os.environ.get(f"{name.upper().replace('-', '_')}_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(named or target / "quick" / name)
    if not path.exists():
        raise RuntimeError(f"no {path}: cargo build --profile quick -p {name}")
    return str(path)


class Process:
    """Runs `argv`; `stdout` and `stderr` are lists of lines that grow."""

    def __init__(self, argv, env=None, cwd=None):
        self.argv = [str(part) for part in argv]
        self.stdout, self.stderr = [], []
        self._news = threading.Condition()
        full = {**os.environ, **(env or {})}
        self.child = subprocess.Popen(
            self.argv,
            env=full,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.child.stdout, self.stdout), (self.child.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe, lines):
        for line in pipe:
            with self._news:
                if len(lines) < LINES_MAX:
                    lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def wait_line(self, pattern, stream="stderr", timeout=15.0, start=0):
        """The first match of `pattern` in a line from number `start` on."""
        lines = getattr(self, stream)
        expression = re.compile(pattern)
        deadline = time.monotonic() + timeout
        at = start
        with self._news:
            while True:
                while at < len(lines):
                    found = expression.search(lines[at])
                    if found:
                        return found
                    at += 1
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                if not self.running() and not any(r.is_alive() for r in self._readers):
                    break
                self._news.wait(min(left, 0.2))
        raise AssertionError(
            f"no line like {pattern!r} in {stream} of {self.argv} "
            f"(running: {self.running()}):\n" + "\n".join(lines[-40:])
        )

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, timeout=30.0):
        """The exit status, once all output is read."""
        code = self.child.wait(timeout)
        for reader in self._readers:
            reader.join(5)
        return code

    def stop(self, timeout=30.0):
        """SIGTERM and the exit status; SIGKILL where that does not help."""
        if self.running():
            self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.argv} did not stop in {timeout} s") from None

    def kill(self):
        if self.running():
            self.child.kill()
        self.wait()

    def resident_bytes(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
