"""One running gateway with its configuration file."""

import json
import re
import shlex
import signal
import time
from pathlib import Path

from .admin import Admin
from .config import base_config, toml_text
from .ports import free_port
from .process import Process, binary

_LINE = re.compile(r"^at=\S+ level=(\w+) msg=")


def parse_line(line):
    """A `key=value` line as a dictionary, or None for anything else."""
    if not _LINE.match(line):
        return None
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.quotes = True, "", '"'
    return dict(token.split("=", 1) for token in lexer if "=" in token)


class Gateway:
    """Starts `sluice serve` over `urls`. `more` replaces or adds tables of the configuration.

    `expected` holds patterns of warnings and errors that this test provokes: whatever else is on
    standard error above `info` fails the test when the gateway is stopped.
    """

    def __init__(self, driver, directory, urls=(), env=None, token=None, start=True, **more):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.driver, self.env, self.token = driver, env, token
        self.port, self.admin_port = free_port(), free_port()
        self.config = base_config(
            driver, self.port, self.admin_port, list(urls), self.directory, **more
        )
        self.file = self.directory / "sluice.toml"
        self.expected = []
        self.process = None
        listen, admin = self.config["server"]["listen"], self.config["admin"]["listen"]
        scheme = "https" if "tls" in self.config["server"] else "http"
        self.url = f"{scheme}://{listen}".replace("//0.0.0.0", "//127.0.0.1")
        self.admin = Admin(f"http://{admin}".replace("//0.0.0.0", "//127.0.0.1"), token)
        self.write(self.config)
        if start:
            self.start()

    def write(self, config):
        """Replaces the file at one stroke, as careful people do."""
        text = config if isinstance(config, str) else toml_text(config)
        aside = self.file.with_suffix(".new")
        aside.write_text(text)
        aside.replace(self.file)

    def launch(self):
        """Starts the process and waits for nothing."""
        argv = [binary("sluice"), "serve", "--config", self.file]
        self.process = Process(argv, env=self.env, cwd=self.directory)
        return self.process

    def start(self, timeout=20.0):
        """Starts the process, and waits until every shard serves and every endpoint was probed."""
        self.launch().wait_line(r"msg=listening", timeout=timeout)
        self.wait_serving(timeout)
        return self

    def wait_serving(self, timeout=20.0):
        deadline = time.monotonic() + timeout
        status, body = 0, {}
        while time.monotonic() < deadline and self.process.running():
            try:
                status, body = self.admin.readyz()
            except OSError:
                # The admin listener comes a moment after the line in the log.
                time.sleep(0.01)
                continue
            states = [s for m in body["models"].values() for s in m["endpoints"].values()]
            probed = "unknown" not in states and "unresolved" not in states
            if body["conditions"]["shards_listening"] and probed:
                return
            time.sleep(0.02)
        raise AssertionError(f"not serving: {status} {body}\n" + "\n".join(self.process.stderr))

    # --- what it says -----------------------------------------------------------------------------

    def log(self):
        """Every line of the log so far, parsed."""
        return [fields for fields in map(parse_line, list(self.process.stderr)) if fields]

    def unexpected(self):
        """Lines above `info`, or in no shape at all, that no test announced."""
        bad = []
        for line in list(self.process.stderr):
            fields = parse_line(line)
            calm = fields is not None and fields["level"] == "info"
            if not calm and not any(re.search(pattern, line) for pattern in self.expected):
                bad.append(line)
        return bad

    def rows(self, kind="access"):
        """The rows of a log so far."""
        path = self.directory / f"{kind}.jsonl"
        if not path.exists():
            return []
        text = path.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def row(self, request_id, kind="access", timeout=5.0):
        """The one row of a request; rows come a moment after the answer."""
        deadline = time.monotonic() + timeout
        while True:
            found = [row for row in self.rows(kind) if row.get("request_id") == request_id]
            if found or time.monotonic() > deadline:
                assert len(found) == 1, f"{len(found)} {kind} rows of {request_id}"
                return found[0]
            time.sleep(0.02)

    # --- what it is told --------------------------------------------------------------------------

    def hangup(self):
        self.process.signal(signal.SIGHUP)

    def generation(self):
        return self.admin.lifecycle()["generation"]

    def reload(self, config=None, timeout=10.0):
        """Writes a good configuration, hangs up, and waits until every shard has the new plan."""
        before = self.generation()
        if config is not None:
            self.write(config)
        self.hangup()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            lifecycle = self.admin.lifecycle()
            shards = [shard["generation"] for shard in lifecycle["shards"]]
            if lifecycle["generation"] > before and min(shards) == lifecycle["generation"]:
                return lifecycle["generation"]
            time.sleep(0.01)
        raise AssertionError("no new generation:\n" + "\n".join(self.process.stderr[-20:]))

    def stop(self, code=0, timeout=40.0):
        """SIGTERM; the exit status must be `code` and standard error without surprises."""
        if self.process is None:
            return
        died = not self.process.running()
        got = self.process.stop(timeout)
        assert not died, f"the gateway had died ({got}):\n" + "\n".join(self.process.stderr[-40:])
        bad = self.unexpected()
        assert got == code, f"exit status {got}:\n" + "\n".join(self.process.stderr[-40:])
        assert not bad, "unexpected on standard error:\n" + "\n".join(bad)

    def kill(self):
        if self.process is not None and self.process.running():
            self.process.kill()
