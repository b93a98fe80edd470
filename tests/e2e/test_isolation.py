"""Tenants that share no engine's cache, and those that do."""

import json

import httpx
import pytest
from harness import Upstream, json_answer, wait_for
from harness.upstream import ANSWER
from test_routing import MODEL, conversation, fresh

ENV = {
    "ISOLATION": "a secret that nobody can guess",
    "KEY_A": "key-of-tenant-a",
    "KEY_B": "key-of-tenant-b",
    "KEY_OPEN": "key-without-isolation",
}
KEYS = [
    {"name": "a", "secret": "env:KEY_A", "isolate": True},
    {"name": "b", "secret": "env:KEY_B", "isolate": True},
    {"name": "open", "secret": "env:KEY_OPEN"},
]
ROUTING = {"isolation_secret": "env:ISOLATION", "tenant_header": "x-tenant"}
MODELS = [{"name": MODEL, "endpoints": ["gpu-0"]}]


@pytest.fixture
def isolating(gateways):
    def make(urls, **more):
        more = {"keys": KEYS, "routing": ROUTING, "models": MODELS, **more}
        return gateways(urls, env=ENV, **more)

    return make


def bearer(key, **more):
    return {"authorization": f"Bearer {ENV[key]}", **more}


def asked(upstream):
    """What clients asked, and not Sluice itself."""
    return [request for request in upstream.requests if request.method == "POST"]


def post(gateway, key, body, path="/v1/chat/completions", **headers):
    return httpx.post(gateway.url + path, json=body, headers=bearer(key, **headers), timeout=20)


def cached(gateway, key, messages, path="/v1/chat/completions", salt=None, **headers):
    """Tokens that the engine had cached of a prompt, and that it was expected to have."""
    body = {"model": MODEL, "messages": messages, "max_tokens": 2}
    if salt is not None:
        body["cache_salt"] = salt
    answer = post(gateway, key, body, path, **headers)
    assert answer.status_code == 200, answer.text
    row = gateway.row(answer.headers["x-request-id"])
    return row["cached_tokens"], row.get("expected_cached_tokens", 0)


def test_isolated_tenants_share_no_cache(isolating, sims):
    sim_urls = [sims().url, sims().url]
    models = [{"name": MODEL, "endpoints": ["gpu-0", "gpu-1"]}]
    gateway = isolating(sim_urls, models=models, runtime={"shards": 1})
    messages = conversation(fresh(), 2)
    for key in ("KEY_A", "KEY_B", "KEY_OPEN"):
        assert cached(gateway, key, messages) == (0, 0), key
    for key in ("KEY_A", "KEY_B", "KEY_OPEN"):
        got, expected = cached(gateway, key, messages)
        assert got > 500 and expected > 500, key
    tenant = {"x-tenant": "one of a's"}
    assert cached(gateway, "KEY_A", messages, **tenant) == (0, 0)
    assert cached(gateway, "KEY_A", messages, **tenant)[0] > 500


def test_without_isolation_tenants_share(isolating, sims):
    keys = [{**key, "isolate": False} for key in KEYS]
    gateway = isolating([sims().url], keys=keys)
    messages = conversation(fresh(), 2)
    assert cached(gateway, "KEY_A", messages)[0] == 0
    assert cached(gateway, "KEY_B", messages)[0] > 500


def test_a_client_s_own_salt_keeps_its_prompts_apart(isolating, sims):
    sim_urls = [sims().url, sims().url]
    models = [{"name": MODEL, "endpoints": ["gpu-0", "gpu-1"]}]
    gateway = isolating(sim_urls, models=models, runtime={"shards": 1})
    messages = conversation(fresh(), 2)
    for key in ("KEY_A", "KEY_OPEN"):
        for salt in ("one", "two", None):
            assert cached(gateway, key, messages, salt=salt) == (0, 0), (key, salt)
        for salt in ("one", "two", None):
            got, expected = cached(gateway, key, messages, salt=salt)
            assert got > 500 and expected > 500, (key, salt)
    assert cached(gateway, "KEY_B", messages, salt="one") == (0, 0)


def test_a_model_isolates_every_key(isolating, sims):
    sim = sims(models=(MODEL, "private"))
    models = [
        {"name": MODEL, "endpoints": ["gpu-0"]},
        {"name": "private", "endpoints": ["gpu-0"], "isolate": True, "policy": "round-robin"},
    ]
    keys = [{**key, "isolate": False} for key in KEYS]
    gateway = isolating([sim.url], keys=keys, models=models)
    messages = conversation(fresh(), 2)
    told = []
    for key in ("KEY_A", "KEY_B", "KEY_A"):
        answer = post(gateway, key, {"model": "private", "messages": messages, "max_tokens": 2})
        told.append(gateway.row(answer.headers["x-request-id"])["cached_tokens"])
    assert told[:2] == [0, 0] and told[2] > 500


def test_the_salt_takes_the_client_s_place_and_nothing_else_changes(isolating):
    upstream = Upstream()
    gateway = isolating([upstream.url])
    texts = [
        '{"model": "mock-model",  "messages": [] }',
        '{"cache_salt" : "mine", "model": "mock-model", "messages": []}',
        '{"messages": [], "model": "mock-model", "cache_salt": ["mi\\u006ee", 1]}',
        '{"messages": [], "cache_salt": null, "model": "mock-model", "stream": false}',
    ]
    sent = []
    for key in ("KEY_A", "KEY_A", "KEY_B"):
        for text in texts:
            headers = bearer(key, **{"content-type": "application/json"})
            url = f"{gateway.url}/v1/chat/completions"
            assert httpx.post(url, content=text, headers=headers).status_code == 200
            received = asked(upstream)[-1].body.decode()
            salt = json.loads(received)["cache_salt"]
            assert len(salt) == 64 and set(salt) <= set("0123456789abcdef")
            for secret in ENV.values():
                assert secret not in received
            given = json.loads(text)
            if "cache_salt" in given:
                own = {"mine": '"mine"'}.get(str(given["cache_salt"]))
                own = own or ("null" if given["cache_salt"] is None else '["mi\\u006ee", 1]')
                assert received == text.replace(own, f'"{salt}"')
            else:
                extra = f',"cache_salt":"{salt}"'
                assert received == text.replace('"mock-model"', f'"mock-model"{extra}')
            sent.append(salt)
    assert sent[:4] == sent[4:8], "a tenant's salts stay the same"
    # The first and the last text have no salt of their own.
    assert sent[0] == sent[3] and len(set(sent[:3])) == 3
    assert not set(sent[:4]) & set(sent[8:])
    post(gateway, "KEY_OPEN", {"model": MODEL, "messages": [], "cache_salt": "mine"})
    assert asked(upstream)[-1].json()["cache_salt"] == "mine"
    gateway.stop()
    upstream.stop()


def test_salts_outlive_the_process_and_depend_on_the_secret(isolating):
    upstream = Upstream()
    salts = []
    for secret in (ENV["ISOLATION"], ENV["ISOLATION"], "another secret of the operator"):
        gateway = isolating([upstream.url], name=f"gateway-{len(salts)}")
        gateway.stop()
        gateway.env = {**ENV, "ISOLATION": secret}
        gateway.start()
        assert post(gateway, "KEY_A", {"model": MODEL, "messages": []}).status_code == 200
        salts.append(asked(upstream)[-1].json()["cache_salt"])
        gateway.stop()
    upstream.stop()
    assert salts[0] == salts[1] != salts[2]


def test_who_passes_over_salts_gets_no_isolated_request(isolating, sims):
    sim, blind = sims(), Upstream(answer=lambda _: json_answer(ANSWER))
    endpoints = [
        {"name": "blind", "url": blind.url, "engine": "llama-cpp", "metrics_path": ""},
        {"name": "gpu-0", "url": sim.url, "engine": "sglang"},
    ]
    models = [
        {"name": MODEL, "endpoints": ["blind", "gpu-0"], "policy": "round-robin"},
        {"name": "local", "endpoints": ["blind"]},
    ]
    gateway = isolating([], endpoints=endpoints, models=models)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    for _ in range(6):
        answer = post(gateway, "KEY_A", body)
        assert gateway.row(answer.headers["x-request-id"])["endpoint"] == "gpu-0"
    assert not asked(blind)
    seen = {
        gateway.row(post(gateway, "KEY_OPEN", body).headers["x-request-id"])["endpoint"]
        for _ in range(6)
    }
    assert seen == {"blind", "gpu-0"}
    refused = [
        ({**body, "model": "local"}, "/v1/chat/completions"),
        (body, "/v1/messages"),
        ({"model": MODEL, "input": "hi"}, "/v1/embeddings"),
        ({"model": MODEL, "query": "hi", "documents": ["ho"]}, "/v1/rerank"),
    ]
    for refuse, path in refused:
        answer = post(gateway, "KEY_A", refuse, path)
        assert answer.status_code == 400, (path, answer.text)
        assert "isolated tenants" in answer.text
    assert post(gateway, "KEY_A", body, "/v1/messages/count_tokens").status_code == 200
    assert post(gateway, "KEY_OPEN", body, "/v1/messages").status_code == 200
    blind.stop()


def test_copies_carry_the_salt(isolating):
    upstream, shadow = Upstream(), Upstream()
    models = [*MODELS, {"name": "next", "endpoints": ["gpu-1"]}]
    shadows = [{"model": MODEL, "copy_to": "next"}]
    gateway = isolating([upstream.url, shadow.url], models=models, shadows=shadows)
    body = {"model": MODEL, "messages": [], "cache_salt": "mine"}
    assert post(gateway, "KEY_A", body).status_code == 200
    wait_for(lambda: asked(shadow), 10, "the copy")
    salts = {asked(one)[0].json()["cache_salt"] for one in (upstream, shadow)}
    assert len(salts) == 1 and salts != {"mine"}
    gateway.stop()
    for one in (upstream, shadow):
        one.stop()


def test_both_legs_of_a_pair_carry_the_salt(isolating):
    kept = {**ANSWER, "kv_transfer_params": {"remote_engine_id": "e", "remote_block_ids": [1]}}
    prefill, decode = Upstream(answer=lambda _: json_answer(kept)), Upstream()
    pairs = [
        {"model": MODEL, "protocol": "nixl", "prefill": ["gpu-1"], "uncached_tokens_min": 0},
    ]
    gateway = isolating([decode.url, prefill.url], pairs=pairs)
    messages = [{"role": "user", "content": "Hello"}]
    assert post(gateway, "KEY_A", {"model": MODEL, "messages": messages}).status_code == 200
    first, second = asked(prefill)[0].json(), asked(decode)[0].json()
    assert first["cache_salt"] == second["cache_salt"] and len(first["cache_salt"]) == 64
    assert second["kv_transfer_params"] == kept["kv_transfer_params"]
    gateway.stop()
    for one in (prefill, decode):
        one.stop()


def test_the_simulated_server_reads_salts_as_vllm_does(sims):
    sim, messages = sims(), conversation(fresh(), 2)

    def ask(salt, path="/v1/chat/completions"):
        body = {"model": MODEL, "messages": messages, "max_tokens": 2, "cache_salt": salt}
        return httpx.post(sim.url + path, json=body, timeout=20)

    assert ask("").status_code == ask(7).status_code == 400

    def cached(salt, **more):
        before = sim.counts()["cached_tokens"]
        assert ask(salt, **more).status_code == 200
        return sim.counts()["cached_tokens"] - before

    assert [cached(salt) > 0 for salt in ("a", "b", "a", None, None)] == [False, False, True, False, True]
    # Its Anthropic API passes over it: all of these share the cache of those without one.
    assert cached("c", path="/v1/messages") > 0
