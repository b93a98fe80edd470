"""What passes through, what stays, what is made: seen by the upstream and by the client."""

import re

import httpx
import pytest
from harness import Gateway, Upstream, json_answer, settle
from harness.upstream import ANSWER

BODY = {"model": "mock-model", "messages": [{"role": "user", "content": "Hello"}]}
PROVIDER_KEY = "sk-provider-secret"
CLIENT_KEY = "sk-client-secret"


@pytest.fixture(scope="module")
def upstream():
    fields = [
        "set-cookie: a=b",
        "x-ratelimit-remaining-requests: 7",
        "anthropic-ratelimit-tokens-remaining: 9",
        "openai-processing-ms: 12",
        "server: engine",
        "alt-svc: h3",
        "x-hop: no",
        "x-request-id: the-engines-own",
        "connection: x-hop",
        "keep-alive: timeout=60",
    ]
    upstream = Upstream(lambda _: json_answer(ANSWER, fields=fields))
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def gateway(driver, upstream, tmp_path_factory):
    endpoint = {"engine": "openai", "health_path": "/health"}
    models = [
        {"name": "mock-model", "endpoints": ["plain"]},
        {"name": "keyed", "endpoints": ["keyed"], "upstream_model": 'up"stream/модель'},
    ]
    endpoints = [
        {"name": "plain", "url": upstream.url, **endpoint},
        {
            "name": "keyed",
            "url": upstream.url + "/prefix/v1",
            "api_key": "env:PROVIDER_KEY",
            "headers": {"x-team": "search", "openai-organization": "env:ORGANIZATION"},
            **endpoint,
        },
    ]
    gateway = Gateway(
        driver,
        tmp_path_factory.mktemp("headers"),
        env={"PROVIDER_KEY": PROVIDER_KEY, "ORGANIZATION": "org-1", "CLIENT_KEY": CLIENT_KEY},
        keys=[{"name": "client", "secret": "env:CLIENT_KEY"}],
        endpoints=endpoints,
        models=models,
    )
    yield gateway
    try:
        settle(gateway)
        gateway.stop()
        assert CLIENT_KEY not in "\n".join(gateway.process.stderr)
    finally:
        gateway.kill()


@pytest.fixture
def ask(gateway, upstream):
    """Asks, and gives the answer with what the upstream was sent."""

    def ask(path="/v1/chat/completions", body=BODY, headers=(), key=CLIENT_KEY):
        upstream.requests.clear()
        given = [("authorization", f"Bearer {key}"), *headers] if key else list(headers)
        answer = httpx.post(gateway.url + path, json=body, headers=given, timeout=20)
        return answer, upstream.requests[0] if upstream.requests else None

    return ask


def test_the_body_passes_byte_for_byte(gateway, upstream):
    text = '{ "model":"mock-model",\t"messages":[ {"role":"user","content":"\\u00e9 é \\/"} ],"x":1.0e5 }\n'
    upstream.requests.clear()
    headers = {"content-type": "application/json", "x-api-key": CLIENT_KEY}
    answer = httpx.post(
        gateway.url + "/v1/chat/completions", content=text.encode(), headers=headers
    )
    assert answer.status_code == 200
    assert upstream.requests[0].body == text.encode()


def test_credentials_and_cookies_stay(ask):
    answer, sent = ask(headers=[("cookie", "session=1"), ("x-api-key", CLIENT_KEY),
                                ("api-key", "k"), ("x-goog-api-key", "k"),
                                ("proxy-authorization", "Basic x")])
    assert answer.status_code == 200
    for name in ("authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key",
                 "proxy-authorization"):
        assert sent.all(name) == [], name
    assert CLIENT_KEY.encode() not in sent.raw_head


def test_hop_by_hop_fields_stay(ask):
    hop = [("connection", "keep-alive, x-mine"), ("x-mine", "1"), ("te", "trailers"),
           ("upgrade", "h2c"), ("keep-alive", "5"), ("proxy-connection", "close"),
           ("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1"), ("x-real-ip", "1.2.3.4")]
    answer, sent = ask(headers=hop)
    assert answer.status_code == 200
    for name, _ in hop[1:]:
        assert sent.all(name) == [], name
    assert sent.all("connection") in ([], ["keep-alive"])


def test_api_fields_pass(ask):
    passing = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "a,b",
        "anthropic-dangerous-direct-browser-access": "true",
        "openai-organization": "org-9",
        "openai-project": "p",
        "openai-beta": "assistants=v2",
        "x-stainless-lang": "python",
        "user-agent": "mine/1.0",
        "accept": "application/json",
        "content-type": "application/json; charset=utf-8",
    }
    answer, sent = ask(headers=list(passing.items()))
    assert answer.status_code == 200
    for name, value in passing.items():
        assert sent.one(name) == value


def test_identity_is_asked_for(ask):
    _, sent = ask(headers=[("accept-encoding", "gzip, br, zstd")])
    assert sent.one("accept-encoding") == "identity"


def test_host_is_the_endpoints(ask, upstream):
    _, sent = ask()
    assert sent.one("host") == f"127.0.0.1:{upstream.port}"
    assert int(sent.one("content-length")) == len(sent.body)


def test_the_query_passes(ask):
    _, sent = ask("/v1/chat/completions?api-version=2024-10-21&x=%2F%20")
    assert sent.target == "/v1/chat/completions?api-version=2024-10-21&x=%2F%20"


def test_the_prefix_is_joined_without_doubling(ask):
    _, sent = ask(body={**BODY, "model": "keyed"})
    assert sent.target == "/prefix/v1/chat/completions"


def test_the_upstream_model_is_spliced_in(ask):
    _, sent = ask(body={**BODY, "model": "keyed"})
    assert sent.json() == {**BODY, "model": 'up"stream/модель'}


def test_the_endpoints_key_is_a_bearer_token_for_openai(ask):
    _, sent = ask(body={**BODY, "model": "keyed"})
    assert sent.one("authorization") == f"Bearer {PROVIDER_KEY}" and sent.all("x-api-key") == []


def test_the_endpoints_key_is_x_api_key_for_anthropic(ask):
    body = {**BODY, "model": "keyed", "max_tokens": 5}
    _, sent = ask("/v1/messages", body, [("anthropic-version", "2023-06-01")])
    assert sent.one("x-api-key") == PROVIDER_KEY and sent.all("authorization") == []


def test_static_headers_are_added_and_override(ask):
    _, sent = ask(body={**BODY, "model": "keyed"}, headers=[("openai-organization", "theirs")])
    assert sent.one("x-team") == "search" and sent.one("openai-organization") == "org-1"


def test_what_comes_back(ask):
    answer, _ = ask()
    assert answer.headers["x-ratelimit-remaining-requests"] == "7"
    assert answer.headers["anthropic-ratelimit-tokens-remaining"] == "9"
    assert answer.headers["openai-processing-ms"] == "12"
    for name in ("set-cookie", "alt-svc", "x-hop"):
        assert name not in answer.headers, name
    assert answer.headers.get_list("x-request-id") != ["the-engines-own"]


def test_a_sound_request_id_is_echoed_and_sent_on(ask):
    answer, sent = ask(headers=[("x-request-id", "My-id_1.2:3")])
    assert answer.headers["x-request-id"] == sent.one("x-request-id") == "My-id_1.2:3"


@pytest.mark.parametrize("bad", ["a b", "x" * 129, 'a"b', "a/b", ""])
def test_an_unsound_request_id_is_replaced(ask, bad):
    answer, sent = ask(headers=[("x-request-id", bad)])
    made = answer.headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9a-f]{24}", made) and sent.one("x-request-id") == made


def test_anthropic_ids(ask):
    body = {**BODY, "max_tokens": 5}
    answer, sent = ask("/v1/messages", body, [("x-request-id", "mine-7")])
    assert answer.headers["request-id"] == "mine-7" == sent.one("x-request-id")


def test_made_ids_differ(ask):
    assert len({ask()[0].headers["x-request-id"] for _ in range(20)}) == 20


def test_a_sound_traceparent_passes_with_its_state(ask):
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    _, sent = ask(headers=[("traceparent", given), ("tracestate", "a=1,b=2")])
    assert sent.one("traceparent") == given and sent.one("tracestate") == "a=1,b=2"


@pytest.mark.parametrize(
    "bad",
    [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "nonsense",
    ],
)
def test_an_unsound_traceparent_is_replaced_and_its_state_dropped(ask, bad):
    _, sent = ask(headers=[("traceparent", bad), ("tracestate", "a=1")])
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", sent.one("traceparent"))
    assert sent.one("traceparent") != bad and sent.all("tracestate") == []


def test_the_trace_is_in_the_access_log(ask, gateway):
    trace = "0af7651916cd43dd8448eb211c80319d"
    answer, _ = ask(headers=[("traceparent", f"00-{trace}-b7ad6b7169203331-01")])
    row = gateway.row(answer.headers["x-request-id"])
    assert row["trace_id"] == trace and row["key"] == "client"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer")],
        [("authorization", "Bearer wrong")],
        [("authorization", f"Basic {CLIENT_KEY}")],
        [("authorization", CLIENT_KEY)],
        [("x-api-key", "wrong")],
        [("x-api-key", CLIENT_KEY + "x")],
        [("authorization", "Bearer wrong"), ("x-api-key", CLIENT_KEY)],
    ],
    ids=str,
)
def test_wrong_keys_are_401(ask, headers):
    answer, sent = ask(headers=headers, key=None)
    assert answer.status_code == 401 and sent is None
    assert answer.headers["www-authenticate"]
    assert answer.json()["error"]["type"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_has_any_case(ask, scheme):
    answer, _ = ask(headers=[("authorization", f"{scheme} {CLIENT_KEY}")], key=None)
    assert answer.status_code == 200


def test_health_needs_no_key_and_leaks_none(gateway):
    assert gateway.admin.healthz()[0] == 200
    for page in ("/metrics", "/readyz", "/debug/lifecycle"):
        text = gateway.admin.get(page)[1]
        assert CLIENT_KEY not in text and PROVIDER_KEY not in text
