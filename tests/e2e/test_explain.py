"""Why a request went where it went."""

import json
import subprocess
import time

import httpx
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
    wrong = foretell(config, "--request", tmp_path / "3.json", "--warm", f"gpu-7={tmp_path}/2.json")
    assert wrong.returncode == 1 and "gpu-7" in wrong.stderr
    (tmp_path / "bad.json").write_text('{"model": 7}')
    wrong = foretell(config, "--request", tmp_path / "bad.json")
    assert wrong.returncode == 1 and "'model'" in wrong.stderr
