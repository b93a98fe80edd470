"""The command line, as an operator meets it."""

import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from harness import Process, base_config, binary, free_port, toml_text
from harness.process import ROOT


def run(*arguments, env=None, timeout=30):
    return subprocess.run(
        [binary("sluice"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )


def check(tmp_path, text, env=None):
    file = tmp_path / "sluice.toml"
    file.write_text(text if isinstance(text, str) else toml_text(text))
    return run("check", "--config", file, env=env), file


def good(**more):
    return base_config("auto", free_port(), free_port(), ["http://127.0.0.1:9001"], "/tmp", **more)


def test_version():
    done = run("--version")
    assert done.returncode == 0 and re.fullmatch(r"sluice \d+\.\d+\.\d+\n", done.stdout)


def test_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    for command in ("serve", "check", "quickstart"):
        assert re.search(rf"^\s+{command}\s", done.stdout, re.M)


def test_the_annotated_configuration_is_valid():
    done = run("check", "--config", ROOT / "config" / "sluice.toml")
    assert done.returncode == 0 and 'mock-model' in done.stdout and done.stderr == ""


def test_the_least_configuration_is_valid(tmp_path):
    text = """
[server]
listen = "127.0.0.1:8080"
[admin]
listen = "127.0.0.1:9090"
[runtime]
shards = 1            # or "auto": one for each CPU the process may use (cgroup set and quota)
driver = "auto"       # "uring" | "epoll"
[[endpoints]]
name = "gpu-0"
url = "http://127.0.0.1:9001"
engine = "vllm"
[[models]]
name = "mock-model"
endpoints = ["gpu-0"]
policy = "round-robin"
"""
    done, _ = check(tmp_path, text)
    assert done.returncode == 0, done.stderr


def test_every_error_at_once_with_its_place_and_fix(tmp_path):
    text = """[server]
listen = "127.0.0.1:8080"
lisen = 7
[runtime]
driver = "kqueue"
[limits]
body_bytes_max = -1
[[endpoints]]
name = "gpu-0"
url = "ftp://127.0.0.1"
engine = "vllm"
api_key = "sk-plain-secret-value"
[[models]]
name = "m"
endpoints = ["gpu-7"]
[[keys]]
name = "k"
secret = "env:SLUICE_TEST_NOT_SET"
"""
    done, file = check(tmp_path, text)
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.strip().splitlines()
    for line in lines:
        assert re.match(rf"{re.escape(str(file))}:\d+:\d+: .+: .+", line), line
    places = {int(line[len(str(file)) + 1 :].split(":")[0]) for line in lines}
    assert {3, 5, 7, 10, 12, 15, 18} <= places, done.stderr
    assert "sk-plain-secret-value" not in done.stderr


def test_faults_of_several_tables_come_together_and_no_others(tmp_path):
    config = good()
    config["models"] = [
        {"name": "a", "endpoints": ["gpu-0"], "policy": "fastest"},
        {"name": "b", "endpoints": ["gpu-0", "gpu-1"]},
    ]
    config["aliases"] = [{"name": "x", "model": "a"}, {"name": "y", "model": "x"}]
    config["pairs"] = [{"model": "b", "protocol": "sglang", "prefill": ["gpu-0"]}]
    config["shadows"] = [{"model": "a", "copy_to": "c"}]
    done, _ = check(tmp_path, config)
    assert done.returncode == 1
    faults = [
        '"fastest" is not a known `policy`',
        'there is no endpoint "gpu-1": add [[endpoints]]',
        '"x" is an alias: name "a", which it stands for',
        "`prefill` names an endpoint of the model itself",
        '"gpu-0" runs vllm, which does no half of a request by "sglang"',
        'there is no model "c": add [[models]]',
    ]
    for fault in faults:
        assert fault in done.stderr, fault
    # The endpoint's engine is wrong at both ends of the pair.
    assert len(done.stderr.splitlines()) == len(faults) + 1, done.stderr


def test_what_cannot_be_seen_from_the_file_is_noted(tmp_path):
    config = good()
    config["endpoints"][0].update(engine="sglang", kv_percent_max=90)
    config["models"][0].update(policy="random", hash_header="x-user")
    done, _ = check(tmp_path, config)
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stdout.splitlines() if line.startswith("  note: ")]
    assert len(notes) == 2 and "--enable-metrics" in notes[0] and "hash_header" in notes[1], notes


def test_syntax_errors_have_a_place(tmp_path):
    done, file = check(tmp_path, "[server\nlisten = 1\n")
    assert done.returncode == 1 and done.stderr.startswith(f"{file}:1:")


def test_a_missing_file(tmp_path):
    for command in ("check", "serve"):
        done = run(command, "--config", tmp_path / "none.toml")
        assert done.returncode == 1 and "none.toml" in done.stderr


def test_serve_refuses_a_bad_file_before_it_serves(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("[server]\nlisten = 'x'\n")
    done = run("serve", "--config", file)
    assert done.returncode == 1 and f"{file}:2:10: " in done.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0", "[::]", "192.0.2.1"])
def test_off_loopback_without_keys_is_refused(tmp_path, listen):
    config = good(server={"listen": f"{listen}:8080"})
    done, _ = check(tmp_path, config)
    assert done.returncode == 1 and "without [[keys]]" in done.stderr
    config["server"]["open_access"] = "yes"
    done, _ = check(tmp_path, config)
    assert done.returncode == 1
    config["server"]["open_access"] = "anyone who reaches this port may use it"
    done, _ = check(tmp_path, config)
    assert done.returncode == 0, done.stderr
    del config["server"]["open_access"]
    config["keys"] = [{"name": "k", "secret": "env:A_KEY"}]
    done, _ = check(tmp_path, config, {"A_KEY": "0123456789abcdef"})
    assert done.returncode == 0, done.stderr
    assert "0123456789abcdef" not in done.stdout


def test_admin_off_loopback_without_a_token_is_refused(tmp_path):
    config = good(admin={"listen": "0.0.0.0:9090"})
    done, _ = check(tmp_path, config)
    assert done.returncode == 1 and "token" in done.stderr
    config["admin"]["token"] = "env:ADMIN"
    done, _ = check(tmp_path, config, {"ADMIN": "0123456789abcdef"})
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_is_explained():
    done = run("sevre")
    assert done.returncode == 2 and "serve" in done.stderr


def test_a_second_gateway_on_the_port_is_refused(driver, gateways):
    gateway = gateways(["http://127.0.0.1:9"])
    gateway.expected += ["endpoint is down"]
    again = subprocess.run(gateway.process.argv, capture_output=True, text=True, timeout=20)
    assert again.returncode == 1
    assert f"{gateway.config['server']['listen']} is taken" in again.stderr
    other = {**gateway.config, "server": {"listen": f"0.0.0.0:{gateway.port}",
             "open_access": "anyone who reaches this port may use it"},
             "admin": {"listen": f"127.0.0.1:{free_port()}"}}
    file = gateway.directory / "other.toml"
    file.write_text(toml_text(other))
    again = run("serve", "--config", file)
    assert again.returncode == 1, "the same port on every address is the same port"
    assert gateway.admin.healthz()[0] == 200


def test_a_port_that_another_program_has_is_refused(driver, gateways):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as held:
        listen = f"127.0.0.1:{held.getsockname()[1]}"
        gateway = gateways(["http://127.0.0.1:9"], start=False, server={"listen": listen})
        process = gateway.launch()
        assert process.wait(20) == 1
        assert "is taken" in "\n".join(process.stderr)
        gateway.process = None


def test_an_admin_port_that_is_taken_stops_it(driver, gateways):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as held:
        listen = f"127.0.0.1:{held.getsockname()[1]}"
        gateway = gateways(["http://127.0.0.1:9"], start=False, admin={"listen": listen})
        process = gateway.launch()
        assert process.wait(20) == 1
        assert listen in "\n".join(process.stderr), process.stderr
        gateway.process = None


@pytest.fixture(scope="module", params=[["quickstart"], []], ids=["quickstart", "no arguments"])
def quickstart(request):
    process = Process([binary("sluice"), *request.param])
    try:
        process.wait_line(r"^Metrics: ", "stdout")
        yield "\n".join(process.stdout)
        process.signal(signal.SIGINT)
        assert process.wait(30) == 0, process.stderr
    finally:
        process.kill()


def test_quickstarts_curl_line_works_as_pasted(quickstart):
    line = re.search(r"^curl .*$", quickstart, re.M).group()
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    events = [line for line in done.stdout.splitlines() if line]
    assert events[-1] == "data: [DONE]" and len(events) > 40


def test_quickstarts_python_works_as_pasted(quickstart):
    snippet = re.search(r"^from openai.*?^    print\(.*?$", quickstart, re.M | re.S).group()
    done = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 20


def test_quickstarts_admin_works(quickstart):
    metrics, health = re.search(r"Metrics: (\S+)\s+Health: (\S+)", quickstart).groups()
    for url, word in ((metrics, "sluice_requests_total"), (health, '"ready":true')):
        done = subprocess.run(["curl", "-sf", url], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and word in done.stdout


def test_quickstart_ends_with_its_terminal():
    process = Process([binary("sluice"), "quickstart"])
    try:
        process.wait_line(r"^Sluice listens", "stdout")
        process.signal(signal.SIGHUP)
        assert process.wait(30) == 0, process.stderr
    finally:
        process.kill()


@pytest.mark.parametrize("arguments", [["quickstart"], ["check", "--config", ROOT / "config" / "sluice.toml"]],
                         ids=["quickstart", "check"])
def test_what_cannot_be_printed_is_a_failure(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run([binary("sluice"), *map(str, arguments)],
                              stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1, done
    assert "standard output: " in done.stderr and "panicked" not in done.stderr, done.stderr


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_heard_from_the_beginning(driver, gateways, first):
    gateway = gateways(["http://127.0.0.1:9"], start=False)
    process = gateway.launch()
    process.wait_line("msg=listening")
    process.signal(first)
    if first == signal.SIGHUP:
        gateway.wait_serving()
        process.signal(signal.SIGTERM)
    assert process.wait(40) == 0, process.stderr
    gateway.process = None


def test_a_reader_that_stops_reading_the_access_log_stops_nobody(driver, gateways, sims):
    """Rows on standard output that nobody reads are dropped and counted."""
    import httpx

    gateway = gateways([sims().url], start=False, log={"access": "stdout", "usage": "off", "queue_rows_max": 64})
    read, write = os.pipe()
    process = subprocess.Popen(
        [binary("sluice"), "serve", "--config", gateway.file], stdout=write, stderr=subprocess.PIPE
    )
    try:
        threading.Thread(target=process.stderr.read, daemon=True).start()
        os.close(write)
        from harness import wait_for

        def up():
            try:
                return gateway.admin.readyz()[0] == 200
            except OSError:
                return False

        wait_for(up, 20, "readiness")
        body = {"model": "mock-model", "max_tokens": 1, "messages": []}
        with httpx.Client(base_url=gateway.url, timeout=20) as client:
            for _ in range(1_500):
                assert client.post("/v1/chat/completions", json=body).status_code == 200
        metrics = gateway.admin.metrics()
        assert metrics.sum("sluice_access_rows_total", result="dropped") > 0
        assert gateway.admin.healthz()[0] == 200
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(read)
