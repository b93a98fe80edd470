"""On whatever way an isolated request comes to an engine, it carries its tenant's salt, and who would pass
over the salt gets none."""

import time

import httpx
import pytest
from harness import json_answer, wait_for
from harness.upstream import ANSWER
from test_isolation import ENV, KEYS, ROUTING, bearer, cached, post
from test_kv_events import metric, settled, telling
from test_routing import MODEL, conversation, fresh

HELLO = [{"role": "user", "content": "Hello"}]
BODY = {"model": MODEL, "messages": HELLO, "max_tokens": 2}
KEPT = {**ANSWER, "kv_transfer_params": {"remote_engine_id": "p", "remote_block_ids": [1]}}
OPEN_KEYS = [{**key, "isolate": False} for key in KEYS]


@pytest.fixture
def ways(gateways):
    """Makes gateways over named upstreams; one whose name begins with `blind` is not known to honour salts."""

    def make(ends, **more):
        protocols = {table["protocol"] for table in more.get("pairs", [])}
        engine = "sglang" if "sglang" in protocols else "vllm"
        endpoints = [
            {
                "name": name,
                "url": upstream.url,
                "engine": "generic" if name.startswith("blind") else engine,
                "metrics_path": "",
            }
            for name, upstream in ends.items()
        ]
        more = {"keys": KEYS, "routing": ROUTING, "runtime": {"shards": 1}, **more}
        return gateways([], env=ENV, endpoints=endpoints, **more)

    return make


def bodies(upstream):
    return [one.json() for one in upstream.requests if one.method == "POST"]


def salts(upstream):
    return {body.get("cache_salt") for body in bodies(upstream)}


def pair(protocol, prefill, **more):
    return [{"model": MODEL, "protocol": protocol, "prefill": prefill, **more}]


def model(*endpoints, name=MODEL, **more):
    return {"name": name, "endpoints": list(endpoints), "policy": "round-robin", **more}


def asked(gateway, key, status=200, **more):
    answer = post(gateway, key, {**BODY, **more})
    assert answer.status_code == status, answer.text
    return answer


def test_both_legs_of_a_nixl_pair_carry_it(ways, upstreams):
    ends = {"p0": upstreams(lambda _: json_answer(KEPT)), "blind-p": upstreams(), "d0": upstreams()}
    pairs = pair("nixl", ["blind-p", "p0"], uncached_tokens_min=0)
    gateway = ways(ends, models=[model("d0")], pairs=pairs)
    for _ in range(4):
        asked(gateway, "KEY_A")
    assert not bodies(ends["blind-p"])
    assert len(bodies(ends["p0"])) == 4 == len(bodies(ends["d0"]))
    assert [body["kv_transfer_params"] for body in bodies(ends["d0"])] == 4 * [
        KEPT["kv_transfer_params"]
    ]
    assert salts(ends["p0"]) == salts(ends["d0"]) and len(salts(ends["d0"])) == 1
    assert len(salts(ends["d0"]).pop()) == 64


def test_both_legs_of_an_sglang_pair_carry_it(ways, upstreams):
    prefill = upstreams()

    def decode(_):
        # As a real one, it has nothing to say before the other one was asked, too.
        wait_for(lambda: len(bodies(prefill)) == len(bodies(ends["d0"])), 10, "the other leg")
        return json_answer(ANSWER)

    ends = {"p0": prefill, "blind-p": upstreams(), "d0": upstreams(decode)}
    gateway = ways(ends, models=[model("d0")], pairs=pair("sglang", ["blind-p", "p0"]))
    for _ in range(4):
        asked(gateway, "KEY_A")
    assert not bodies(ends["blind-p"])
    assert {body["bootstrap_room"] for body in bodies(ends["p0"])} == {
        body["bootstrap_room"] for body in bodies(ends["d0"])
    }
    assert salts(ends["p0"]) == salts(ends["d0"]) and len(salts(ends["d0"])) == 1
    assert len(salts(ends["d0"]).pop()) == 64


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_a_pair_that_cannot_keep_it_apart_refuses_it(ways, upstreams, protocol):
    ends = {
        "blind-p": upstreams(lambda _: json_answer(KEPT)),
        "blind-w": upstreams(),
        "d0": upstreams(),
    }
    pairs = pair(protocol, ["blind-p"], whole=["blind-w"], uncached_tokens_min=0)
    gateway = ways(ends, models=[model("d0")], pairs=pairs)
    answer = asked(gateway, "KEY_A", status=400)
    assert "isolated tenants" in answer.text
    assert not any(bodies(upstream) for upstream in ends.values())
    asked(gateway, "KEY_OPEN")
    assert salts(ends["d0"]) == {None}


def test_a_pair_falls_back_on_those_alone_that_keep_it_apart(ways, upstreams):
    failures = [json_answer({"error": {"message": "later"}}, "503 Service Unavailable")]
    decode = upstreams(lambda _: failures.pop() if failures else json_answer(ANSWER))
    ends = {
        "p0": upstreams(lambda _: json_answer(KEPT)),
        "d0": decode,
        "blind-w": upstreams(),
    }
    pairs = pair("nixl", ["p0"], whole=["blind-w"], uncached_tokens_min=0)
    gateway = ways(ends, models=[model("d0")], pairs=pairs)
    asked(gateway, "KEY_A")
    assert len(bodies(decode)) == 2 and not bodies(ends["blind-w"])
    assert salts(ends["p0"]) == salts(decode) and len(salts(decode)) == 1


def test_a_second_attempt_carries_it_too(ways, upstreams):
    refusal = json_answer({"error": {"message": "no"}}, "503 Service Unavailable")
    failing = upstreams(lambda _: refusal)
    ends = {"a0": failing, "a1": upstreams(), "blind": upstreams()}
    gateway = ways(ends, models=[model("a0", "a1", "blind")])
    for _ in range(4):
        asked(gateway, "KEY_A")
    assert bodies(failing) and not bodies(ends["blind"])
    assert salts(failing) == salts(ends["a1"]) and len(salts(failing)) == 1
    assert len(salts(failing).pop()) == 64


def copies(gateway, result):
    return gateway.admin.metrics().sum("sluice_shadow_requests_total", result=result)


def test_a_copy_carries_its_request_s(ways, upstreams):
    ends = {"a0": upstreams(), "n0": upstreams()}
    models = [model("a0", isolate=True), model("n0", name="next")]
    shadows = [{"model": MODEL, "copy_to": "next"}]
    gateway = ways(ends, models=models, shadows=shadows, keys=OPEN_KEYS)
    for key in ("KEY_A", "KEY_B", "KEY_A"):
        asked(gateway, key)
    wait_for(lambda: len(bodies(ends["n0"])) == 3, 10, "the copies")
    assert salts(ends["n0"]) == salts(ends["a0"]) and len(salts(ends["a0"])) == 2
    asked(gateway, "KEY_A", model="next")
    assert None in salts(ends["n0"]), "the other model itself isolates nobody"


def test_where_no_shadow_keeps_it_apart_there_is_no_copy(ways, upstreams):
    ends = {"a0": upstreams(), "blind": upstreams()}
    models = [model("a0"), model("blind", name="next")]
    gateway = ways(ends, models=models, shadows=[{"model": MODEL, "copy_to": "next"}])
    for _ in range(3):
        asked(gateway, "KEY_A")
    asked(gateway, "KEY_OPEN")
    wait_for(lambda: bodies(ends["blind"]), 10, "the open request's copy")
    assert copies(gateway, "sent") == 1 and salts(ends["blind"]) == {None}
    assert gateway.admin.metrics().sum("sluice_shadow_requests_total") == 1


def test_of_a_split_only_the_isolating_arm_s_requests_carry_it(ways, upstreams):
    ends = {"a0": upstreams(), "b0": upstreams()}
    models = [model("a0", name="a", isolate=True), model("b0", name="b")]
    arms = [{"model": name, "weight": 1} for name in "ab"]
    splits = [{"name": "ab", "stick": "session", "arms": arms}]
    gateway = ways(ends, models=models, splits=splits, keys=OPEN_KEYS)
    for session in range(24):
        headers = bearer("KEY_A", **{"x-session-id": str(session)})
        body = {**BODY, "model": "ab"}
        url = f"{gateway.url}/v1/chat/completions"
        assert httpx.post(url, json=body, headers=headers, timeout=20).status_code == 200
    assert salts(ends["b0"]) == {None}
    assert len(salts(ends["a0"])) == 1 and len(salts(ends["a0"]).pop()) == 64


def test_an_engine_s_word_is_told_apart_by_salts(gateways):
    """Servers whose cache holds a few conversations: what was pushed out is not expected any more."""
    worlds = [telling("--kv-blocks", "512"), telling("--kv-blocks", "512")]
    endpoints = [
        {"name": f"gpu-{at}", "url": sim.url, **table} for at, (sim, table) in enumerate(worlds)
    ]
    models = [{"name": MODEL, "endpoints": ["gpu-0", "gpu-1"]}]
    more = {"keys": KEYS, "routing": ROUTING, "models": models, "runtime": {"shards": 1}}
    gateway = gateways([], env=ENV, endpoints=endpoints, **more)
    # Listening begins when it begins: only then is the first message the first.
    time.sleep(1.5)
    prompts = [conversation(fresh(), 3) for _ in range(12)]
    for at, messages in enumerate(prompts, 1):
        cached(gateway, "KEY_A", messages)
        settled(gateway, at)
    assert metric(gateway, "sluice_kv_orphan_blocks_total") == 0
    off = []
    for at, messages in enumerate(prompts, len(prompts) + 1):
        got, expected = cached(gateway, "KEY_A", messages)
        off.append(expected - got)
        settled(gateway, at)
    assert max(off) < 300, off
    for sim, _ in worlds:
        sim.stop()
