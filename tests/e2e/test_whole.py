"""Servers that do all of a request beside a model's pairs: who gets what, and who waits for whom."""

import threading
import time

import httpx
import pytest
from test_queue import metric, wait, waiting
from test_room import PREFILL, at_once, endpoint

MODEL = "mock-model"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
IMAGE = [{"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.fixture
def fleet(gateways, sims):
    """`d0` answers for `p0`, and `w0` does all; `more`: tables of each."""

    def make(arguments=(), protocol="nixl", **more):
        sglang = protocol == "sglang"
        roles = {"d0": ["--role", "decode"], "p0": ["--role", "prefill"]} if sglang else {}
        names, engine = ("d0", "p0", "w0"), "sglang" if sglang else "vllm"
        servers = {name: sims(*arguments, *roles.get(name, ())) for name in names}
        some = lambda name: endpoint(name, servers[name], **{"engine": engine, **more.get(name, {})})
        pair = {"model": MODEL, "protocol": protocol, "prefill": ["p0"], "whole": ["w0"]}
        gateway = gateways(
            runtime={"shards": 1},
            endpoints=[some(name) for name in names],
            models=[{"name": MODEL, "endpoints": ["d0"]}],
            pairs=[{**pair, **more.get("pair", {})}],
        )
        gateway.servers = servers
        return gateway

    return make


def post(gateway, content="short", tokens=4, **more):
    message = {"role": "user", "content": content}
    body = {"model": MODEL, "messages": [message], "max_tokens": tokens, "stream": True, **more}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=30)


def legs(gateway, answer):
    """Who answered, and who computed the prompt."""
    assert answer.status_code == 200, answer.text
    row = gateway.row(answer.headers["x-request-id"])
    return row["endpoint"], row.get("prefill_endpoint")


def words(count):
    return f"{time.monotonic_ns()} " + "word " * count


def test_what_the_one_cannot_do_two_do(fleet):
    gateway = fleet(w0={"capabilities": ["vision"]})
    assert legs(gateway, post(gateway)) == ("w0", None)
    assert legs(gateway, post(gateway, tools=TOOLS)) == ("d0", "p0")
    # Nobody can: two must not, and the one that may lacks tools.
    refused = post(gateway, tools=TOOLS, n=2)
    assert refused.status_code == 400 and "tools" in refused.text


def test_what_is_too_long_for_the_one_two_do(fleet):
    gateway = fleet(w0={"context_tokens_max": 500}, pair={"uncached_tokens_min": 100_000})
    assert legs(gateway, post(gateway)) == ("w0", None)
    assert legs(gateway, post(gateway, words(4_000))) == ("d0", "p0")


@pytest.mark.parametrize("lacking", ["p0", "d0"])
def test_what_two_cannot_do_the_one_does(fleet, lacking):
    gateway = fleet(**{lacking: {"capabilities": ["tools"]}})
    assert legs(gateway, post(gateway, words(4_000))) == ("d0", "p0")
    assert legs(gateway, post(gateway, [{"type": "text", "text": words(4_000)}, *IMAGE])) == ("w0", None)


def test_a_prompt_too_long_for_who_computes_prompts_is_not_sent_there(fleet):
    gateway = fleet(p0={"context_tokens_max": 500})
    assert legs(gateway, post(gateway, words(4_000))) == ("w0", None)


def test_where_all_lack_it_the_client_is_told(fleet):
    lacking = {"capabilities": ["tools"]}
    gateway = fleet(d0=lacking, p0=lacking, w0=lacking)
    answer = post(gateway, IMAGE)
    assert answer.status_code == 400 and "images" in answer.text


def test_who_falls_back_goes_to_who_can_do_it(fleet):
    gateway = fleet(w0={"capabilities": ["vision"]})
    gateway.servers["p0"].fault("status:500")
    # Nobody can do it in their place; the one that can do most of it is not asked.
    assert post(gateway, words(4_000), tools=TOOLS).status_code >= 500
    assert gateway.servers["w0"].counts()["requests_total"] == 0
    assert legs(gateway, post(gateway, words(4_000)))[0] == "w0"


def test_what_one_does_alone_waits_for_that_one(fleet):
    gateway = fleet(PREFILL, w0={"requests_max": 1})
    results = []
    ask = lambda: results.append(post(gateway, tokens=40))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait(lambda: waiting(gateway) == 3)
    # A long one does not wait for it.
    assert legs(gateway, post(gateway, words(3_000))) == ("d0", "p0")
    assert waiting(gateway) > 0
    for thread in threads:
        thread.join()
    assert {legs(gateway, answer) for answer in results} == {("w0", None)}
    assert sum(row.get("queued_ms", 0) > 0 for row in gateway.rows()) == 3
    assert waiting(gateway) == metric(gateway, "sluice_endpoint_places_used") == 0


def test_what_one_does_alone_does_not_wait_for_two(fleet):
    gateway = fleet(PREFILL, d0={"requests_max": 1})
    long = threading.Thread(target=lambda: post(gateway, words(3_000), tokens=200))
    long.start()
    wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 1)
    second = threading.Thread(target=lambda: post(gateway, words(3_000), tokens=4))
    second.start()
    wait(lambda: waiting(gateway) == 1)
    answer = post(gateway)
    assert legs(gateway, answer) == ("w0", None) and waiting(gateway) == 1
    for thread in (long, second):
        thread.join()
    assert waiting(gateway) == metric(gateway, "sluice_endpoint_places_used") == 0


@pytest.mark.parametrize("shards", [1, 2])
def test_long_and_short_get_their_places_and_no_more(gateways, sims, shards):
    servers = {name: sims(*PREFILL) for name in ("d0", "p0", "w0")}
    gateway = gateways(
        runtime={"shards": shards},
        endpoints=[endpoint(name, sim, requests_max=2) for name, sim in servers.items()],
        models=[{"name": MODEL, "endpoints": ["d0"]}],
        pairs=[{"model": MODEL, "protocol": "nixl", "prefill": ["p0"], "whole": ["w0"]}],
    )
    results = []
    short = [threading.Thread(target=lambda: results.append(post(gateway, tokens=20))) for _ in range(10)]
    for thread in short:
        thread.start()
    most = at_once(gateway, [MODEL] * 10, ["d0", "p0", "w0"], others=10)
    for thread in short:
        thread.join()
    assert [answer.status_code for answer in results] == [200] * 10
    assert all(0 < one <= 2 for one in most.values()), most


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_who_finds_no_place_to_fall_back_to_is_told_when_to_come_again(fleet, protocol):
    gateway = fleet(PREFILL, protocol, w0={"requests_max": 1})
    gateway.servers["p0"].fault("status:500")
    short = threading.Thread(target=lambda: post(gateway, tokens=200))
    short.start()
    wait(lambda: metric(gateway, "sluice_endpoint_places_used") == 1)
    answer = post(gateway, words(3_000))
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "saturated"
    assert int(answer.headers["retry-after"]) >= 1
    short.join()


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_who_fell_back_counts_where_it_went(fleet, protocol):
    gateway = fleet(PREFILL, protocol)
    gateway.servers["p0"].fault("status:500")
    counted = lambda name: metric(gateway, f"sluice_endpoint_{name}", endpoint="w0")
    request = threading.Thread(target=lambda: post(gateway, words(3_000), tokens=100))
    request.start()
    wait(lambda: counted("context_tokens") > 3_000 and counted("in_flight") == 1)
    request.join()
    for name in ("in_flight", "context_tokens", "prefill_tokens"):
        wait(lambda: counted(name) == 0)


def test_dead_prefill_servers_cost_other_models_no_retries(gateways, sims):
    prefill, decode, whole = sims("--role", "prefill"), sims("--role", "decode"), sims()
    broken, sound = sims(), sims()
    prefill.fault("status:500")
    broken.fault("status:503")
    gateway = gateways(
        runtime={"shards": 1},
        endpoints=[
            endpoint("p0", prefill, engine="sglang"),
            endpoint("d0", decode, engine="sglang"),
            endpoint("w0", whole, engine="sglang"),
            endpoint("b0", broken),
            endpoint("s0", sound),
        ],
        models=[
            {"name": MODEL, "endpoints": ["d0"]},
            {"name": "other", "endpoints": ["b0", "s0"], "policy": "round-robin", "upstream_model": MODEL},
        ],
        pairs=[{"model": MODEL, "protocol": "sglang", "prefill": ["p0"], "whole": ["w0"]}],
    )
    # More than a shard saves up for.
    for _ in range(140):
        assert legs(gateway, post(gateway, words(2_000))) == ("w0", None)
    for _ in range(8):
        assert post(gateway, model="other").status_code == 200
    assert broken.counts()["requests_total"] > 0
