"""One server computes a prompt, another one answers; where either dies, the answer comes all the same."""

import itertools
import json
import threading
import time

import httpx
import pytest
from harness import Sim, check_idle, wait_for

MODEL = "mock-model"
_names = itertools.count()
WORDS = 1_500


def prompt(words=WORDS):
    name = f"prompt-{next(_names)}"
    return [{"role": "user", "content": " ".join(f"{name}-{word}" for word in range(words))}]


class Pools:
    """Prefill and decode servers, and a gateway that pairs them."""

    def __init__(self, gateways, protocol, prefill, decode, whole=(), **more):
        self.protocol, self.prefill, self.decode, self.whole = protocol, prefill, decode, whole
        pools = [("p", prefill), ("d", decode), ("w", whole)]
        engine = "sglang" if protocol == "sglang" else "vllm"
        endpoints = [
            {"name": f"{pool}{at}", "url": sim.url, "engine": engine, "bootstrap_port": sim.port}
            for pool, sims in pools
            for at, sim in enumerate(sims)
        ]
        names = lambda pool: [one["name"] for one in endpoints if one["name"][0] == pool]
        pair = {"model": MODEL, "protocol": protocol, "prefill": names("p"), **more.pop("pair", {})}
        if whole:
            pair["whole"] = names("w")
        more.setdefault("runtime", {"shards": 1})
        self.gateway = gateways(
            endpoints=endpoints,
            models=[{"name": MODEL, "endpoints": names("d"), "policy": "least-loaded"}],
            pairs=[pair],
            **more,
        )
        self.gateway.expected += ["endpoint is down"]

    @property
    def sims(self):
        return [*self.prefill, *self.decode, *self.whole]

    def ask(self, messages=None, stream=True, status=200, path="/v1/chat/completions", **more):
        body = {"model": MODEL, "messages": messages or prompt(), "max_tokens": 8, "stream": stream}
        body = {key: value for key, value in {**body, **more}.items() if value is not ...}
        began = time.monotonic()
        answer = httpx.post(self.gateway.url + path, json=body, timeout=30)
        self.took = time.monotonic() - began
        assert answer.status_code == status, answer.text
        return answer

    def courses(self):
        metrics = self.gateway.admin.metrics()
        samples = [one for one in metrics.samples if one[0] == "sluice_pair_requests_total"]
        return {labels["course"]: int(value) for _, labels, value in samples if value}

    def pairs(self, sim):
        return sim._call("/sim/pairs")

    def kept_tokens(self):
        """Tokens of blocks and live requests that the gateway counts."""
        return self.gateway.admin.lifecycle()["sum"]["kv_tokens"]["outstanding"]

    def check(self):
        check_idle(self.gateway)
        attempts = self.gateway.admin.metrics().sum("sluice_endpoint_attempts_total")
        assert attempts == sum(sim.counts()["requests_total"] for sim in self.sims)
        outcomes = self.gateway.admin.metrics().outcomes()
        assert not outcomes.get("panicked") and not outcomes.get("abandoned"), outcomes


@pytest.fixture
def pools(gateways, sims):
    """Makes pools: for each `(prefill, decode, whole)` numbers of servers."""

    def make(protocol, prefill=1, decode=1, whole=0, arguments=(), **more):
        def role(name):
            return ["--role", name] if protocol == "sglang" else []

        def some(count, name):
            return [sims(*role(name), *arguments) for _ in range(count)]

        return Pools(
            gateways,
            protocol,
            some(prefill, "prefill"),
            some(decode, "decode"),
            some(whole, "whole"),
            **more,
        )

    return make


def text_of(answer):
    """What was said, however it came."""
    if answer.headers["content-type"].startswith("application/json"):
        return answer.json()["choices"][0]["message"]["content"]
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def shape(protocol):
    """SGLang's servers need one beside them that does all."""
    return {"whole": 1} if protocol == "sglang" else {}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_two_servers_say_what_one_says(pools, sims, protocol, stream):
    two = pools(protocol, prefill=2, decode=2, **shape(protocol))
    alone = sims()
    for _ in range(4):
        messages = prompt()
        body = {"model": MODEL, "messages": messages, "max_tokens": 8, "stream": stream}
        expected = httpx.post(f"{alone.url}/v1/chat/completions", json=body, timeout=20)
        answer = two.ask(messages, stream)
        assert text_of(answer) == text_of(expected)
        row = two.gateway.row(answer.headers["x-request-id"])
        assert row["endpoint"].startswith("d") and row["attempts"] == 1
        assert row["prefill_endpoint"].startswith("p")
        assert row["input_tokens"] > WORDS and row["output_tokens"] == 8
    assert two.courses() == {"split": 4}
    for name, total in [("pulled", 4), ("stranded", 0)]:
        assert sum(two.pairs(sim)[name] for sim in two.decode) == total
    name = "fetched" if protocol == "nixl" else "met"
    assert sum(two.pairs(sim)[name] for sim in two.prefill) == 4
    assert all(not two.pairs(sim)["keeping"] for sim in two.prefill)
    two.check()


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_what_is_short_or_cached_goes_to_one(pools, protocol):
    two = pools(protocol, **shape(protocol))
    two.ask(prompt(20))
    assert two.courses() == {"short": 1}
    messages = prompt()
    two.ask(messages)
    assert two.courses() == {"short": 1, "split": 1}
    if protocol == "nixl":
        # The same prompt again: the server that answered has its blocks.
        time.sleep(0.1)
        two.ask(messages)
        assert two.courses() == {"short": 2, "split": 1}
    two.check()


@pytest.mark.parametrize(
    "more",
    [{"n": 2}, {"echo": True}, {"prompt_logprobs": 1}],
    ids=lambda more: next(iter(more)),
)
def test_what_two_cannot_share_goes_to_one(pools, more):
    two = pools("nixl")
    two.ask(**more)
    assert two.courses() == {"unsplittable": 1}
    two.check()


def test_many_prompts_of_one_request_are_not_split(pools):
    two = pools("nixl")
    texts = [" ".join(f"{at}-{word}" for word in range(800)) for at in range(2)]
    two.ask(path="/v1/completions", messages=..., prompt=texts)
    assert two.courses() == {"unsplittable": 1}
    two.ask(path="/v1/completions", messages=..., prompt=texts[0] + texts[1])
    assert two.courses() == {"unsplittable": 1, "split": 1}
    two.check()


@pytest.mark.parametrize(
    "name", ["kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room"]
)
def test_what_servers_tell_each_other_is_not_the_clients_to_say(pools, name):
    two = pools("nixl")
    answer = two.ask(status=400, **{name: {"remote_host": "169.254.169.254"}})
    assert answer.json()["error"]["param"] == name
    two.ask(**{name: None})
    assert two.courses() == {"split": 1}
    two.check()


@pytest.mark.parametrize("fault", ["refuse", "refuse:rst", "status:500", "429:1", "html", "oom"])
@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_a_server_that_fails_to_prefill_costs_no_answer(pools, protocol, fault):
    two = pools(protocol, **shape(protocol))
    two.prefill[0].fault(fault)
    for stream in (True, False):
        two.ask(stream=stream)
        assert two.took < 5
    assert two.courses() == {"split": 2, "fell_back": 2}
    check_idle(two.gateway)
    two.prefill[0].fault("")
    two.ask()
    assert two.courses() == {"split": 3, "fell_back": 2}
    check_idle(two.gateway)


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_a_server_that_hangs_in_prefill_is_given_up(pools, protocol):
    two = pools(protocol, pair={"prefill_seconds": 0.5}, **shape(protocol))
    two.prefill[0].fault("hang")
    two.ask()
    assert 0.4 < two.took < 3
    assert two.courses() == {"split": 1, "fell_back": 1}
    check_idle(two.gateway)
    wait_for(lambda: two.prefill[0].counts()["aborted"] == 1)


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_a_server_killed_while_it_prefills_frees_the_other(pools, protocol):
    two = pools(protocol, **shape(protocol))
    two.prefill[0].fault("delay:5000")
    killer = threading.Timer(0.5, two.prefill[0].process.kill)
    killer.start()
    two.ask()
    killer.join()
    assert 0.4 < two.took < 2
    assert two.courses() == {"split": 1, "fell_back": 1}
    check_idle(two.gateway)
    if protocol == "sglang":
        wait_for(lambda: two.decode[0].counts()["aborted"] == 1)
    # Once its probes have failed, nobody is sent there any more.
    gone = lambda: two.ask() and two.courses().get("no_prefill", 0) > 0
    wait_for(gone, timeout=20)


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_a_server_that_cannot_decode_leaves_nobody_waiting(pools, protocol):
    two = pools(protocol, decode=2, pair={"lease_seconds": 1.0}, **shape(protocol))
    two.decode[0].fault("status:503")
    two.decode[1].fault("status:503", times=1)
    if protocol == "nixl":
        # Both refuse once; the first one again, then nobody is left.
        answer = two.ask(status=503)
    else:
        answer = two.ask()
    assert two.took < 5
    if protocol == "sglang":
        wait_for(lambda: two.prefill[0].counts()["aborted"] == 1)
        assert two.gateway.row(answer.headers["x-request-id"])["endpoint"] == "w0"
    else:
        # Nobody fetched the blocks: they count for as long as the engine keeps them.
        wait_for(lambda: two.kept_tokens() > WORDS, every=0.005)
        wait_for(lambda: two.kept_tokens() == 0, timeout=5)
    check_idle(two.gateway)


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_a_server_that_hangs_with_its_blocks_is_given_up(pools, protocol):
    two = pools(protocol, pair={"prefill_seconds": 0.5}, **shape(protocol))
    two.decode[0].fault("hang-head", times=1)
    two.ask()
    assert 0.4 < two.took < 3
    assert two.courses() == {"split": 1, "fell_back": 1}
    wait_for(lambda: two.decode[0].counts()["aborted"] == 1)


def test_blocks_go_to_the_next_server_if_nobody_read_where_they_are(pools):
    two = pools("nixl", decode=2)
    # Its port stays closed, and the gateway has not noticed yet.
    two.decode[0].process.kill()
    for _ in range(4):
        two.ask()
    assert two.courses() == {"split": 4}
    assert two.pairs(two.decode[1])["pulled"] == 4
    assert two.pairs(two.prefill[0])["fetched"] == 4
    # Long before the engine's own lease would end.
    wait_for(lambda: two.kept_tokens() == 0, timeout=5)
    check_idle(two.gateway)


def test_blocks_that_cannot_be_fetched_are_computed_anew(pools):
    two = pools("nixl")
    two.decode[0].fault("delay:1000")
    killer = threading.Timer(0.5, two.prefill[0].process.kill)
    killer.start()
    answer = two.ask()
    killer.join()
    # The server that answers was refused its blocks; then it did all of it.
    row = two.gateway.row(answer.headers["x-request-id"])
    assert (row["endpoint"], row["attempts"]) == ("d0", 2) and "prefill_endpoint" not in row
    assert two.courses() == {"split": 1, "fell_back": 1}


def test_a_client_that_leaves_takes_both_with_it(pools):
    for protocol in ("nixl", "sglang"):
        two = pools(protocol, pair={"lease_seconds": 1.0}, **shape(protocol))
        two.prefill[0].fault("hang")
        with pytest.raises(httpx.ReadTimeout):
            body = {"model": MODEL, "messages": prompt(), "stream": True}
            httpx.post(f"{two.gateway.url}/v1/chat/completions", json=body, timeout=0.5)
        wait_for(lambda: two.prefill[0].counts()["aborted"] == 1)
        if protocol == "sglang":
            wait_for(lambda: two.decode[0].counts()["aborted"] == 1)
        two.check()


def test_after_the_first_event_nothing_is_tried_again(pools):
    two = pools("nixl", decode=2)
    for sim in two.decode:
        sim.fault("fin:2000")
    body = {"model": MODEL, "messages": prompt(), "max_tokens": 200, "stream": True}
    seen = []
    with pytest.raises(httpx.RemoteProtocolError):
        with httpx.stream("POST", f"{two.gateway.url}/v1/chat/completions", json=body) as answer:
            seen.extend(answer.iter_lines())
    assert "data: [DONE]" not in seen and any('"error"' in line for line in seen)
    assert sum(sim.counts()["requests_total"] for sim in two.decode) == 1
    two.check()


def test_decode_servers_that_can_do_nothing_alone_get_nothing_alone(pools):
    two = pools("sglang", prefill=2)
    two.ask(prompt(20))
    assert two.courses() == {"split": 1}
    two.ask(n=2, status=400)
    assert two.courses() == {"split": 1, "refused": 1}
    two.prefill[0].fault("status:500")
    two.prefill[1].fault("status:500")
    two.ask(status=500)
    two.prefill[0].fault("")
    for _ in range(4):
        two.ask()
    check_idle(two.gateway)


def test_a_drain_waits_for_both(pools):
    two = pools("nixl", arguments=["--realtime", "--prefill-tokens-per-second", "3000"])
    answers = []
    client = threading.Thread(target=lambda: answers.append(two.ask()))
    client.start()
    wait_for(lambda: two.prefill[0].counts()["requests_total"] == 1)
    two.gateway.stop()
    client.join()
    assert text_of(answers[0])


def test_memory_of_blocks_does_not_outlive_a_drain(pools):
    two = pools("nixl")
    two.decode[0].fault("status:503")
    two.ask(status=503)
    wait_for(lambda: two.kept_tokens() > WORDS)
    two.gateway.stop()


def test_sims_are_strict():
    """The servers refuse what the real ones would."""
    prefill, decode = Sim("--role", "prefill"), Sim("--role", "decode")
    for sim in (prefill, decode):
        body = {"model": MODEL, "messages": prompt(2)}
        assert httpx.post(f"{sim.url}/v1/chat/completions", json=body).status_code == 400
        sim.stop()
    whole = Sim()
    for wrong in ({"max_tokens": 2}, {"max_tokens": 1, "stream": True}, {"max_completion_tokens": 1}):
        body = {
            "model": MODEL,
            "messages": prompt(2),
            "kv_transfer_params": {"do_remote_decode": True},
            **wrong,
        }
        assert httpx.post(f"{whole.url}/v1/chat/completions", json=body).status_code == 400
    whole.stop()
