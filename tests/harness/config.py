"""Configuration files from plain dictionaries."""

import json


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which no test uses.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_scalar(k)} = {_scalar(v)}" for k, v in value.items()) + " }"
    raise TypeError(f"{value!r}")


def _table(out, name, table):
    """Scalars first, then `tls`, the only table within a table; other dictionaries stay inline."""
    out += [f"{key} = {_scalar(value)}" for key, value in table.items() if key != "tls"]
    if "tls" in table:
        out.append(f"[{name}.tls]")
        _table(out, name + ".tls", table["tls"])


def toml_text(config):
    """The file for `config`: dictionaries are tables, lists of dictionaries are arrays of tables."""
    out = []
    for name, value in config.items():
        for table in value if isinstance(value, list) else [value]:
            out.append(f"[[{name}]]" if isinstance(value, list) else f"[{name}]")
            _table(out, name, table)
    return "\n".join(out) + "\n"


def base_config(driver, port, admin_port, urls, directory, engine="vllm", **more):
    """One model over `urls`, which run `engine`, two shards, both logs in `directory`. `more` replaces or adds tables."""
    endpoints = [
        {"name": f"gpu-{at}", "url": url, "engine": engine} for at, url in enumerate(urls)
    ]
    config = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "admin": {"listen": f"127.0.0.1:{admin_port}"},
        "runtime": {"shards": 2, "driver": driver, "pin": False},
        "log": {"access": f"file:{directory}/access.jsonl", "usage": f"file:{directory}/usage.jsonl"},
        "endpoints": endpoints,
        "models": [
            {
                "name": "mock-model",
                "endpoints": [endpoint["name"] for endpoint in endpoints],
                "policy": "round-robin",
            },
        ],
    }
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            config[name] = {**config[name], **value}
        else:
            config[name] = value
    return config
