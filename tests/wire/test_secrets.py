"""Planted secrets are found nowhere: not in logs, metrics, admin pages, error bodies, or what `check` prints."""

import asyncio
import subprocess
from pathlib import Path

from lib.endpoint import STREAM_HEAD, Endpoint, answer, chunk, delta
from lib.process import Gateway, binary, get
from lib.sock import post

PATH = "/v1/chat/completions"
SECRETS = {
    "CLIENT": "sk-client-4d1f6a90b7",
    "PROVIDER": "sk-provider-77e0c35d21",
    "HEADER": "header-secret-91ab3f02cc",
}
FILE_SECRET = "sk-file-c0ffee5521"
WRONG = "sk-wrong-5b5b5b0101"
CONTENT = "the-patients-name-8842"


async def test_secrets(driver):
    got = []

    async def handle(conn, number):
        while request := await conn.request(60):
            got.append(request)
            match request.header("x-case"):
                case "401":
                    said = {"error": {"message": f"Incorrect API key provided: {SECRETS['PROVIDER']}"}}
                    await conn.send(answer(said, "401 Unauthorized", f"www-authenticate: {SECRETS['PROVIDER']}"))
                case "dies":
                    return
                case "broken":
                    await conn.send(STREAM_HEAD + chunk(delta("a")))
                    await asyncio.sleep(0.05)
                    return
                case _:
                    await conn.send(answer())

    async with Endpoint(handle) as endpoint:
        table = {"api_key": "env:PROVIDER"}
        gateway = Gateway(
            driver, [endpoint], endpoint=table, environment=SECRETS, keys={"one": "env:CLIENT", "two": "file:key"}
        )
        config = gateway.place / "sluice.toml"
        (gateway.place / "key").write_text(FILE_SECRET + "\n")
        text = config.read_text().replace(
            'api_key = "env:PROVIDER"', 'api_key = "env:PROVIDER"\nheaders = { "x-team" = "env:HEADER" }'
        )
        config.write_text(text)
        shown = []
        async with gateway:
            key = f"authorization: Bearer {SECRETS['CLIENT']}"
            ask = {"model": "m", "messages": [{"role": "user", "content": CONTENT}]}
            sent = [
                (post(PATH, ask, key), 200),
                (post(PATH, ask, f"x-api-key: {FILE_SECRET}"), 200),
                (post("/v1/messages", ask, f"x-api-key: {FILE_SECRET}"), 200),
                (post(PATH, ask, f"authorization: Bearer {WRONG}"), 401),
                (post(PATH, ask, f"x-api-key: {WRONG}"), 401),
                (post("/v1/messages", ask, f"x-api-key: {WRONG}"), 401),
                (post(PATH, ask, f"authorization: Basic {SECRETS['CLIENT']}"), 401),
                (post(f"/v1/nothing?key={SECRETS['CLIENT']}", ask, key), 404),
                (post(PATH, {**ask, "model": "nope"}, key), 404),
                (post(PATH, b'{"model":"m","messages":' + CONTENT.encode(), key), 400),
                (post(PATH, ask, key, "x-case: 401"), 502),
                (post(PATH, ask, key, "x-case: dies"), 502),
                (post(PATH, {**ask, "stream": True}, key, "x-case: broken"), 200),
                # Not lawful, with the credential in the line at fault.
                (post(PATH, ask, f"authorization: Bearer {SECRETS['CLIENT']}\0"), 400),
                (post(PATH, ask, key, key), 400),
                (post(PATH, ask, f"authorization : Bearer {SECRETS['CLIENT']}"), 400),
            ]
            for data, status in sent:
                async with await gateway.conn() as conn:
                    await conn.send(data)
                    raw = await conn.head()
                    assert raw.status == status, (data[:200], raw)
                    await conn.body(raw)
                    shown.append(repr(raw.headers).encode() + raw.body)
            assert any(request.header("authorization") == f"Bearer {SECRETS['PROVIDER']}" for request in got)
            assert any(request.header("x-api-key") == SECRETS["PROVIDER"] for request in got)
            assert all(request.header("x-team") == SECRETS["HEADER"] for request in got)
            for request in got:
                for secret in (SECRETS["CLIENT"], FILE_SECRET):
                    assert secret not in repr(request.headers), "a client's key reached the endpoint"
            for path in ("/healthz", "/readyz", "/readyz?model=m", "/metrics", "/debug/lifecycle", "/", "/nothing"):
                shown.append((await get(gateway.admin, path))[1])
            # A reload of a file that is wrong quotes its lines.
            config.write_text(text + '\nfault = "here"\n[[keys]]\nname = "three"\nsecret = "env:MISSING"\n')
            await gateway.said(gateway.errors, "configuration refused", 10)
            shown.append(b"".join(checked(config)))
            config.write_text(text)
            shown.append(b"".join(checked(config)))
            await gateway.check()
            logs = [file.read_bytes() for file in files(gateway) if file.name not in ("key", "sluice.toml")]
            assert sum(map(len, logs)) > 1_000
            for secret in (*SECRETS.values(), FILE_SECRET, WRONG, CONTENT):
                for text in shown + logs:
                    at = text.find(secret.encode())
                    assert at < 0, f"{secret} is told: {text[max(0, at - 200) : at + 100]!r}"
            gateway.check = nothing


async def nothing():
    """Has been checked already."""


def files(gateway):
    return [file for file in Path(gateway.place).rglob("*") if file.is_file()]


def checked(config):
    done = subprocess.run(
        [binary("sluice"), "check", "--config", config], capture_output=True, env={**SECRETS}, timeout=20, check=False
    )
    return done.stdout, done.stderr
