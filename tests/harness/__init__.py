"""What the socket tests share: processes, ports, configurations, and clients of both admin sides.

Everything here drives the real binaries over real sockets. Nothing knows a driver or a port by
heart: a test asks for a `Gateway` and gets one on free ports, with a configuration of its own.
"""

from .admin import Admin, Metrics
from .checks import check_counts, check_idle, check_process, settle, wait_for
from .config import base_config, toml_text
from .gateway import Gateway
from .ports import free_port
from .process import Process, binary
from .sim import Sim
from .stack import Stack
from .upstream import Upstream, json_answer

__all__ = [
    "Admin",
    "Gateway",
    "Metrics",
    "Process",
    "Sim",
    "Stack",
    "Upstream",
    "base_config",
    "binary",
    "check_counts",
    "check_idle",
    "check_process",
    "free_port",
    "json_answer",
    "settle",
    "toml_text",
    "wait_for",
]
