"""The admin listener, the access log and the usage log."""

import httpx
import pytest
from harness import Sim, wait_for
from prometheus_client.parser import text_string_to_metric_families

MODEL = "mock-model"
HELLO = [{"role": "user", "content": "Hello"}]
BODY = {"model": MODEL, "messages": HELLO, "max_tokens": 4}
TOKEN = "admin-token-0123456789"


def post(gateway, body=BODY, **more):
    return httpx.post(gateway.url + "/v1/chat/completions", json=body, timeout=20, **more)


def test_healthz(stack):
    assert stack.admin.healthz() == (200, {"status": "ok"})


def test_other_pages_and_methods(stack):
    assert stack.admin.get("/nothing")[0] == 404
    assert httpx.post(stack.admin.url + "/metrics").status_code == 405
    assert httpx.head(stack.admin.url + "/healthz").status_code == 200


def test_foreign_host_names_are_refused(stack):
    """Else a web page could read it through a name that resolves to 127.0.0.1."""
    answer = httpx.get(stack.admin.url + "/metrics", headers={"host": "evil.example:9090"})
    assert answer.status_code == 403


def test_readyz(stack):
    status, body = stack.admin.readyz()
    assert status == 200 and body["ready"] and all(body["conditions"].values())
    assert body["models"][MODEL]["state"] == "servable"
    assert stack.admin.readyz(MODEL)[0] == 200
    assert stack.admin.readyz("unknown")[0] == 404
    assert stack.admin.readyz("")[0] == 404
    assert stack.admin.get("/readyz?model=a&model=b")[0] == 400
    assert stack.admin.get("/readyz?modell=mock-model")[0] in (200, 400)


def test_what_engines_say_of_themselves_is_shown_while_it_is_fresh(gateways):
    sim = Sim("--kv-blocks", "512")
    silent = {"name": "silent", "url": sim.url, "engine": "vllm", "metrics_path": ""}
    telling = {"name": "telling", "url": sim.url, "engine": "vllm"}
    models = [{"name": MODEL, "endpoints": ["telling", "silent"]}]
    routing = {"engine_metrics_seconds": 0.1}
    gateway = gateways([], endpoints=[telling, silent], models=models, routing=routing)

    def shown(name, endpoint="telling"):
        found = [
            value
            for sample, labels, value in gateway.admin.metrics().samples
            if sample == f"sluice_engine_{name}" and labels == {"endpoint": endpoint}
        ]
        return found[0] if found else None

    body = {**BODY, "messages": [{"role": "user", "content": "say it again " * 100}]}
    for _ in range(2):
        assert post(gateway, body).status_code == 200
    wait_for(lambda: shown("prefix_hits_total"), what="the engine's hits")
    assert shown("prefix_queries_total") > shown("prefix_hits_total") > 0
    assert (shown("requests_running"), shown("requests_waiting")) == (0, 0)
    assert (shown("kv_tokens"), shown("kv_block_tokens")) == (512 * 16, 16)
    assert 0 <= shown("kv_use") <= 1
    assert shown("kv_tokens", "silent") is None
    sim.stop()
    wait_for(lambda: shown("kv_tokens") is None, what="what it said is stale")


def test_metrics_parse_and_are_consistent(stack):
    for stream in (False, True):
        assert post(stack.gateway, {**BODY, "stream": stream}).status_code == 200
    assert post(stack.gateway, {**BODY, "model": "none"}).status_code == 404
    answer = httpx.get(stack.admin.url + "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    for name in (
        "sluice_requests",
        "sluice_requests_in_flight",
        "gen_ai_client_token_usage",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
        "gen_ai_server_request_duration_seconds",
        "sluice_event_gap_seconds",
        "sluice_overhead_seconds",
        "sluice_stage_seconds",
        "sluice_connections_open",
        "sluice_streams_open",
        "sluice_pool_connections",
        "sluice_ledger_issued",
        "sluice_driver",
        "sluice_shard_busy_seconds",
        "sluice_plan_generation",
        "process_resident_memory_bytes",
    ):
        assert name in families and families[name].samples, name
        assert families[name].documentation, name
    for family in families.values():
        if family.type == "histogram":
            check_histogram(family)
        seen = {(s.name, tuple(sorted(s.labels.items()))) for s in family.samples}
        assert len(seen) == len(family.samples), f"{family.name} has a series twice"


def check_histogram(family):
    """Buckets grow, and the last one is the count."""
    series = {}
    for sample in family.samples:
        labels = {k: v for k, v in sample.labels.items() if k != "le"}
        one = series.setdefault(tuple(sorted(labels.items())), {"buckets": []})
        if sample.name.endswith("_bucket"):
            one["buckets"].append((float(sample.labels["le"]), sample.value))
        else:
            one[sample.name.rsplit("_", 1)[1]] = sample.value
    for labels, one in series.items():
        values = [value for _, value in sorted(one["buckets"])]
        assert values == sorted(values), (family.name, labels)
        assert sorted(one["buckets"])[-1] == (float("inf"), one["count"])
        assert one["sum"] >= 0


def test_labels_come_from_the_configuration_only(stack):
    for name in ("stranger-1", 'evil"} 1\nx{', "x" * 500):
        assert post(stack.gateway, {**BODY, "model": name}).status_code == 404
    text = stack.admin.metrics().text
    assert "stranger-1" not in text and "evil" not in text and "xxxx" not in text


def test_the_number_of_series_does_not_grow_with_requests(stack):
    before = len(stack.admin.metrics().samples)
    for at in range(30):
        post(stack.gateway, {**BODY, "model": f"m{at}"})
        post(stack.gateway)
    assert len(stack.admin.metrics().samples) == before


def test_lifecycle_names_every_kind(stack):
    lifecycle = stack.admin.lifecycle()
    assert lifecycle["balanced"] and len(lifecycle["shards"]) == 2
    kinds = {"connection", "turn", "plan_pin", "usage_row", "body_bytes", "model_slot",
             "upstream_stream", "upstream_connection", "stream_buffer", "retry", "spend"}
    assert kinds <= set(lifecycle["sum"])
    wait_for(lambda: stack.admin.lifecycle()["sum"]["turn"]["issued"] > 0, 2, "turns")


def test_an_access_row_says_what_happened(stack):
    before = len(stack.gateway.rows())
    answer = post(stack.gateway, {**BODY, "stream": True}, headers={"x-request-id": "row-1"})
    row = stack.gateway.row("row-1")
    assert len(stack.gateway.rows()) > before
    assert row["status"] == 200 and row["outcome"] == "completed" and row["method"] == "POST"
    assert row["operation"] == "chat" and row["model"] == MODEL and row["client"] == "127.0.0.1"
    assert row["endpoint"] in ("gpu-0", "gpu-1") and row["attempts"] == 1 and row["streamed"]
    assert row["output_tokens"] == 4 and row["finish"] == "length"
    assert row["response_bytes"] >= len(answer.content) and row["request_bytes"] > 50
    assert 0 <= row["first_token_ms"] <= row["duration_ms"]
    assert row["overhead_us"] / 1000 <= row["duration_ms"]
    assert stack.gateway.row("row-1", "usage")["output_tokens"] == 4


def test_a_refused_request_has_a_row_and_no_usage_row(stack):
    post(stack.gateway, {**BODY, "model": "none"}, headers={"x-request-id": "row-2"})
    row = stack.gateway.row("row-2")
    assert row["status"] == 404 and row["outcome"] == "refused" and row["error"] == "model_not_found"
    assert not [one for one in stack.gateway.rows("usage") if one.get("request_id") == "row-2"]


def test_requests_that_are_no_requests_are_counted(stack):
    import socket

    before = sum(stack.admin.metrics().outcomes().values())
    with socket.create_connection(("127.0.0.1", stack.gateway.port), 5) as raw:
        raw.sendall(b"NONSENSE\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 400")
    wait_for(lambda: sum(stack.admin.metrics().outcomes().values()) == before + 1, 2, "the count")


def test_a_token_is_asked_for(gateways, sims):
    gateway = gateways([sims().url], admin={"token": "env:ADMIN"}, env={"ADMIN": TOKEN}, token=TOKEN)
    assert gateway.admin.healthz()[0] == 200
    for value in (None, "Bearer wrong", TOKEN, f"Basic {TOKEN}"):
        headers = {"authorization": value} if value else {}
        answer = httpx.get(gateway.admin.url + "/metrics", headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"


def test_off_loopback_with_a_token(gateways, sims):
    from harness import free_port

    listen = f"0.0.0.0:{free_port()}"
    gateway = gateways([sims().url], admin={"listen": listen, "token": "env:ADMIN"},
                       env={"ADMIN": TOKEN}, token=TOKEN)
    assert gateway.admin.readyz()[0] == 200
    assert httpx.get(gateway.admin.url + "/healthz").status_code == 401


def test_readiness_follows_the_endpoints(gateways, sims):
    first, second = sims(), sims()
    gateway = gateways(
        [first.url, second.url],
        models=[
            {"name": "a", "endpoints": ["gpu-0"], "upstream_model": MODEL},
            {"name": "b", "endpoints": ["gpu-1"], "upstream_model": MODEL},
        ],
    )
    gateway.expected += ["endpoint is down"]
    assert [gateway.admin.readyz(name)[0] for name in (None, "a", "b")] == [200, 200, 200]
    first.process.kill()
    wait_for(lambda: gateway.admin.readyz("a")[0] == 503, 15, "the probe")
    assert [gateway.admin.readyz(name)[0] for name in (None, "b")] == [200, 200]
    assert gateway.admin.readyz()[1]["models"]["a"]["state"] == "down"
    second.process.kill()
    wait_for(lambda: gateway.admin.readyz()[0] == 503, 15, "the other probe")
    assert gateway.admin.healthz()[0] == 200, "a gateway without servers is alive"


def test_logs_are_reopened_on_hangup(gateways, sims):
    gateway = gateways([sims().url])
    post(gateway, headers={"x-request-id": "before"})
    gateway.row("before")
    path = gateway.directory / "access.jsonl"
    path.rename(path.with_suffix(".1"))
    gateway.reload()
    post(gateway, headers={"x-request-id": "after"})
    assert gateway.row("after")["outcome"] == "completed"
    assert "after" not in path.with_suffix(".1").read_text()


@pytest.mark.parametrize("access", ["off", "stdout"])
def test_other_sinks(gateways, sims, access):
    gateway = gateways([sims().url], log={"access": access, "usage": "off"})
    assert post(gateway, headers={"x-request-id": "sunk"}).status_code == 200
    if access == "stdout":
        assert '"sunk"' in gateway.process.wait_line("sunk", "stdout").string
    gateway.stop()
    assert access == "stdout" or not gateway.process.stdout
