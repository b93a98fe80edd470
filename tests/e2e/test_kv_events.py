"""Engines that tell of their caches: routing follows the cache itself, not an estimate of it."""

import concurrent.futures
import contextlib
import copy
import os
import signal
import time

import httpx
import pytest
from harness import Sim
from harness.ports import free_port
from test_routing import MODEL, ask, conversation, fresh, metric


def wait_for(what, done, seconds=10):
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, what
        time.sleep(0.02)


_made = []


@pytest.fixture(autouse=True)
def no_server_is_left():
    yield
    while _made:
        _made.pop().process.kill()


def telling(*arguments, replay=True, **more):
    """A server that tells, and its endpoint's table."""
    events, again = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    arguments = [*arguments, "--kv-events", events, "--kv-events-topic", "kv"]
    arguments += ["--kv-events-replay", again] if replay else []
    table = {"kv_events": events, "kv_events_topic": "kv", "engine": "vllm", "metrics_path": ""}
    _made.append(Sim(*arguments, **more))
    return _made[-1], {**table, **({"kv_events_replay": again} if replay else {})}


def world(gateways, worlds, models=({"name": MODEL},), **more):
    endpoints = [
        {"name": f"gpu-{at}", "url": sim.url, **table} for at, (sim, table) in enumerate(worlds)
    ]
    names = [one["name"] for one in endpoints]
    models = [{"endpoints": names, **model} for model in models]
    gateway = gateways([], endpoints=endpoints, models=models, runtime={"shards": 1}, **more)
    # Listening begins when it begins: only then is the first message the first.
    time.sleep(1.5)
    return gateway


def settled(gateway, prompts):
    """So many prompts were tokenised, and shards know what came of it."""
    name = "sluice_kv_prompts_total"
    wait_for(f"{prompts} prompts", lambda: metric(gateway, name) >= prompts)
    quiet(gateway)


def quiet(gateway):
    """Nothing more is heard."""
    heard, last = -1, time.monotonic()
    while time.monotonic() - last < 0.5:
        now = metric(gateway, "sluice_kv_events_total") + metric(gateway, "sluice_kv_changes_total")
        if now != heard:
            heard, last = now, time.monotonic()
        time.sleep(0.05)


def test_an_emptied_cache_is_known_before_the_next_request(gateways):
    worlds = [telling(), telling()]
    gateway = world(gateways, worlds)
    name = fresh()
    for turns in (1, 2):
        row = ask(gateway, conversation(name, turns))
    settled(gateway, 2)
    assert metric(gateway, "sluice_kv_blocks") > 0
    row = ask(gateway, conversation(name, 3))
    assert abs(row["expected_cached_tokens"] - row["cached_tokens"]) < 200 and row["cached_tokens"] > 0
    for sim, _ in worlds:
        sim._call("/reset_prefix_cache", {})
    wait_for("the loss", lambda: metric(gateway, "sluice_kv_blocks") == 0)
    quiet(gateway)
    row = ask(gateway, conversation(name, 4))
    assert row["expected_cached_tokens"] == 0 == row["cached_tokens"], row
    for sim, _ in worlds:
        sim.stop()


def test_evictions_are_followed(gateways):
    """Servers whose cache holds a few conversations: what was pushed out is not expected any more."""
    worlds = [telling("--kv-blocks", "512"), telling("--kv-blocks", "512")]
    gateway = world(gateways, worlds)
    names = [fresh() for _ in range(12)]
    for asked, name in enumerate(names, 1):
        ask(gateway, conversation(name, 3))
        settled(gateway, asked)
    off = []
    for asked, name in enumerate(names, len(names) + 1):
        row = ask(gateway, conversation(name, 3))
        off.append(row["expected_cached_tokens"] - row["cached_tokens"])
        settled(gateway, asked)
    assert max(off) < 300, off
    for sim, _ in worlds:
        sim.stop()


def test_evictions_of_isolated_tenants_are_followed(gateways):
    """Two tenants ask the same, so their blocks hold the same tokens, and only their salts part them."""
    worlds = [telling("--kv-blocks", "512"), telling("--kv-blocks", "512")]
    tenants = {"KEY_A": "key-of-tenant-a", "KEY_B": "key-of-tenant-b"}
    gateway = world(
        gateways,
        worlds,
        keys=[{"name": name, "secret": f"env:{name}", "isolate": True} for name in tenants],
        routing={"isolation_secret": "env:ISOLATION"},
        env={**tenants, "ISOLATION": "a secret that nobody can guess"},
    )
    names = [fresh() for _ in range(6)]
    asks = [(name, secret) for name in names for secret in tenants.values()]
    off = []
    for asked, (name, secret) in enumerate([*asks, *asks], 1):
        row = ask(gateway, conversation(name, 3), {"authorization": f"Bearer {secret}"})
        off.append(row["expected_cached_tokens"] - row["cached_tokens"])
        if asked <= len(asks):
            assert row["cached_tokens"] == 0, "nobody has what the other one asked"
        settled(gateway, asked)
    assert max(off) < 300, off
    for sim, _ in worlds:
        sim.stop()


@pytest.mark.parametrize("replay", [True, False], ids=["asked-again", "given-up"])
def test_gaps(gateways, replay):
    worlds = [telling(replay=replay), telling(replay=replay)]
    gateway = world(gateways, worlds)
    name = fresh()
    ask(gateway, conversation(name, 1))
    settled(gateway, 1)
    held = metric(gateway, "sluice_kv_blocks")
    for sim, _ in worlds:
        sim._call("/sim/kv-events/lose", {"messages": 1})
    ask(gateway, conversation(name, 3))
    ask(gateway, conversation(name, 5))
    lost = lambda: metric(gateway, "sluice_kv_lost_track_total")  # noqa: E731
    if replay:
        wait_for("the missing blocks", lambda: metric(gateway, "sluice_kv_blocks") > 2 * held)
        assert lost() == 0
    else:
        wait_for("the loss", lambda: lost() >= 1)
    row = ask(gateway, conversation(name, 6))
    assert row["cached_tokens"] > 0
    for sim, _ in worlds:
        sim.stop()


def test_a_reload_interrupts_no_subscription(gateways):
    worlds = [telling(replay=False), telling(replay=False)]
    gateway = world(gateways, worlds)
    name = fresh()
    ask(gateway, conversation(name, 1))
    settled(gateway, 1)
    config = copy.deepcopy(gateway.config)
    config["timeouts"] = {**config.get("timeouts", {}), "connect_seconds": 4}
    for _ in range(3):
        gateway.reload(config)
    ask(gateway, conversation(name, 2))
    settled(gateway, 2)
    assert metric(gateway, "sluice_kv_lost_track_total") == 0
    row = ask(gateway, conversation(name, 3))
    assert abs(row["expected_cached_tokens"] - row["cached_tokens"]) < 200 and row["cached_tokens"] > 0


def asked_to_tokenise(gateway):
    """Prompts that engines tokenised, and those that they did not."""
    names = "sluice_kv_prompts_total", "sluice_kv_prompts_refused_total"
    return tuple(metric(gateway, name) for name in names)


def test_prompts_are_tokenised_under_the_name_that_the_engine_knows(gateways):
    worlds = [telling(models=("n", "org/m")) for _ in range(2)]
    models = [{"name": "n"}, {"name": "m", "upstream_model": "org/m"}]
    aliases = [{"name": "best", "model": "n"}, {"name": "finest", "model": "m"}]
    gateway = world(gateways, worlds, models, aliases=aliases)
    for asked, model in enumerate(("n", "m", "best", "finest"), 1):
        held = metric(gateway, "sluice_kv_changes_total")
        ask(gateway, conversation(fresh(), 1), model=model)
        settled(gateway, asked)
        assert metric(gateway, "sluice_kv_changes_total") > held, "its blocks were placed"
    assert asked_to_tokenise(gateway) == (4, 0)


def test_a_pair_s_prompts_are_tokenised_by_the_server_that_prefills(gateways):
    (prefill, table), decode = telling(), Sim()
    _made.append(decode)
    plain = {"engine": "vllm", "metrics_path": ""}
    endpoints = [
        {"name": "p", "url": prefill.url, **table},
        {"name": "d", "url": decode.url, **plain},
    ]
    gateway = gateways(
        [],
        endpoints=endpoints,
        models=[{"name": MODEL, "endpoints": ["d"]}],
        pairs=[{"model": MODEL, "protocol": "nixl", "prefill": ["p"]}],
        aliases=[{"name": "best", "model": MODEL}],
        runtime={"shards": 1},
    )
    time.sleep(1.5)
    ask(gateway, conversation(fresh(), 2), model="best")
    settled(gateway, 1)
    assert asked_to_tokenise(gateway) == (1, 0)


def test_only_prompts_that_engines_can_tell_of_are_tokenised(gateways):
    """Of the others an engine's word would be taken wrongly, or never come."""
    worlds = [telling(models=(MODEL, "sql")) for _ in range(2)]
    for _, table in worlds:
        table["adapters"] = ["sql"]
    gateway = world(gateways, worlds, [{"name": MODEL}, {"name": "sql", "adapter": "sql"}])
    ask(gateway, conversation(fresh(), 1), model="sql")
    (_, user, *_), tokens = conversation(fresh(), 1), {"model": MODEL, "max_tokens": 4}
    for path, prompt in {
        "messages": {"messages": [user], "system": "You are brief."},
        "responses": {"input": [user]},
        "completions": {"prompt": [user["content"], user["content"]]},
    }.items():
        body = {**tokens, **prompt}
        if path == "responses":
            body["max_output_tokens"] = body.pop("max_tokens")
        answer = httpx.post(f"{gateway.url}/v1/{path}", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
    quiet(gateway)
    assert asked_to_tokenise(gateway) == (0, 0)
    ask(gateway, conversation(fresh(), 1))
    settled(gateway, 1)
    assert asked_to_tokenise(gateway) == (1, 0)


@contextlib.contextmanager
def busy_elsewhere(gateway, worlds, streams=4):
    """Servers that are busy for others than this gateway, which has noticed it."""
    with contextlib.ExitStack() as held:
        for sim, _ in worlds:
            body = {"model": MODEL, "max_tokens": 100_000, "stream": True}
            body["messages"] = [{"role": "user", "content": "talk"}]
            for _ in range(streams):
                opened = httpx.stream("POST", f"{sim.url}/v1/chat/completions", json=body, timeout=60)
                held.enter_context(opened)
        time.sleep(2.5)
        for _ in range(120):
            ask(gateway, [{"role": "user", "content": "hi"}], max_tokens=1)
        yield


def test_what_other_gateways_sent_is_found_by_asking_the_engines(gateways):
    paced = {"pace": "--realtime"}
    worlds = [telling("--decode-ms", "3", **paced) for _ in range(3)]
    for _, table in worlds:
        table.pop("metrics_path")
    first, second = world(gateways, worlds), world(gateways, worlds)
    with busy_elsewhere(second, worlds):
        assert metric(second, "sluice_stage_seconds_count", stage="consult") == 0, "short prompts"
        for _ in range(4):
            name = fresh()
            there = ask(first, conversation(name, 5))
            # It is never quiet: those who keep the servers busy fill blocks.
            time.sleep(1.5)
            row = ask(second, conversation(name, 6))
            assert row["endpoint"] == there["endpoint"] and row["route"] == "warm", row
            assert row["cached_tokens"] > 1_024 and row["consulted_ms"] > 0, row
            assert abs(row["expected_cached_tokens"] - row["cached_tokens"]) < 200, row
            # The engine's tokens were counted beforehand, so the expectation is exact.
            assert row["expected_input_tokens"] == row["input_tokens"], row
            row = ask(second, conversation(name, 7))
            assert row["route"] == "warm" and "consulted_ms" not in row, "it is known here now"
        assert metric(second, "sluice_stage_seconds_count", stage="consult") == 4


def test_an_engine_that_does_not_say_its_tokens_is_not_waited_for(gateways):
    worlds = [telling("--decode-ms", "3", pace="--realtime") for _ in range(2)]
    for _, table in worlds:
        table.pop("metrics_path")
    gateway = world(gateways, worlds)
    with busy_elsewhere(gateway, worlds), concurrent.futures.ThreadPoolExecutor() as pool:
        for sim, _ in worlds:
            os.kill(sim.process.pid, signal.SIGSTOP)
        asked = pool.submit(ask, gateway, conversation(fresh(), 5))
        time.sleep(1)
        for sim, _ in worlds:
            os.kill(sim.process.pid, signal.SIGCONT)
        row = asked.result()
    assert row["outcome"] == "completed" and 50 <= row["consulted_ms"] < 1_000, row
