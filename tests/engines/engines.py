"""Two servers of one real engine: llama.cpp's, started here, or whichever run already."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from harness import Process, free_port

HERE = Path(__file__).resolve().parent
# Tokens of each slot's context; two conversations stay beside each other.
CONTEXT_TOKENS, SLOTS = 16_384, 2


@dataclass
class Engine:
    """What the tests must know of it; `urls` are two servers, `model` what they call it."""

    name: str
    urls: list
    model: str
    processes: tuple = ()

    def metrics(self, at):
        with urllib.request.urlopen(self.urls[at] + "/metrics", timeout=10) as answer:
            return answer.read().decode()

    def running(self, at):
        """Requests in the batch; None where the engine does not tell."""
        found = re.search(
            r"^(?:vllm:num_requests_running|sglang:num_running_reqs|llamacpp:requests_processing)\S* (\S+)$",
            self.metrics(at),
            re.MULTILINE,
        )
        return found and float(found.group(1))

    def block_tokens(self):
        """Tokens that its cache keeps or loses together."""
        found = re.search(r'block_size="(\d+)"', self.metrics(0))
        # llama.cpp compares token by token, and computes the last one again.
        return int(found.group(1)) if found else 1

    def close(self):
        for process in self.processes:
            process.kill()


def llama_server():
    """llama.cpp's server, if there is one."""
    return shutil.which(os.environ.get("SLUICE_LLAMA_SERVER", "llama-server"))


def lacks():
    """Why there is no engine to test with; an empty text where there is one."""
    if os.environ.get("SLUICE_ENGINE_URLS") or llama_server():
        return ""
    return "no llama-server on PATH or in SLUICE_LLAMA_SERVER, and no SLUICE_ENGINE_URLS"


def start(directory):
    """Starts what there is."""
    urls = os.environ.get("SLUICE_ENGINE_URLS")
    if urls:
        first, second = urls.split(",")
        engine = os.environ.get("SLUICE_ENGINE", "vllm")
        return Engine(engine, [first, second], os.environ["SLUICE_ENGINE_MODEL"])
    model = os.environ.get("SLUICE_GGUF") or tiny(directory)
    ports = [free_port(), free_port()]
    processes = tuple(Process(command(model, port)) for port in ports)
    for process in processes:
        process.wait_line(r"listening on http", timeout=120)
    return Engine("llama-cpp", [f"http://127.0.0.1:{port}" for port in ports], "model", processes)


def command(model, port):
    return [
        *(llama_server(), "--model", model, "--alias", "model", "--metrics"),
        *("--host", "127.0.0.1", "--port", port),
        *("--ctx-size", SLOTS * CONTEXT_TOKENS, "--parallel", SLOTS, "--threads", 1),
    ]


def tiny(directory):
    file = Path(directory) / "tiny.gguf"
    subprocess.run([sys.executable, HERE / "tiny_gguf.py", file], check=True)
    return file


if __name__ == "__main__":
    print(lacks())
