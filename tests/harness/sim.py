"""One simulated GPU server."""

import json
import urllib.request

from .process import Process, binary

COUNTED = (
    "completed",
    "aborted",
    "errors",
    "faulted",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
)


class Sim:
    """`arguments` go to `sluice-sim` as they are. Instant unless told otherwise."""

    def __init__(self, *arguments, port=0, pace="--instant", models=("mock-model",)):
        argv = [binary("sluice-sim"), "--listen", f"127.0.0.1:{port}"]
        argv += [pace] if pace and "--realtime" not in arguments else []
        for model in models:
            argv += ["--model", model]
        self.process = Process([*argv, *arguments])
        found = self.process.wait_line(r"listening on (\S+)", "stdout")
        self.address = found.group(1)
        self.port = int(self.address.rsplit(":", 1)[1])
        self.url = f"http://{self.address}"

    def _call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")

    def counts(self):
        """Its own exact counts; `requests_total` is the sum over operations."""
        counts = self._call("/sim/counts")
        counts["requests_total"] = sum(counts["requests"].values())
        return counts

    def aborts(self):
        return self._call("/sim/aborts")

    def fault(self, text, **more):
        """What goes wrong from now on; an empty text is nothing."""
        return self._call("/sim/fault", {"fault": text, **more})

    def slowdown(self, factor):
        return self._call("/sim/slowdown", {"factor": factor})

    def reset(self):
        return self._call("/sim/reset", {})

    def stop(self):
        return self.process.stop()
