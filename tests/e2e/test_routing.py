"""Prompts go where their beginnings are cached, and nowhere that cannot take them."""

import itertools
import time

import httpx
import pytest
from harness import Sim

MODEL = "mock-model"
# Milliseconds of a tick: what one shard learns, the other knows two ticks later.
TICKS_S = 0.05
SIMS = [[], []]
CONFIG = {
    "models": [{"name": MODEL, "endpoints": ["gpu-0", "gpu-1"]}],
    "runtime": {"shards": 2},
}
_names = itertools.count()


def turn(name, at):
    """About 3 KB that no other conversation has."""
    return f"{name}, part {at}: " + " ".join(f"{name}-{at}-{word}" for word in range(220))


def conversation(name, turns):
    messages = [{"role": "system", "content": f"You are {name}."}]
    for at in range(turns):
        messages += [
            {"role": "user", "content": turn(name, at)},
            {"role": "assistant", "content": f"answer {at}"},
        ]
    return [*messages, {"role": "user", "content": "go on"}]


def ask(gateway, messages, headers=None, status=200, **more):
    """One request on a connection of its own, so by either shard; its row."""
    body = {"model": MODEL, "messages": messages, "max_tokens": 4, "stream": True, **more}
    url = f"{gateway.url}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, timeout=20)
    assert answer.status_code == status, answer.text
    return gateway.row(answer.headers["x-request-id"])


def fresh():
    return f"conversation {next(_names)}"


def metric(gateway, name, **labels):
    return gateway.admin.metrics().sum(name, **labels)


def test_a_growing_conversation_stays_where_its_cache_is(stack):
    name, places = fresh(), set()
    for turns in range(1, 10):
        row = ask(stack.gateway, conversation(name, turns))
        places.add(row["endpoint"])
        if turns > 2:
            assert row["route"] == "warm" and row["cached_tokens"] > 0
        time.sleep(TICKS_S)
    assert len(places) == 1


def test_what_is_cached_is_foreseen_within_a_block(stack):
    name = fresh()
    for turns in range(1, 12):
        row = ask(stack.gateway, conversation(name, turns))
        per_token = row["request_bytes"] / row["input_tokens"]
        # A block of the table, one of the engine, and the template around the messages.
        slack = 512 / per_token + 16 + 16
        if turns > 3:
            off = abs(row["expected_cached_tokens"] - row["cached_tokens"])
            assert off <= slack, (turns, row)
            # The new turn's tokens are all that has to be estimated.
            assert abs(row["expected_input_tokens"] - row["input_tokens"]) <= 0.3 * 3_000 / per_token
        time.sleep(TICKS_S)
    assert metric(stack.gateway, "sluice_news_heard_total") > 0


def test_conversations_spread(stack):
    names = [fresh() for _ in range(16)]
    places = [ask(stack.gateway, conversation(name, 2))["endpoint"] for name in names]
    assert 3 <= places.count("gpu-0") <= 13, places
    time.sleep(TICKS_S)
    again = [ask(stack.gateway, conversation(name, 3))["endpoint"] for name in names]
    assert again == places


def test_a_session_begins_where_it_was(stack):
    for number, header in enumerate(
        ["x-claude-code-session-id", "session-id", "session_id", "x-opencode-session", "x-session-id"]
    ):
        headers = {header: f"session-{number}"}
        places = {ask(stack.gateway, conversation(fresh(), 1), headers)["endpoint"] for _ in range(6)}
        assert len(places) == 1, header


def test_an_emptied_cache_is_noticed(stack):
    names = [fresh() for _ in range(6)]
    rows = {name: ask(stack.gateway, conversation(name, 2)) for name in names}
    time.sleep(TICKS_S)
    for sim in stack.sims:
        sim._call("/reset_prefix_cache", {})
    before = metric(stack.gateway, "sluice_cache_resets_total")
    first = ask(stack.gateway, conversation(names[0], 3))
    assert first["expected_cached_tokens"] > 0 and first["cached_tokens"] == 0
    assert metric(stack.gateway, "sluice_cache_resets_total") <= before + 1
    time.sleep(TICKS_S)
    # What it has computed since is there again.
    assert ask(stack.gateway, conversation(names[0], 4))["cached_tokens"] > 0
    assert all(row["endpoint"] for row in rows.values())


def test_counting_a_prompt_changes_nothing_of_what_is_known(stack):
    name, url = fresh(), f"{stack.gateway.url}/v1/messages"
    # Without the system message, which is none of this API's.
    body = {"model": MODEL, "messages": conversation(name, 3)[1:]}
    headers = {"anthropic-version": "2023-06-01"}
    before = metric(stack.gateway, "sluice_cache_resets_total")
    for path, more in [("/count_tokens", {}), ("", {"max_tokens": 4}), ("", {"max_tokens": 4})]:
        answer = httpx.post(url + path, json={**body, **more}, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        row = stack.gateway.row(answer.headers["x-request-id"])
        time.sleep(TICKS_S)
    assert row["cached_tokens"] > 0 and row["route"] == "warm"
    assert metric(stack.gateway, "sluice_cache_resets_total") == before


@pytest.mark.parametrize("down", [True, False], ids=["noticed", "unnoticed"])
def test_a_restarted_server_is_not_expected_to_have_anything(gateways, down):
    sims = [Sim(), Sim()]
    gateway = gateways([sim.url for sim in sims], runtime={"shards": 1}, models=CONFIG["models"])
    gateway.expected += ["endpoint is down"]
    names = [fresh() for _ in range(16)]
    places = {name: ask(gateway, conversation(name, 2))["endpoint"] for name in names}
    there = [name for name in names if places[name] == "gpu-0"]
    assert len(there) > 1, places
    sims[0].stop()
    if down:
        # Until the probes have seen it; clients meanwhile get their answers elsewhere.
        state = lambda: gateway.admin.readyz()[1]["models"][MODEL]["endpoints"]["gpu-0"]
        wait(lambda: state() == "down")
    sims[0] = Sim(port=sims[0].port)
    if down:
        wait(lambda: state() == "up")
    last = ask(gateway, conversation(there[-1], 3))
    if last["endpoint"] == "gpu-0" and not down:
        assert last["cached_tokens"] == 0
    assert metric(gateway, "sluice_cache_resets_total", endpoint="gpu-0") == 1
    for name in there[:-1]:
        row = ask(gateway, conversation(name, 3))
        assert row["expected_cached_tokens"] == 0, row
    gateway.stop()
    for sim in sims:
        sim.stop()


def wait(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def choosy(gateways):
    """gpu-0 sees images and takes 3,000 tokens; gpu-1 calls tools and takes 1,500, one at a time."""
    sims = [Sim("--max-model-len", "3000"), Sim("--realtime", "--max-model-len", "1500")]
    endpoints = [
        {"name": f"gpu-{at}", "url": sim.url, "engine": "vllm", "context_tokens_max": 3000 // (at + 1)}
        for at, sim in enumerate(sims)
    ]
    endpoints[0]["capabilities"] = ["vision"]
    endpoints[1] |= {"capabilities": ["tools"], "requests_max": 1}
    models = [{**CONFIG["models"][0], "queue_requests_per_shard_max": 0}]
    yield gateways([], endpoints=endpoints, models=models)
    for sim in sims:
        sim.stop()


def test_who_cannot_take_a_request_is_not_asked(choosy):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    seen = [{"role": "user", "content": [image]}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    hello = [{"role": "user", "content": "Hello"}]
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}
    for _ in range(4):
        assert ask(choosy, seen)["endpoint"] == "gpu-0"
        assert ask(choosy, hello, tools=tools)["endpoint"] == "gpu-1"
        assert ask(choosy, hello, max_tokens=2_000)["endpoint"] == "gpu-0"
    row = ask(choosy, hello, status=400, response_format=schema)
    assert (row["error"], row["attempts"]) == ("unsupported_by_model", 0)
    row = ask(choosy, seen, status=400, tools=tools)
    assert row["error"] == "unsupported_by_model"


def test_what_nobody_can_take_is_refused_in_the_api_s_own_words(choosy):
    long = [{"role": "user", "content": "word " * 20_000}]
    body = {"model": MODEL, "messages": long, "max_tokens": 4}
    answer = httpx.post(f"{choosy.url}/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["code"] == "context_length_exceeded"
    assert "maximum context length is 3000 tokens" in error["message"]
    headers = {"anthropic-version": "2023-06-01"}
    answer = httpx.post(f"{choosy.url}/v1/messages", json=body, headers=headers)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error"
    assert "prompt is too long" in error["message"]


def test_an_image_is_not_as_long_as_its_data(choosy):
    image = {"url": "data:image/png;base64," + "iVBORw0K" * 20_000}
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": image}]
    # The simulated engine reads it as text, and refuses that.
    row = ask(choosy, [{"role": "user", "content": content}], status=400)
    assert row["attempts"] == 1 and row["expected_input_tokens"] < 2_000


def test_no_more_at_once_than_an_endpoint_may_have(choosy):
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": tools,
        "max_tokens": 100,
        "stream": True,
    }
    url = f"{choosy.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=20) as running:
        chunks = running.iter_bytes()
        next(chunks)
        answer = httpx.post(url, json=body, timeout=20)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "saturated"
        assert int(answer.headers["retry-after"]) >= 1
        for _ in chunks:
            pass
    time.sleep(TICKS_S)
    assert httpx.post(url, json=body, timeout=20).status_code == 200
