"""A client of the admin listener, on the standard library alone."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request

# The exposition format's sample line; label values are escaped.
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


class Metrics:
    """One scrape."""

    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = _SAMPLE.match(line).groups()
                found = {
                    key: re.sub(r"\\.", lambda m: _ESCAPES[m.group()], text)
                    for key, text in _LABEL.findall(labels or "")
                }
                self.samples.append((name, found, float(value)))

    def sum(self, name, **labels):
        """The sum of every sample of this name that bears these labels (0 for none)."""
        wanted = labels.items()
        return sum(v for n, found, v in self.samples if n == name and wanted <= found.items())

    def has(self, name):
        return any(sample[0] == name for sample in self.samples)

    def outcomes(self):
        """Requests by outcome, those of no model included; outcomes that did not happen are left out."""
        counts = {}
        for name, labels, value in self.samples:
            if name == "sluice_requests_total" and value:
                counts[labels["outcome"]] = counts.get(labels["outcome"], 0) + int(value)
        return counts


class Admin:
    """Reads the admin listener at `url`."""

    def __init__(self, url, token=None):
        self.url, self.token = url, token

    def get(self, path, timeout=10.0):
        """(status, text), whatever the status."""
        request = urllib.request.Request(self.url + path)
        if self.token:
            request.add_header("authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def healthz(self):
        status, text = self.get("/healthz")
        return status, json.loads(text)

    def readyz(self, model=None):
        query = "" if model is None else "?" + urllib.parse.urlencode({"model": model})
        status, text = self.get("/readyz" + query)
        return status, json.loads(text)

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200, (status, text)
        return Metrics(text)

    def lifecycle(self):
        status, text = self.get("/debug/lifecycle")
        assert status == 200, (status, text)
        return json.loads(text)
