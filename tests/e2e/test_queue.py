"""Requests wait for places where endpoints take only so many, and tenants get equal shares of them."""

import json
import socket
import threading
import time

import httpx
import pytest
from harness import Sim

MODEL = "mock-model"
KEYS = {"heavy": "sk-heavy-000000000000", "light": "sk-light-000000000000", "calm": "sk-calm-0000000000000"}
ENV = {f"KEY_{name.upper()}": secret for name, secret in KEYS.items()}
# Milliseconds: a step of the server, which decides how long an answer takes.
STEP_MS = 5


def configuration(sims, places=1, shards=1, **queue):
    """Endpoints that take `places` requests each at once, and a key for each tenant."""
    endpoints = [
        {"name": f"gpu-{at}", "url": sim.url, "engine": "vllm", "requests_max": places}
        for at, sim in enumerate(sims)
    ]
    names = [endpoint["name"] for endpoint in endpoints]
    return {
        "runtime": {"shards": shards},
        "endpoints": endpoints,
        "models": [{"name": MODEL, "endpoints": names, **queue}],
        "routing": {"tenant_header": "x-tenant", "priority_header": "x-priority"},
        "keys": [{"name": name, "secret": f"env:KEY_{name.upper()}"} for name in KEYS],
    }


@pytest.fixture
def slow(sims):
    """A server on which an answer takes a while."""
    return lambda: sims("--realtime", "--decode-ms", str(STEP_MS))


def body(tokens=20, words=10, **more):
    message = {"role": "user", "content": f"{time.monotonic_ns()} " + "word " * words}
    return {"model": MODEL, "messages": [message], "max_tokens": tokens, "stream": True, **more}


def ask(gateway, key="heavy", headers=None, timeout=60, **more):
    """One request on a connection of its own."""
    headers = {"authorization": f"Bearer {KEYS[key]}", **(headers or {})}
    url = f"{gateway.url}/v1/chat/completions"
    return httpx.post(url, json=body(**more), headers=headers, timeout=timeout)


def start(gateway, count, results, key="heavy", **more):
    """So many requests at once, in threads; their answers come into `results`."""
    threads = [
        threading.Thread(target=lambda: results.append((key, ask(gateway, key, **more), time.monotonic())))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads


def wait(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def metric(gateway, name, **labels):
    return gateway.admin.metrics().sum(name, **labels)


def waiting(gateway):
    return metric(gateway, "sluice_queue_requests")


@pytest.mark.parametrize("shards", [1, 2])
def test_all_are_served_and_no_more_at_once_than_places(gateways, slow, shards):
    sim = slow()
    gateway = gateways(env=ENV, **configuration([sim], places=2, shards=shards))
    results = []
    threads = start(gateway, 12, results, tokens=40)
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, metric(gateway, "sluice_endpoint_in_flight"))
        time.sleep(0.01)
    assert [answer.status_code for _, answer, _ in results] == [200] * 12
    assert 0 < most <= 2
    assert sim.counts()["completed"] == 12
    assert metric(gateway, "sluice_queue_wait_seconds_count", **{"class": "normal"}) >= 6
    assert waiting(gateway) == 0 and metric(gateway, "sluice_endpoint_places_used") == 0
    assert sum(row.get("queued_ms", 0) > 0 for row in gateway.rows()) >= 6


def test_a_share_that_another_shard_does_not_use_is_lent(gateways, slow):
    """Every connection is some shard's: whichever it is, all places serve it."""
    gateway = gateways(env=ENV, **configuration([slow()], places=4, shards=2))
    results = []
    began = time.monotonic()
    for thread in start(gateway, 4, results, tokens=100):
        thread.join()
    took = time.monotonic() - began
    assert all(answer.status_code == 200 for _, answer, _ in results)
    # One after the other, any two of them would take twice as long as one.
    assert took < 1.7 * 100 * STEP_MS / 1000, took


def test_who_leaves_gives_its_place_up_at_once(gateways, slow):
    gateway = gateways(env=ENV, **configuration([slow()]))
    results = []
    threads = start(gateway, 1, results, tokens=200)
    wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 1)
    with pytest.raises(httpx.ReadTimeout):
        ask(gateway, timeout=0.2)
    wait(lambda: waiting(gateway) == 0, timeout=0.5)
    assert metric(gateway, "sluice_endpoint_places_used") == 1
    for thread in threads:
        thread.join()
    # Rows come a moment after their answers.
    wait(lambda: len(gateway.rows()) == 2)
    assert gateway.rows()[0]["outcome"] == "client_gone"


def test_late_and_full_are_told_when_to_come_again(gateways, slow):
    queue = {"queue_seconds": 0.5, "queue_requests_per_shard_max": 2}
    gateway = gateways(env=ENV, **configuration([slow()], **queue))
    results = []
    threads = start(gateway, 1, results, tokens=300)
    wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 1)
    threads += start(gateway, 2, results)
    wait(lambda: waiting(gateway) == 2)
    own = ask(gateway)
    assert own.status_code == 429 and int(own.headers["retry-after"]) >= 1
    # Another tenant has a right to its part of the queue.
    threads += start(gateway, 1, results, key="light")
    for thread in threads:
        thread.join()
    statuses = sorted((key, answer.status_code) for key, answer, _ in results)
    assert statuses == [("heavy", 200), ("heavy", 429), ("heavy", 503), ("light", 503)]
    late = next(answer for _, answer, _ in results if answer.status_code == 503)
    assert int(late.headers["retry-after"]) >= 1 and late.json()["error"]["code"] == "saturated"
    refused = lambda reason: metric(gateway, "sluice_queue_refused_total", reason=reason)
    assert [refused(reason) for reason in ("full", "late", "displaced")] == [1, 2, 1]


def test_the_urgent_go_first_if_they_may(gateways, slow):
    config = configuration([slow()])
    config["keys"][0]["priority"] = "high"
    gateway = gateways(env=ENV, **config)
    results = []
    threads = start(gateway, 1, results, tokens=100)
    wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 1)
    for at, (key, asked) in enumerate(
        [("calm", "low"), ("light", "high"), ("heavy", "normal"), ("heavy", "nonsense")]
    ):
        threads += start(gateway, 1, results, key=key, headers={"x-priority": asked})
        wait(lambda: waiting(gateway) == at + 1)
    for thread in threads:
        thread.join()
    order = [key for key, _, _ in sorted(results, key=lambda result: result[2])]
    assert order[:2] == ["heavy", "heavy"] and order[-1] == "calm", order
    # A key without that right does not become urgent by asking for it.
    assert metric(gateway, "sluice_queue_wait_seconds_count", **{"class": "high"}) == 1


@pytest.mark.parametrize("shards", [1, 2])
def test_one_that_asks_ten_times_as_much_gets_no_more(gateways, slow, shards):
    """Jain's index over tokens, of tenants whose demand is above their share."""
    gateway = gateways(env=ENV, **configuration([slow(), slow()], places=2, shards=shards))
    tenants = {"a": 30, "b": 6, "c": 6, "d": 6}
    tokens = dict.fromkeys(tenants, 0)
    # Of different sizes, too.
    words = {"a": 100, "b": 400, "c": 100, "d": 200}
    clients = [
        (tenant, httpx.Client(timeout=60, verify=False))
        for tenant, count in tenants.items()
        for _ in range(count)
    ]
    end = time.monotonic() + 8
    bad = []

    def client(tenant, http):
        headers = {"authorization": f"Bearer {KEYS['heavy']}", "x-tenant": tenant}
        url = f"{gateway.url}/v1/chat/completions"
        while time.monotonic() < end and not bad:
            answer = http.post(url, json=body(8, words[tenant]), headers=headers)
            if answer.status_code != 200:
                bad.append(answer.text)
            elif time.monotonic() < end:
                tokens[tenant] += words[tenant]

    threads = [threading.Thread(target=client, args=one) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad
    jain = sum(tokens.values()) ** 2 / (len(tokens) * sum(t * t for t in tokens.values()))
    print(f"Jain {jain:.4f}, {shards} shards: {tokens}")
    assert jain >= 0.95, tokens


def test_a_reload_changes_how_many_may(gateways, slow):
    config = configuration([slow()], places=1, shards=2)
    gateway = gateways(env=ENV, **config)
    results = []
    threads = start(gateway, 5, results, tokens=400)
    wait(lambda: waiting(gateway) == 4)
    gateway.config["endpoints"][0]["requests_max"] = 3
    gateway.write(gateway.config)
    wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 3)
    for thread in threads:
        thread.join()
    assert all(answer.status_code == 200 for _, answer, _ in results)


def test_a_reload_that_lifts_the_bound_lets_all_who_wait_go(gateways, slow):
    config = configuration([slow()], places=1, queue_seconds=60)
    gateway = gateways(env=ENV, **config)
    results, stop = [], threading.Event()
    threads = start(gateway, 1, results, tokens=400)
    wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 1)
    threads += start(gateway, 3, results, tokens=40)
    wait(lambda: waiting(gateway) == 3)

    def newcomers():
        while not stop.is_set():
            assert ask(gateway, "light", tokens=40).status_code == 200

    crowd = [threading.Thread(target=newcomers) for _ in range(2)]
    del gateway.config["endpoints"][0]["requests_max"]
    gateway.reload(gateway.config)
    for thread in crowd:
        thread.start()
    # While the place is still taken, and newcomers keep coming.
    wait(lambda: waiting(gateway) == 0, timeout=1)
    assert threads[0].is_alive() and metric(gateway, "sluice_endpoint_places_used") >= 1
    stop.set()
    for thread in threads + crowd:
        thread.join()
    assert [answer.status_code for _, answer, _ in results] == [200] * 4


def test_before_anybody_was_served_the_wait_is_foreseen_from_what_is_under_way(gateways, sims):
    sim = sims("--realtime", "--decode-ms", "20")
    gateway = gateways(env=ENV, **configuration([sim], queue_requests_per_shard_max=0))
    # How long answers are, and what a token takes, is learned.
    assert ask(gateway, tokens=150).status_code == 200
    threads = start(gateway, 1, [], tokens=200)
    wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 1)
    refused = ask(gateway, tokens=200)
    assert refused.status_code in (429, 503)
    # 150 tokens at 20 ms each are 3 s, were the machine never late.
    told = int(refused.headers["retry-after"])
    assert 2 <= told <= 12, told
    answer = httpx.get(
        f"{gateway.admin.url}/debug/route", params={"request_id": refused.headers["x-request-id"]}
    )
    explained = answer.json()
    assert explained["lacking"] == [{"endpoint": "gpu-0", "lacks": "room"}]
    assert explained["error"] == refused.json()["error"]["code"] and "reason" not in explained
    for thread in threads:
        thread.join()
def test_newcomers_of_one_model_do_not_overtake_who_waits_for_another(gateways, sims):
    """One model's requests, each behind the one before it, and one of another model for the same place."""
    sim = sims("--realtime", "--decode-ms", str(STEP_MS), models=("a", "b"))
    plan = configuration([sim])
    plan["models"] = [{"name": name, "endpoints": ["gpu-0"]} for name in "ab"]
    gateway = gateways(env=ENV, **plan)
    sent = json.dumps(body(model="a", stream=False)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {KEYS['heavy']}\r\ncontent-length: {len(sent)}\r\n\r\n"
    )
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as crowd:
        crowd.sendall((head.encode() + sent) * 12)
        wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 1)
        assert ask(gateway, "light", model="b").status_code == 200
        assert sim.counts()["completed"] < 8
