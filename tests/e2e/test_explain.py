"""Why a request went where it went."""

import json
import subprocess
import time

import httpx
import pytest
from harness.process import binary
from test_routing import CONFIG, MODEL, SIMS, ask, conversation, fresh  # noqa: F401


def why(gateway, request_id):
    answer = httpx.get(f"{gateway.admin.url}/debug/route", params={"request_id": request_id})
    return answer.status_code, answer.json()


def test_a_past_request_is_explained(stack):
    name = fresh()
    for turns in (1, 2, 3):
        row = ask(stack.gateway, conversation(name, turns))
    until = time.monotonic() + 5
    while (answer := why(stack.gateway, row["request_id"]))[0] != 200:
        assert time.monotonic() < until, answer
        time.sleep(0.02)
    told = answer[1]
    assert told["model"] == MODEL and told["endpoint"] == row["endpoint"]
    assert told["reason"] == row["route"] and told["policy"] == "predicted-ttft"
    assert {line["endpoint"] for line in told["ranking"]} == {"gpu-0", "gpu-1"}
    assert told["candidates"] == 2 and told["ranking"][0]["endpoint"] == row["endpoint"]
    assert told["expected"]["cached_tokens"] == row["expected_cached_tokens"]
    assert told["got"]["cached_tokens"] == row["cached_tokens"]
    assert why(stack.gateway, "never-seen")[0] == 404
    assert httpx.get(f"{stack.gateway.admin.url}/debug/route").status_code == 400


def told_of(gateway, row):
    until = time.monotonic() + 5
    while (answer := why(gateway, row["request_id"]))[0] != 200:
        assert time.monotonic() < until, answer
        time.sleep(0.02)
    return answer[1]


ARMS = [{"model": "a", "weight": 3}, {"model": "b", "weight": 1}]


@pytest.mark.parametrize("policy", ["predicted-ttft", "round-robin"])
def test_a_split_tells_its_arms(gateways, sims, policy):
    urls = [sims(models=("a", "b")).url for _ in range(2)]
    ends = ["gpu-0", "gpu-1"]
    models = [{"name": name, "endpoints": ends, "policy": policy} for name in "ab"]
    splits = [{"name": "ab", "stick": "session", "arms": ARMS}]
    aliases = [{"name": "any", "model": "ab"}, {"name": "best", "model": "a"}]
    gateway = gateways(urls, models=models, splits=splits, aliases=aliases)
    hello = [{"role": "user", "content": "Hello"}]
    for asked, headers, by in [
        ("ab", {"x-session-id": "one"}, "session"),
        ("ab", {}, "chance"),
        ("any", {"x-session-id": "one"}, "session"),
    ]:
        row = ask(gateway, hello, headers, model=asked)
        told = told_of(gateway, row)
        assert told["split"] == {"name": "ab", "drawn_by": by, "arms": ARMS}
        assert (told["model"], told["asked_model"]) == (row["model"], asked)
        assert told["endpoint"] == row["endpoint"] and told["reason"] == row["route"]
        assert told["candidates"] == len(told["ranking"]) == (2 if policy != "round-robin" else 0)
    if policy == "predicted-ttft":
        told = told_of(gateway, ask(gateway, hello, model="best"))
        assert told["asked_model"] == "best" and "split" not in told
        assert "asked_model" not in told_of(gateway, ask(gateway, hello, model="a"))


@pytest.mark.parametrize("protocol", ["nixl", "sglang"])
def test_a_pair_tells_who_prefills(gateways, sims, protocol):
    role = lambda name: ["--role", name] if protocol == "sglang" else []
    servers = [sims(*role("prefill")), sims(*role("prefill")), sims(*role("decode")), sims()]
    names = ["p0", "p1", "d0", "w0"]
    engine = "sglang" if protocol == "sglang" else "vllm"
    endpoints = [
        {"name": name, "url": sim.url, "engine": engine, "bootstrap_port": sim.port}
        for name, sim in zip(names, servers, strict=True)
    ]
    pairs = [{"model": MODEL, "protocol": protocol, "prefill": ["p0", "p1"], "whole": ["w0"]}]
    models = [{"name": MODEL, "endpoints": ["d0"]}]
    keys = [{"name": "operator", "secret": "env:OPERATOR", "explain": True}]
    env = {"OPERATOR": "key-of-the-operator"}
    gateway = gateways(endpoints=endpoints, models=models, pairs=pairs, keys=keys, env=env)
    headers = {"authorization": "Bearer key-of-the-operator"}
    row = ask(gateway, conversation(fresh(), 6), headers)
    told = told_of(gateway, row)
    pair = told["pair"]
    assert (pair["course"], pair["prefill"]) == ("split", row["prefill_endpoint"])
    assert pair["uncached_tokens"] >= pair["uncached_tokens_min"] == 1024
    assert {line["endpoint"] for line in pair["ranking"]} == {"p0", "p1"}
    assert pair["candidates"] == 2 and told["endpoint"] == "d0"
    row = ask(gateway, [{"role": "user", "content": "Hello"}], headers)
    told = told_of(gateway, row)
    assert told["pair"]["course"] == "short" and "prefill" not in told["pair"]
    assert told["pair"]["uncached_tokens"] < 1024 and told["pair"]["ranking"] == []
    assert told["endpoint"] == told["ranking"][0]["endpoint"] == "w0"
    for server in servers[:2]:
        server.fault("refuse")
    body = {"model": MODEL, "messages": conversation(fresh(), 6), "max_tokens": 2}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers)
    header = json.loads(answer.headers["x-sluice-route"])
    assert answer.status_code == 200 and header["pair"]["course"] in ("fell_back", "no_prefill")
    assert "prefill" not in header["pair"]


def test_only_keys_that_may_see_it_do(gateways, sims):
    sim_urls = [sims().url, sims().url]
    keys = [
        {"name": "operator", "secret": "env:OPERATOR", "explain": True},
        {"name": "tenant", "secret": "env:TENANT"},
    ]
    models = [{"name": MODEL, "endpoints": ["gpu-0", "gpu-1"]}]
    env = {"OPERATOR": "key-of-the-operator", "TENANT": "key-of-a-tenant"}
    gateway = gateways(sim_urls, keys=keys, models=models, env=env)
    body = {"model": MODEL, "messages": conversation(fresh(), 1), "max_tokens": 2}
    for stream in (False, True):
        for secret, sees in ((env["OPERATOR"], True), (env["TENANT"], False)):
            answer = httpx.post(
                f"{gateway.url}/v1/chat/completions",
                json={**body, "stream": stream},
                headers={"authorization": f"Bearer {secret}"},
            )
            assert answer.status_code == 200
            told = answer.headers.get("x-sluice-route")
            assert (told is not None) == sees
            if sees:
                assert {one["endpoint"] for one in json.loads(told)["ranking"]} == {"gpu-0", "gpu-1"}


def test_the_header_says_who_answered(gateways, sims):
    broken, sound = sims(), sims()
    broken.fault("status:503")
    keys = [{"name": "operator", "secret": "env:OPERATOR", "explain": True}]
    models = [{"name": MODEL, "endpoints": ["gpu-0", "gpu-1"], "policy": "cheapest"}]
    endpoints = [
        {"name": name, "url": sim.url, "engine": "vllm", "price": price}
        for name, sim, price in (("gpu-0", broken, 1), ("gpu-1", sound, 900))
    ]
    env = {"OPERATOR": "key-of-the-operator"}
    gateway = gateways(endpoints=endpoints, models=models, keys=keys, env=env)
    gateway.expected += ["endpoint is down"]
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json={"model": MODEL, "messages": conversation(fresh(), 1), "max_tokens": 2},
        headers={"authorization": "Bearer key-of-the-operator"},
    )
    told = json.loads(answer.headers["x-sluice-route"])
    assert answer.status_code == 200
    assert (told["endpoint"], told["ranking"][0]["endpoint"]) == ("gpu-1", "gpu-0")


def foretell(config, *arguments):
    argv = [binary("sluice"), "route", "--config", str(config), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


def test_offline(tmp_path):
    config = tmp_path / "sluice.toml"
    config.write_text(
        "\n".join(
            [
                '[server]\nlisten = "127.0.0.1:8080"',
                *(
                    f'[[endpoints]]\nname = "gpu-{at}"\nurl = "http://127.0.0.1:90{at:02}"\nengine = "vllm"'
                    for at in range(3)
                ),
                f'[[models]]\nname = "{MODEL}"\nendpoints = ["gpu-0", "gpu-1", "gpu-2"]',
            ]
        )
    )
    name = fresh()
    for turns in (2, 3):
        body = {"model": MODEL, "messages": conversation(name, turns)}
        (tmp_path / f"{turns}.json").write_text(json.dumps(body))
    cold = foretell(config, "--request", tmp_path / "3.json")
    assert cold.returncode == 0, cold.stderr
    assert json.loads(cold.stdout)["ranking"][0]["cached_tokens"] == 0
    for at in range(3):
        warm = foretell(config, "--request", tmp_path / "3.json", "--warm", f"gpu-{at}={tmp_path}/2.json")
        told = json.loads(warm.stdout)
        assert told["endpoint"] == f"gpu-{at}" and told["reason"] == "warm", told
        assert told["ranking"][0]["cached_tokens"] > 500
    twice = foretell(config, "--request", tmp_path / "3.json", "--key", "nobody")
    assert twice.returncode == 1 and "nobody" in twice.stderr
    wrong = foretell(config, "--request", tmp_path / "3.json", "--warm", f"gpu-7={tmp_path}/2.json")
    assert wrong.returncode == 1 and "gpu-7" in wrong.stderr
    (tmp_path / "bad.json").write_text('{"model": 7}')
    wrong = foretell(config, "--request", tmp_path / "bad.json")
    assert wrong.returncode == 1 and "'model'" in wrong.stderr and "bad.json: " in wrong.stderr
    wrong = foretell(config, "--request", tmp_path / "3.json", "--path", "/v1/chat")
    assert wrong.returncode == 1 and "/v1/chat/completions, " in wrong.stderr


def test_what_generates_nothing_is_expected_to_have_no_output(tmp_path):
    config = plan(tmp_path, f'[[models]]\nname = "{MODEL}"\nendpoints = ["d0", "d1"]')
    body = {"model": MODEL, "input": "hi", "query": "hi", "documents": ["ho"], "messages": []}
    (tmp_path / "body.json").write_text(json.dumps({**body, "max_tokens": 7}))
    for path, output in (
        ("embeddings", 0),
        ("rerank", 0),
        ("messages/count_tokens", 0),
        ("messages", 7),
        ("responses", 256),
    ):
        told = foretell(config, "--request", tmp_path / "body.json", "--path", f"/v1/{path}")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["expected"]["output_tokens"] == output, path


def test_where_there_are_keys_one_must_be_named(tmp_path):
    (tmp_path / "secret").write_text("the secret of a key, long enough")
    model = f'[[models]]\nname = "{MODEL}"\nendpoints = ["d0", "d1"]'
    key = '[[keys]]\nname = "team-a"\nsecret = "file:secret"'
    (tmp_path / "chat.json").write_text(json.dumps({"model": MODEL, "messages": []}))
    asked = ["--request", tmp_path / "chat.json"]
    config = plan(tmp_path, model, key)
    for wrong in ([], ["--key", "team-b"]):
        told = foretell(config, *asked, *wrong)
        assert told.returncode == 1 and "--key with one of team-a" in told.stderr, told.stderr
    assert foretell(config, *asked, "--key", "team-a").returncode == 0
    told = foretell(plan(tmp_path, model), *asked, "--key", "team-a")
    assert told.returncode == 1 and "leave --key out" in told.stderr


def plan(tmp_path, *tables):
    config = tmp_path / "sluice.toml"
    endpoints = [
        f'[[endpoints]]\nname = "{name}"\nurl = "http://127.0.0.1:90{at:02}"\nengine = "vllm"'
        for at, name in enumerate(["d0", "d1", "p0", "p1", "w0"])
    ]
    config.write_text("\n".join(['[server]\nlisten = "127.0.0.1:8080"', *endpoints, *tables]))
    return config


def asked(tmp_path, config, messages, *arguments, model=MODEL):
    (tmp_path / "asked.json").write_text(json.dumps({"model": model, "messages": messages}))
    told = foretell(config, "--request", tmp_path / "asked.json", *arguments)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_splits_offline(tmp_path):
    tables = [
        f'[[models]]\nname = "{name}"\nendpoints = ["d0", "d1"]\npolicy = "{policy}"'
        for name, policy in (("a", "least-loaded"), ("b", "round-robin"))
    ]
    arms = "arms = [{ model = 'a', weight = 3 }, { model = 'b', weight = 1 }]"
    tables += [f'[[splits]]\nname = "ab"\n{arms}', '[[aliases]]\nname = "any"\nmodel = "ab"']
    config = plan(tmp_path, *tables)
    hello = [{"role": "user", "content": "Hello"}]
    told = asked(tmp_path, config, hello, model="any")
    assert told["split"] == {"name": "ab", "drawn_by": "chance", "arms": ARMS}
    assert (told["model"], told["asked_model"]) == ("a", "any")
    drawn = [asked(tmp_path, config, hello, "--session", str(s), model="ab") for s in range(24)]
    assert {one["split"]["drawn_by"] for one in drawn} == {"session"}
    models = [one["model"] for one in drawn]
    assert set(models) == {"a", "b"}
    again = [asked(tmp_path, config, hello, "--session", str(s), model="ab") for s in range(4)]
    assert [one["model"] for one in again] == models[:4]


def test_pairs_offline(tmp_path):
    pair = f'[[pairs]]\nmodel = "{MODEL}"\nprotocol = "nixl"\nprefill = ["p0", "p1"]\nwhole = ["w0"]'
    config = plan(tmp_path, f'[[models]]\nname = "{MODEL}"\nendpoints = ["d0", "d1"]', pair)
    long = conversation(fresh(), 6)
    told = asked(tmp_path, config, long)
    assert told["pair"]["course"] == "split" and told["pair"]["prefill"] in ("p0", "p1")
    assert {line["endpoint"] for line in told["pair"]["ranking"]} == {"p0", "p1"}
    assert told["endpoint"] in ("d0", "d1")
    (tmp_path / "long.json").write_text(json.dumps({"model": MODEL, "messages": long}))
    told = asked(tmp_path, config, long, "--warm", f"p1={tmp_path}/long.json")
    assert told["pair"]["prefill"] == "p1"
    told = asked(tmp_path, config, long, "--warm", f"d1={tmp_path}/long.json")
    assert told["pair"]["course"] == "short" and told["endpoint"] == "w0"


def test_isolation_offline(tmp_path):
    """What `sluice route` says of an isolated key's requests."""
    names = ["a", "open", "isolation"]
    for name in names:
        (tmp_path / name).write_text(f"the secret of {name}, long enough")
    tables = [
        f'[[keys]]\nname = "{name}"\nsecret = "file:{name}"\nisolate = {str(name == "a").lower()}'
        for name in names[:2]
    ]
    tables += [
        '[routing]\nisolation_secret = "file:isolation"',
        '[[endpoints]]\nname = "blind"\nurl = "http://127.0.0.1:9100"\nengine = "generic"',
        f'[[models]]\nname = "{MODEL}"\nendpoints = ["d0", "d1", "blind"]',
        '[[models]]\nname = "local"\nendpoints = ["blind"]',
        '[[models]]\nname = "two"\nendpoints = ["d0", "d1"]',
        '[[pairs]]\nmodel = "two"\nprotocol = "nixl"\nprefill = ["blind"]\nwhole = ["blind"]',
    ]
    config = plan(tmp_path, *tables)
    talk = conversation(fresh(), 3)
    (tmp_path / "talk.json").write_text(json.dumps({"model": MODEL, "messages": talk}))
    ranked = lambda told: {line["endpoint"] for line in told["ranking"]}  # noqa: E731
    assert ranked(asked(tmp_path, config, talk, "--key", "a")) == {"d0", "d1"}
    assert ranked(asked(tmp_path, config, talk, "--key", "open")) == {"d0", "d1", "blind"}
    warm = ["--warm", f"d1={tmp_path}/talk.json"]
    told = asked(tmp_path, config, talk, "--key", "a", *warm)
    assert (told["endpoint"], told["reason"]) == ("d1", "warm")
    for model, path in (("local", "chat/completions"), ("two", "chat/completions"), (MODEL, "messages")):
        (tmp_path / "no.json").write_text(
            json.dumps({"model": model, "messages": talk, "max_tokens": 2})
        )
        arguments = ["--request", tmp_path / "no.json", "--path", f"/v1/{path}"]
        told = foretell(config, *arguments, "--key", "a")
        assert told.returncode == 1 and "isolated tenants" in told.stderr, (model, told)
        assert foretell(config, *arguments, "--key", "open").returncode == 0, (model, path)


def test_offline_and_gateway_refuse_the_same(gateways, sims, tmp_path):
    """Who lacks an ability or is too short is not chosen, and where nobody can both say the same."""
    policies = ["predicted-ttft", "least-loaded", "round-robin", "consistent-hash"]
    names = (*policies, "plain")
    lengths = [["--max-model-len", "3000"], ["--max-model-len", "1500"], []]
    servers = [sims(*length, models=names) for length in lengths]
    traits = [
        {"capabilities": ["vision"], "context_tokens_max": 3000},
        {"capabilities": ["tools"], "context_tokens_max": 1500},
        {"capabilities": []},
    ]
    endpoints = [
        {"name": f"gpu-{at}", "url": sim.url, "engine": "vllm", **traits[at]}
        for at, sim in enumerate(servers)
    ]
    ends = ["gpu-0", "gpu-1"]
    models = [{"name": policy, "endpoints": ends, "policy": policy} for policy in policies]
    models.append({"name": "plain", "endpoints": ["gpu-2"]})
    gateway = gateways(endpoints=endpoints, models=models)
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    hello = {"role": "user", "content": "Hello"}
    schema = {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}}
    long = lambda words: [{"role": "user", "content": "word " * words}]  # noqa: E731
    cases = [
        # First, while a gateway knows as little of the model's tokens.
        (long(20_000), {}, "maximum context length is 3000 tokens"),
        (long(2000), {}, {"gpu-0"}),
        ([hello], tools, {"gpu-1"}),
        ([{"role": "user", "content": [image]}], {}, {"gpu-0"}),
        ([hello], {"max_tokens": 2000}, {"gpu-0"}),
        ([hello], {}, {"gpu-0", "gpu-1"}),
        ([hello], schema, "supports a JSON schema"),
        ([{"role": "user", "content": [image]}], tools, "supports"),
    ]
    asking = [(name, *case) for name in policies for case in cases] + [
        ("plain", [hello], tools, "supports tools"),
        ("plain", [hello], {}, {"gpu-2"}),
    ]
    for model, messages, more, wanted in asking:
        body = {"model": model, "messages": messages, "max_tokens": 4, **more}
        (tmp_path / "asked.json").write_text(json.dumps(body))
        told = foretell(gateway.file, "--request", tmp_path / "asked.json")
        sent, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        url = f"{gateway.url}/v1/chat/completions"
        answer = httpx.post(url, content=sent, headers=headers, timeout=20)
        case = (model, more, wanted, told, answer.text)
        if isinstance(wanted, str):
            assert answer.status_code == 400 and told.returncode == 1, case
            message = answer.json()["error"]["message"]
            assert wanted in message and message in told.stderr, case
            continue
        assert answer.status_code == 200 and told.returncode == 0, case
        foretold = json.loads(told.stdout)
        ranked = lambda told: {line["endpoint"] for line in told["ranking"]}  # noqa: E731
        past = told_of(gateway, {"request_id": answer.headers["x-request-id"]})
        assert ranked(foretold) == ranked(past) == wanted, (case, past)
        assert foretold["endpoint"] in wanted and past["endpoint"] in wanted, case
