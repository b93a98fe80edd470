"""Reloads: by signal and by change of file, good and bad, and under traffic."""

import asyncio
import copy
import json
import os
import ssl
import time

import httpx
import pytest
from harness import check_counts, check_idle, free_port, wait_for
from harness.certs import Authority

MODEL = "mock-model"
HELLO = [{"role": "user", "content": "Hello"}]
BODY = {"model": MODEL, "messages": HELLO, "max_tokens": 3}
RELOADS = int(os.environ.get("SLUICE_RELOADS", "100"))
STREAMS = int(os.environ.get("SLUICE_RELOAD_STREAMS", "1000"))


def post(gateway, body=BODY):
    return httpx.post(gateway.url + "/v1/chat/completions", json=body, timeout=20)


def reloads(gateway, result):
    return gateway.admin.metrics().sum("sluice_config_reloads_total", result=result)


def test_by_signal(gateways, sims):
    sim = sims()
    gateway = gateways([sim.url])
    config = copy.deepcopy(gateway.config)
    config["models"].append({"name": "second", "endpoints": ["gpu-0"], "upstream_model": MODEL})
    assert post(gateway, {**BODY, "model": "second"}).status_code == 404
    assert gateway.reload(config) == 2
    assert post(gateway, {**BODY, "model": "second"}).status_code == 200
    assert gateway.admin.metrics().sum("sluice_plan_generation") == 4  # two shards
    assert any(line.get("msg") == "configuration accepted" and line["generation"] == "2"
               for line in gateway.log())
    config["models"].pop()
    gateway.reload(config)
    assert post(gateway, {**BODY, "model": "second"}).status_code == 404
    check_counts(gateway, [sim])


def test_by_change_of_file(gateways, sims):
    sim = sims()
    gateway = gateways([sim.url])
    config = copy.deepcopy(gateway.config)
    config["models"][0]["name"] = "renamed"
    config["models"][0]["upstream_model"] = MODEL
    gateway.write(config)
    wait_for(lambda: gateway.generation() == 2, 5, "the reload")
    wait_for(lambda: post(gateway, {**BODY, "model": "renamed"}).status_code == 200, 2, "the plan")
    assert post(gateway).status_code == 404


def test_by_change_of_a_file_behind_it(gateways, sims, tmp_path):
    secret = tmp_path / "key"
    secret.write_text("first-secret\n")
    gateway = gateways([sims().url], keys=[{"name": "k", "secret": f"file:{secret}"}])

    def status(key):
        headers = {"authorization": f"Bearer {key}"}
        return httpx.get(gateway.url + "/v1/models", headers=headers).status_code

    assert (status("first-secret"), status("second-secret")) == (200, 401)
    aside = tmp_path / "key.new"
    aside.write_text("second-secret\n")
    aside.replace(secret)
    wait_for(lambda: status("second-secret") == 200, 5, "the new key")
    assert status("first-secret") == 401


def test_a_signal_without_a_change_is_harmless(gateways, sims):
    gateway = gateways([sims().url])
    for _ in range(5):
        gateway.hangup()
        time.sleep(0.05)
    assert post(gateway).status_code == 200
    assert reloads(gateway, "invalid") == 0


def test_a_bad_file_is_refused_with_every_fault(gateways, sims):
    gateway = gateways([sims().url])
    gateway.expected += ["configuration refused"]
    config = copy.deepcopy(gateway.config)
    config["models"][0]["endpoints"] = ["nowhere"]
    config["limits"] = {"body_bytes_max": -1}
    gateway.write(config)
    gateway.hangup()
    gateway.process.wait_line("configuration refused.*nowhere")
    gateway.process.wait_line("configuration refused.*body_bytes_max")
    lines = [line for line in gateway.log() if line["level"] == "error"]
    assert all(line["kept"] == "1" and str(gateway.file) in line["why"] for line in lines)
    assert reloads(gateway, "invalid") >= 1 and gateway.generation() == 1
    assert post(gateway).status_code == 200
    # Said once, however often it is looked at.
    gateway.hangup()
    time.sleep(1.2)
    assert len([line for line in gateway.log() if line["level"] == "error"]) == len(lines)
    gateway.reload(gateway.config)
    assert post(gateway).status_code == 200


def test_a_file_that_is_gone_or_half_written_is_refused(gateways, sims):
    gateway = gateways([sims().url])
    gateway.expected += ["configuration refused"]
    text = gateway.file.read_text()
    gateway.file.write_text(text[: len(text) // 2] + "[")
    gateway.hangup()
    gateway.process.wait_line("configuration refused")
    gateway.file.unlink()
    gateway.hangup()
    time.sleep(0.3)
    assert post(gateway).status_code == 200 and gateway.admin.readyz()[0] == 200
    gateway.reload(gateway.config)


@pytest.mark.parametrize(
    ("table", "key", "value", "name"),
    [
        ("server", "listen", None, "server.listen"),
        ("admin", "listen", None, "admin.listen"),
        ("runtime", "shards", 1, "runtime.shards"),
        ("runtime", "driver", "auto", "runtime.driver"),
        ("runtime", "ring_entries", 1024, "runtime.ring_entries"),
        ("runtime", "pin", True, "runtime.pin"),
        ("runtime", "tick_milliseconds", 20, "runtime.tick_milliseconds"),
        ("log", "queue_rows_max", 99, "log.queue_rows_max"),
    ],
)
def test_what_needs_a_restart_is_named_and_refused(gateways, sims, table, key, value, name):
    gateway = gateways([sims().url])
    gateway.expected += ["it needs a restart"]
    config = copy.deepcopy(gateway.config)
    config[table][key] = f"127.0.0.1:{free_port()}" if value is None else value
    config["models"].append({"name": "second", "endpoints": ["gpu-0"], "upstream_model": MODEL})
    gateway.write(config)
    gateway.hangup()
    line = gateway.process.wait_line(f"it needs a restart.*{name} ").string
    assert "kept=1" in line
    assert reloads(gateway, "restart_needed") >= 1 and gateway.generation() == 1
    assert post(gateway, {**BODY, "model": "second"}).status_code == 404, "none of it is taken"
    assert post(gateway).status_code == 200


def test_an_endpoint_that_moved_gets_the_next_request(gateways, sims):
    first, second = sims(), sims()
    gateway = gateways([first.url])
    config = copy.deepcopy(gateway.config)
    assert post(gateway).status_code == 200
    config["endpoints"][0]["url"] = second.url
    gateway.reload(config)
    assert post(gateway).status_code == 200
    assert (first.counts()["completed"], second.counts()["completed"]) == (1, 1)
    # Connections to the old address are not kept.
    wait_for(lambda: first.counts()["connections_open"] <= 1, 3, "the old pool to empty")


def test_a_stream_keeps_the_plan_it_began_with(gateways, sims):
    sim = sims("--realtime", "--decode-ms", "10")
    gateway = gateways([sim.url])
    config = copy.deepcopy(gateway.config)
    body = {**BODY, "stream": True, "max_tokens": 150}
    with httpx.stream("POST", gateway.url + "/v1/chat/completions", json=body, timeout=20) as one:
        lines = one.iter_lines()
        next(lines)
        other = sims()
        config["endpoints"][0]["url"] = other.url
        config["models"][0]["name"] = "renamed"
        config["models"][0]["upstream_model"] = MODEL
        gateway.reload(config)
        assert post(gateway, {**BODY, "model": "renamed"}).status_code == 200
        rest = [line for line in lines if line.startswith("data: ")]
    assert rest[-1] == "data: [DONE]" and len(rest) > 150
    row = gateway.row(one.headers["x-request-id"])
    assert row["outcome"] == "completed" and row["generation"] == 1
    assert sim.counts()["completed"] == 1


def test_many_reloads_under_many_streams(gateways, sims, tmp_path):
    """Endpoints, models, limits and certificates change while streams flow: no byte differs."""
    authority = Authority(tmp_path)
    link = tmp_path / "current"
    generations = [authority.issue(f"tls-{at}", "127.0.0.1")[0].parent for at in range(4)]
    os.symlink(generations[0], link)
    # All of it shares two processors: the more streams, the slower each.
    pace = str(max(60, STREAMS // 5))
    arguments = ["--realtime", "--decode-ms", pace, "--decode-ms-per-sequence", "0",
                 "--max-num-seqs", "2000", "--seed", "5"]
    fleet = [sims(*arguments) for _ in range(3)]
    port = free_port()
    tls = {"certificate_file": str(link / "tls.crt"), "key_file": str(link / "tls.key")}
    # A client that makes a thousand handshakes on one thread is slow, not hostile.
    patience = {f"{what}_seconds": 120 for what in ("handshake", "head", "body", "write_stall")}
    gateway = gateways([sim.url for sim in fleet], timeouts=patience,
                       server={"listen": f"127.0.0.1:{port}", "tls": tls})
    verify = ssl.create_default_context(cafile=str(authority.root))
    done = asyncio.Event()

    async def one(at, answers):
        """Streams on one connection until the reloads are over."""
        prompt = at % 8
        body = {**BODY, "stream": True, "seed": prompt, "max_tokens": 60,
                "messages": [{"role": "user", "content": f"prompt {prompt}"}]}
        stream = await Streamer.open(port, verify)
        while not done.is_set():
            answers.append((prompt, await stream.ask(body, f"prompt-{prompt}")))
        await stream.close()

    def change(at):
        """One more configuration: endpoints come, go and move; limits and names change."""
        config = copy.deepcopy(gateway.config)
        config["limits"] = {"json_depth_max": 64 + at % 8}
        keep = [0, 1, 2] if at % 3 == 0 else [0, at % 3]
        config["endpoints"] = [config["endpoints"][n] for n in keep]
        if at % 2:
            config["endpoints"].reverse()
            config["endpoints"][0] = {**config["endpoints"][0], "headers": {"x-turn": str(at)}}
        config["models"][0]["endpoints"] = [e["name"] for e in config["endpoints"]]
        config["models"][0]["policy"] = "least-loaded" if at % 4 < 2 else "round-robin"
        config["models"].append({"name": f"extra-{at}", "endpoints": ["gpu-0"]})
        return config

    async def all_of_it():
        answers = []
        streams = [asyncio.create_task(one(at, answers)) for at in range(STREAMS)]
        wanted = lambda: gateway.admin.metrics().sum("sluice_streams_open") >= STREAMS * 0.9
        await asyncio.to_thread(wait_for, wanted, 60, "the streams to begin")
        for at in range(RELOADS):
            if at % 10 == 0:
                aside = tmp_path / "current.new"
                os.symlink(generations[at // 10 % 4], aside)
                os.replace(aside, link)
            await asyncio.to_thread(gateway.reload, change(at))
            await asyncio.sleep(0.05)
            for ended in (stream for stream in streams if stream.done()):
                ended.result()
        done.set()
        await asyncio.gather(*streams)
        return answers

    answers = asyncio.run(all_of_it())
    assert len(answers) >= STREAMS
    expected = {}
    for prompt, text in answers:
        assert text.endswith("data: [DONE]\n\n")
        bare = strip_times(text)
        assert expected.setdefault(prompt, bare) == bare
    assert len(expected) == 8
    assert gateway.generation() >= RELOADS
    assert set(gateway.admin.metrics().outcomes()) == {"completed"}
    check_idle(gateway)
    check_counts(gateway, fleet)


class Streamer:
    """One connection under TLS and no more than HTTP needs: a thousand must not keep Python busy. It is
    never made anew, so a gateway that closes one is found out."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port, context):
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context,
                                                  ssl_handshake_timeout=120))

    async def ask(self, body, request_id):
        """One whole streamed answer's text."""
        data = json.dumps(body).encode()
        head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                f"content-type: application/json\r\nx-request-id: {request_id}\r\n"
                f"content-length: {len(data)}\r\n\r\n")
        self.writer.write(head.encode() + data)
        async with asyncio.timeout(120):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200 "), head
            assert b"\r\ntransfer-encoding: chunked\r\n" in head, head
            parts = []
            while (size := int(await self.reader.readline(), 16)) > 0:
                parts.append((await self.reader.readexactly(size + 2))[:-2])
            assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(parts).decode()

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()


def strip_times(text):
    """The answer without the one field that tells when it was made."""
    import re

    return re.sub(r'"created":\d+', '"created":0', text)
