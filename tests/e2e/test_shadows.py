"""Shadows: requests are copied within bounds, nobody sees a copy's answer, and each side counts its own."""

import time

import httpx
import pytest
from harness import check_idle, wait_for
from harness.checks import check_rows

HELLO = [{"role": "user", "content": "Hello"}]


def ask(gateway, model="own", **more):
    body = {"model": model, "messages": HELLO, "max_tokens": 3, **more}
    return httpx.post(gateway.url + "/v1/chat/completions", json=body, timeout=20)


def served(sim):
    return sim.counts()["requests_total"]


def pair(gateways, sims, shadow_arguments=(), percent=100, **more):
    """The model `own`, whose requests are copied to `next`, on a server each."""
    both = [sims(models=("own",)), sims(*shadow_arguments, models=("next",))]
    tables = {
        "models": [
            {"name": "own", "endpoints": ["gpu-0"]},
            {"name": "next", "endpoints": ["gpu-1"]},
        ],
        "aliases": [{"name": "best", "model": "own"}],
        "shadows": [{"model": "own", "copy_to": "next", "percent": percent}],
        **more,
    }
    return gateways([sim.url for sim in both], **tables), both


def copies(gateway, result=None):
    labels = {} if result is None else {"result": result}
    return gateway.admin.metrics().sum("sluice_shadow_requests_total", **labels)


def compared(gateway, **labels):
    return gateway.admin.metrics().sum("sluice_shadow_compared_total", **labels)


def test_each_request_is_copied_and_compared(gateways, sims):
    gateway, (first, second) = pair(gateways, sims)
    for number in range(30):
        answer = ask(gateway, ("own", "best")[number % 2], stream=number % 3 == 0)
        assert answer.status_code == 200, answer.text
    wait_for(lambda: compared(gateway) == 30, 10, "the comparisons")
    # The second server knows no other name than its own.
    assert (served(first), served(second)) == (30, 30)
    assert compared(gateway, request="completed", copy="completed") == 30
    metrics = gateway.admin.metrics()
    for side, sim in (("request", first), ("copy", second)):
        counts = sim.counts()
        for kind, theirs in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            tokens = metrics.sum("sluice_shadow_tokens_total", side=side, type=kind)
            assert tokens == counts[theirs] > 0, (side, kind, tokens, counts)
        assert metrics.sum("sluice_shadow_duration_seconds_count", side=side) == 30
        firsts = metrics.sum("sluice_shadow_time_to_first_token_seconds_count", side=side)
        assert firsts == 10
    # Copies are nobody's requests.
    assert metrics.outcomes() == {"completed": 30}
    assert metrics.sum("gen_ai_client_token_usage_sum", gen_ai_token_type="output") == (
        first.counts()["completion_tokens"]
    )
    assert metrics.sum("sluice_requests_total", model="next") == 0
    assert len(gateway.rows()) == 30 and {row["model"] for row in gateway.rows()} == {"own"}
    check_rows(gateway)
    check_idle(gateway)


@pytest.mark.parametrize("fault, verdict", [
    ("status:500", "failed"), ("status:400", "rejected"), ("refuse", "failed"), ("html", "failed"),
])
def test_a_failing_shadow_harms_nobody(gateways, sims, fault, verdict):
    gateway, (first, second) = pair(gateways, sims)
    second.fault(fault)
    for number in range(10):
        assert ask(gateway, stream=number % 2 == 0).status_code == 200
    wait_for(lambda: compared(gateway) == 10, 10, "the comparisons")
    assert compared(gateway, request="completed", copy=verdict) == 10
    assert served(first) == 10 and gateway.admin.metrics().outcomes() == {"completed": 10}
    check_idle(gateway)
    second.fault("")


def test_a_hanging_shadow_delays_nobody_and_goes_first_in_a_drain(gateways, sims):
    limits = {"shadow_requests_per_shard_max": 3}
    gateway, (first, second) = pair(gateways, sims, limits=limits)
    second.fault("hang")
    began = time.monotonic()
    for _ in range(40):
        assert ask(gateway, stream=True).status_code == 200
    assert time.monotonic() - began < 10
    # At most so many of each shard are under way, and the others were dropped.
    sent, dropped = copies(gateway, "sent"), copies(gateway, "dropped_requests")
    assert 3 <= sent <= 6 and sent + dropped == 40 == served(first)
    held = gateway.admin.lifecycle()["sum"]
    assert held["shadow_copy"]["outstanding"] == sent and held["shadow_bytes"]["outstanding"] > 0
    began = time.monotonic()
    gateway.stop()
    assert time.monotonic() - began < 5


def test_copies_have_a_rate_and_a_share_and_bytes(gateways, sims):
    limits = {"shadow_requests_per_second_max": 2, "shadow_bytes_per_shard_max": 65536}
    gateway, (first, second) = pair(gateways, sims, limits=limits)
    began = time.monotonic()
    for _ in range(60):
        assert ask(gateway).status_code == 200
    took = time.monotonic() - began
    sent, dropped = copies(gateway, "sent"), copies(gateway, "dropped_rate")
    # Two at once and two more with each second, on each of two shards.
    assert 2 <= sent <= 2 * (2 + 2 * took) + 2 and sent + dropped == 60
    large = [{"role": "user", "content": "x" * 100_000}]
    assert ask(gateway, messages=large).status_code == 200
    assert copies(gateway, "dropped_bytes") == 1
    wait_for(lambda: served(second) == copies(gateway, "sent"), 5, "the copies")
    check_idle(gateway)


def test_a_share_is_copied(gateways, sims):
    limits = {"shadow_requests_per_second_max": 100000, "shadow_requests_per_shard_max": 1000}
    gateway, (first, second) = pair(gateways, sims, percent=25, limits=limits)
    for _ in range(200):
        assert ask(gateway).status_code == 200
    wait_for(lambda: served(second) == copies(gateway), 5, "the copies")
    # 50 expected; five deviations are 31.
    assert 19 <= served(second) <= 81
    assert served(first) == 200 and copies(gateway, "sent") == copies(gateway)
    check_idle(gateway)
