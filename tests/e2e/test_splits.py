"""Aliases, splits and shadows: each name's requests reach the models they should, and each server counts the
same."""

import copy
import threading
import time

import httpx
import pytest
from harness import check_counts, check_idle, wait_for

HELLO = [{"role": "user", "content": "Hello"}]


def models(**names):
    """One model for each name, on the endpoints given."""
    return [{"name": name, "endpoints": ends, "policy": "round-robin"} for name, ends in names.items()]


def ask(gateway, model, headers=None, **more):
    body = {"model": model, "messages": HELLO, "max_tokens": 3, **more}
    url = gateway.url + "/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=20)


def served(sim):
    return sim.counts()["requests_total"]


def pair(gateways, sims, weights=(1, 1), stick="session", **more):
    """Models `a` and `b` on a server each, the split `ab` over both, and the alias `best` of `a`."""
    both = [sims(models=("a",)), sims(models=("b",))]
    arms = [{"model": name, "weight": w} for name, w in zip("ab", weights, strict=True)]
    tables = {
        "models": models(a=["gpu-0"], b=["gpu-1"]),
        "splits": [{"name": "ab", "stick": stick, "arms": arms}],
        "aliases": [{"name": "best", "model": "a"}, {"name": "any", "model": "ab"}],
        **more,
    }
    return gateways([sim.url for sim in both], **tables), both


@pytest.mark.parametrize("stream", [False, True])
def test_an_alias_is_served_by_its_model_under_its_name(gateways, sims, stream):
    gateway, (first, second) = pair(gateways, sims)
    answer = ask(gateway, "best", stream=stream)
    assert answer.status_code == 200, answer.text
    # The server knows no other name than its own, and would have answered 404.
    assert (served(first), served(second)) == (1, 0)
    row = gateway.row(answer.headers["x-request-id"])
    assert (row["model"], row["asked_model"]) == ("a", "best")
    own = gateway.row(ask(gateway, "a").headers["x-request-id"])
    assert own["model"] == "a" and "asked_model" not in own
    usage = gateway.row(answer.headers["x-request-id"], "usage")
    assert (usage["model"], usage["asked_model"]) == ("a", "best")
    check_counts(gateway, [first, second])


def test_every_name_is_listed(gateways, sims):
    gateway, _ = pair(gateways, sims)
    listed = httpx.get(gateway.url + "/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["a", "b", "ab", "best", "any"]
    headers = {"anthropic-version": "2023-06-01"}
    listed = httpx.get(gateway.url + "/v1/models", headers=headers).json()
    assert (listed["first_id"], listed["last_id"]) == ("a", "any")
    for name in ("ab", "any"):
        assert httpx.get(f"{gateway.url}/v1/models/{name}").json()["id"] == name
    assert httpx.get(gateway.url + "/v1/models/none").status_code == 404


def test_each_name_is_ready_while_one_of_its_models_is(gateways, sims):
    gateway, (first, second) = pair(gateways, sims)
    assert all(gateway.admin.readyz(name)[0] == 200 for name in ("a", "b", "ab", "best", "any"))
    gateway.expected += ["endpoint is down"]
    first.stop()
    wait_for(lambda: gateway.admin.readyz("a")[0] == 503, 20, "the probes")
    assert gateway.admin.readyz("best")[0] == 503
    assert gateway.admin.readyz("ab")[0] == gateway.admin.readyz("any")[0] == 200


def test_a_split_divides_and_counts_each_arm(gateways, sims):
    gateway, both = pair(gateways, sims, weights=(3, 1), stick="request")
    places = {"a": 0, "b": 0}
    for number in range(200):
        answer = ask(gateway, ("ab", "any")[number % 2], stream=number % 3 == 0)
        assert answer.status_code == 200, answer.text
    wait_for(lambda: len(gateway.rows()) == 200, 5, "the rows")
    for row in gateway.rows():
        places[row["model"]] += 1
        assert row["asked_model"] in ("ab", "any")
    # 150 expected; five deviations are 31.
    assert 119 <= places["a"] <= 181, places
    assert [served(sim) for sim in both] == [places["a"], places["b"]]
    metrics = gateway.admin.metrics()
    for name, sim in zip("ab", both, strict=True):
        labels = {"split": "ab", "model": name}
        arm = metrics.sum("sluice_arm_requests_total", outcome="completed", **labels)
        assert arm == places[name] == metrics.sum("sluice_arm_requests_total", **labels)
        assert metrics.sum("sluice_arm_duration_seconds_count", **labels) == places[name]
        counts = sim.counts()
        for kind, theirs in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            tokens = metrics.sum("sluice_arm_tokens_total", type=kind, **labels)
            assert tokens == counts[theirs], (kind, tokens, counts)
    first_tokens = metrics.sum("sluice_arm_time_to_first_token_seconds_count")
    assert first_tokens == sum(1 for row in gateway.rows() if row["streamed"])
    check_counts(gateway, both)


def test_an_arms_errors_are_its_own(gateways, sims):
    gateway, (first, second) = pair(gateways, sims, stick="request")
    second.fault("status:503")
    for _ in range(40):
        ask(gateway, "ab")
    metrics = gateway.admin.metrics()
    good = metrics.sum("sluice_arm_requests_total", model="a", outcome="completed")
    assert good == metrics.sum("sluice_arm_requests_total", model="a") == served(first) > 0
    assert metrics.sum("sluice_arm_requests_total", model="b", outcome="completed") == 0
    assert metrics.sum("sluice_arm_requests_total", model="b") == 40 - good > 0
    second.fault("")


def arms_of(gateway, sessions):
    found = {}
    for session in sessions:
        answer = ask(gateway, "ab", {"x-session-id": session})
        found[session] = gateway.row(answer.headers["x-request-id"])["model"]
    return found


def test_a_session_keeps_its_arm_and_a_changed_weight_moves_only_what_it_must(gateways, sims):
    gateway, both = pair(gateways, sims, weights=(1, 1))
    sessions = [f"session {number}" for number in range(40)]
    first = arms_of(gateway, sessions)
    assert set(first.values()) == {"a", "b"}
    # By whichever shard, and again.
    assert arms_of(gateway, sessions) == first
    config = copy.deepcopy(gateway.config)
    config["splits"][0]["arms"][1]["weight"] = 4
    gateway.reload(config)
    second = arms_of(gateway, sessions)
    assert all(second[one] == "b" for one in sessions if first[one] == "b")
    assert list(second.values()).count("b") > list(first.values()).count("b")
    config["splits"][0]["arms"][0]["weight"] = 0
    gateway.reload(config)
    assert set(arms_of(gateway, sessions).values()) == {"b"}
    config["splits"][0]["arms"] = gateway.config["splits"][0]["arms"]
    config["splits"][0]["arms"][1]["weight"] = 1
    gateway.reload(config)
    assert arms_of(gateway, sessions) == first
    check_counts(gateway, both)


def test_a_key_keeps_its_arm(gateways, sims):
    keys = [{"name": f"key-{at}", "secret": f"env:KEY_{at}"} for at in range(8)]
    env = {f"KEY_{at}": f"secret-{at}" for at in range(8)}
    gateway, both = pair(gateways, sims, stick="key", keys=keys, env=env)
    arms = set()
    for at in range(8):
        headers = {"authorization": f"Bearer secret-{at}"}
        answers = [ask(gateway, "ab", {**headers, "x-session-id": f"s{n}"}) for n in range(5)]
        found = {gateway.row(one.headers["x-request-id"])["model"] for one in answers}
        assert len(found) == 1
        arms |= found
    assert arms == {"a", "b"}
    check_counts(gateway, both)


def test_an_alias_is_pointed_elsewhere_under_traffic(gateways, sims):
    gateway, both = pair(gateways, sims)
    statuses, stop = [], threading.Event()

    def traffic(number):
        with httpx.Client(timeout=20) as client:
            while not stop.is_set():
                body = {"model": "best", "messages": HELLO, "max_tokens": 3}
                body["stream"] = number % 2 == 0
                answer = client.post(gateway.url + "/v1/chat/completions", json=body)
                whole = number % 2 == 1 or answer.text.rstrip().endswith("[DONE]")
                statuses.append((answer.status_code, whole))

    threads = [threading.Thread(target=traffic, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    config = copy.deepcopy(gateway.config)
    for turn in range(10):
        target = "ba"[turn % 2]
        config["aliases"][0]["model"] = target
        gateway.reload(config)
        # Every request that begins now goes there.
        answer = ask(gateway, "best")
        assert gateway.row(answer.headers["x-request-id"])["model"] == target
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(statuses) > 80 and set(statuses) == {(200, True)}
    assert min(served(sim) for sim in both) > 5
    check_idle(gateway)
    check_counts(gateway, both)
