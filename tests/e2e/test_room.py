"""Room in tokens, and room at both servers of a pair: who finds none waits, and nobody for ever."""

import threading
import time

import httpx
import pytest
from test_queue import ENV, KEYS, MODEL, ask, metric, start, wait, waiting

SLOW = ["--realtime", "--decode-ms", "5"]


def tables(sim, percent, **endpoint):
    endpoint = {"name": "gpu-0", "url": sim.url, "engine": "vllm", "kv_percent_max": percent, **endpoint}
    return {
        "endpoints": [endpoint],
        "models": [{"name": MODEL, "endpoints": ["gpu-0"]}],
        "routing": {"engine_metrics_seconds": 0.05},
        "keys": [{"name": name, "secret": f"env:KEY_{name.upper()}", "explain": True} for name in KEYS],
    }


def expected_tokens(gateway):
    """What each request was expected to take."""
    rows = [row for row in gateway.rows() if row.get("expected_input_tokens")]
    return [row["expected_input_tokens"] + row["expected_output_tokens"] for row in rows]


@pytest.mark.parametrize("told", ["by the file", "by the engine"])
@pytest.mark.parametrize("shards", [1, 2])
def test_no_more_tokens_at_once_than_the_cache_has_room_for(gateways, sims, shards, told):
    # 64 blocks of 16 tokens, of which half may be taken.
    sim = sims(*SLOW, "--kv-blocks", "64")
    more = {"kv_tokens": 1_024, "metrics_path": ""} if told == "by the file" else {}
    gateway = gateways(env=ENV, runtime={"shards": shards}, **tables(sim, 50, **more))
    if not more:
        seen = lambda: "kv_use" in ask(gateway, tokens=1).headers["x-sluice-route"]
        wait(seen)
    results = []
    threads = start(gateway, 16, results, tokens=60, words=60)
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, metric(gateway, "sluice_endpoint_context_tokens"))
        time.sleep(0.005)
    assert [answer.status_code for _, answer, _ in results] == [200] * 16
    wait(lambda: len(gateway.rows()) >= 16)
    largest = max(expected_tokens(gateway))
    # Each shard may send one before it sees what the others have just sent.
    assert largest < most <= 512 + (shards - 1) * largest
    assert any(row.get("queued_ms", 0) > 0 for row in gateway.rows())
    assert waiting(gateway) == 0 and metric(gateway, "sluice_endpoint_context_tokens") == 0


def test_a_bound_of_a_cache_whose_size_nobody_tells_is_none(gateways, sims):
    # A page on which no engine tells of its cache.
    gateway = gateways(env=ENV, **tables(sims(*SLOW), 1, metrics_path="/health"))
    results = []
    for thread in start(gateway, 8, results, words=300):
        thread.join()
    assert [answer.status_code for _, answer, _ in results] == [200] * 8
    assert not any(row.get("queued_ms") for row in gateway.rows())


def test_a_large_request_is_not_overtaken_for_ever(gateways, sims):
    more = {"kv_tokens": 600, "metrics_path": ""}
    gateway = gateways(env=ENV, runtime={"shards": 1}, **tables(sims(*SLOW), 100, **more))
    results, stop = [], threading.Event()

    def small():
        while not stop.is_set():
            results.append(ask(gateway, "heavy", tokens=20, words=100).status_code)

    threads = [threading.Thread(target=small) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait(lambda: waiting(gateway) > 0)
    # One that needs nearly all of it, and one that needs more than there is.
    for words in (400, 1_500):
        answer = ask(gateway, "calm", tokens=20, words=words)
        assert answer.status_code == 200
        assert not stop.is_set() and len(results) > 0
    stop.set()
    for thread in threads:
        thread.join()
    assert set(results) == {200}
    wait(lambda: metric(gateway, "sluice_endpoint_context_tokens") == 0)


def endpoint(name, sim, **more):
    return {"name": name, "url": sim.url, "engine": "vllm", "bootstrap_port": sim.port, **more}


def long(gateway, model, results):
    message = {"role": "user", "content": f"{time.monotonic_ns()} " + "word " * 3_000}
    body = {"model": model, "messages": [message], "max_tokens": 4, "stream": True}
    results.append(httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=60))


def at_once(gateway, asked, watched, others=0):
    """Asks for all of `asked` at once, beside `others`; the most requests that each of `watched` had."""
    results, most = [], dict.fromkeys(watched, 0)
    threads = [threading.Thread(target=long, args=(gateway, model, results)) for model in asked]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics = gateway.admin.metrics()
        for name in watched:
            now = metrics.sum("sluice_endpoint_in_flight", endpoint=name)
            most[name] = max(most[name], now)
        time.sleep(0.005)
    assert [answer.status_code for answer in results] == [200] * len(asked)
    # Rows come a moment after their answers.
    wait(lambda: len(gateway.rows()) == len(asked) + others)
    assert metric(gateway, "sluice_endpoint_places_used") == 0
    return most


PREFILL = ["--realtime", "--prefill-tokens-per-second", "20000", "--decode-ms", "5"]


@pytest.mark.parametrize("shards", [1, 2])
def test_both_servers_of_a_pair_must_have_room(gateways, sims, shards):
    prefill, decode = sims(*PREFILL, "--role", "prefill"), sims(*PREFILL, "--role", "decode")
    sglang = {"engine": "sglang"}
    gateway = gateways(
        runtime={"shards": shards},
        endpoints=[
            endpoint("p0", prefill, requests_max=2, **sglang),
            endpoint("d0", decode, requests_max=4, **sglang),
        ],
        models=[{"name": MODEL, "endpoints": ["d0"]}],
        pairs=[{"model": MODEL, "protocol": "sglang", "prefill": ["p0"]}],
    )
    most = at_once(gateway, [MODEL] * 10, ["p0", "d0"])
    assert 0 < most["p0"] <= 2 and most["d0"] <= 4, most
    assert any(row.get("queued_ms", 0) > 0 for row in gateway.rows())
    # Nobody took a server's place while it waited for the other one.
    assert prefill.counts()["requests_total"] == decode.counts()["requests_total"] == 10
    assert {row["endpoint"] for row in gateway.rows()} == {"d0"}


def test_where_one_server_can_do_all_nobody_waits_for_two(gateways, sims):
    prefill, decode = sims(*PREFILL), sims(*PREFILL)
    gateway = gateways(
        runtime={"shards": 1},
        endpoints=[endpoint("p0", prefill, requests_max=1), endpoint("d0", decode)],
        models=[{"name": MODEL, "endpoints": ["d0"]}],
        pairs=[{"model": MODEL, "protocol": "nixl", "prefill": ["p0"]}],
    )
    most = at_once(gateway, [MODEL] * 8, ["p0"])
    assert most["p0"] <= 1
    rows = gateway.rows()
    assert not any(row.get("queued_ms") for row in rows)
    split = [row for row in rows if row.get("prefill_endpoint")]
    assert 0 < len(split) < 8, rows


def test_models_that_pair_the_same_servers_crosswise_do_not_block_each_other(gateways, sims):
    servers = [sims(*PREFILL), sims(*PREFILL)]
    gateway = gateways(
        runtime={"shards": 1},
        endpoints=[endpoint(f"gpu-{at}", sim, requests_max=1) for at, sim in enumerate(servers)],
        models=[
            {"name": MODEL, "endpoints": ["gpu-0"]},
            {"name": "other", "endpoints": ["gpu-1"], "upstream_model": MODEL},
        ],
        pairs=[
            {"model": MODEL, "protocol": "nixl", "prefill": ["gpu-1"]},
            {"model": "other", "protocol": "nixl", "prefill": ["gpu-0"]},
        ],
    )
    most = at_once(gateway, [MODEL, "other"] * 6, ["gpu-0", "gpu-1"])
    assert most == {"gpu-0": 1, "gpu-1": 1}


def test_a_request_that_goes_elsewhere_holds_no_place_where_it_was_to_go(gateways, sims):
    decode, prefill = sims(*PREFILL), sims(*PREFILL)
    whole = sims("--realtime", "--decode-ms", "20")
    gateway = gateways(
        runtime={"shards": 1},
        endpoints=[
            endpoint("d0", decode, requests_max=1),
            endpoint("p0", prefill),
            endpoint("w0", whole),
        ],
        models=[{"name": MODEL, "endpoints": ["d0"]}],
        pairs=[{"model": MODEL, "protocol": "nixl", "prefill": ["p0"], "whole": ["w0"]}],
    )
    short = {"messages": [{"role": "user", "content": "short"}], "max_tokens": 100, "stream": True}
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json={"model": MODEL, **short}) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data:")
        assert metric(gateway, "sluice_endpoint_in_flight", endpoint="w0") == 1
        assert metric(gateway, "sluice_endpoint_places_used") == 0
        results = []
        long(gateway, MODEL, results)
        assert results[0].status_code == 200 and next(lines) is not None
    wait(lambda: len(gateway.rows()) == 2)
    assert not any(row.get("queued_ms") for row in gateway.rows()), gateway.rows()
