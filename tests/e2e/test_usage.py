"""Usage: asked for on the client's behalf, withheld from those who did not ask, metered either way."""

import json

import httpx
import pytest

MODEL = "mock-model"
HELLO = [{"role": "user", "content": "Hello"}]
PATHS = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "Hello"},
}


def events(answer):
    """The data of every event of a stream."""
    return [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]


def ask(stack, path, fields, **more):
    body = {"model": MODEL, "max_tokens": 6, "stream": True, **PATHS[path], **fields}
    answer = httpx.post(stack.url + path, json=body, timeout=20, **more)
    assert answer.status_code == 200, answer.text
    found = events(answer)
    assert found[-1] == "[DONE]"
    return answer, [json.loads(event) for event in found[:-1]]


def metered(stack, answer):
    return stack.gateway.row(answer.headers["x-request-id"], "usage")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stream_options": None},
        {"stream_options": {}},
        {"stream_options": {"include_usage": False}},
        {"stream_options": {"include_usage": None}},
        {"stream_options": {"x": [1, {"include_usage": True}]}},
    ],
    ids=str,
)
def test_who_did_not_ask_sees_no_usage_and_is_metered(stack, path, options):
    answer, chunks = ask(stack, path, options)
    assert all(chunk["choices"] for chunk in chunks)
    assert all(chunk.get("usage") is None for chunk in chunks)
    row = metered(stack, answer)
    assert row["output_tokens"] == 6 and row["input_tokens"] > 0 and row["finish"] == "length"


@pytest.mark.parametrize("path", PATHS)
def test_who_asked_sees_it(stack, path):
    answer, chunks = ask(stack, path, {"stream_options": {"include_usage": True}})
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 6
    row = metered(stack, answer)
    assert row["output_tokens"] == chunks[-1]["usage"]["completion_tokens"]
    assert row["input_tokens"] == chunks[-1]["usage"]["prompt_tokens"]


@pytest.mark.parametrize("path", PATHS)
def test_continuous_usage_passes_and_counts_once(stack, path):
    options = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    answer, chunks = ask(stack, path, options)
    with_usage = [chunk for chunk in chunks if chunk.get("usage")]
    assert len(with_usage) == len(chunks)
    assert metered(stack, answer)["output_tokens"] == 6


@pytest.mark.parametrize("path", PATHS)
def test_the_last_withheld_event_is_all_that_is_missing(stack, path):
    """What a client that did not ask gets is what one that asked gets, less one event."""
    _, plain = ask(stack, path, {"seed": 5}, headers={"x-request-id": f"same{path[4:8]}"})
    _, asked = ask(
        stack,
        path,
        {"seed": 5, "stream_options": {"include_usage": True}},
        headers={"x-request-id": f"same{path[4:8]}"},
    )

    def bare(chunks):
        return [
            {k: v for k, v in chunk.items() if k not in ("created", "usage")} for chunk in chunks
        ]

    assert bare(plain) == bare(asked[:-1])


def test_a_stream_with_no_content_still_has_usage(stack):
    answer, _ = ask(stack, "/v1/chat/completions", {"max_tokens": 1})
    assert metered(stack, answer)["output_tokens"] == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 5}),
        ("/v1/completions", {"prompt": "x", "max_tokens": 5}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 5}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 5}),
    ],
)
def test_every_generating_operation_is_metered(stack, path, fields, stream):
    body = {"model": MODEL, "stream": stream, **fields}
    answer = httpx.post(stack.url + path, json=body, headers={"anthropic-version": "2023-06-01"})
    assert answer.status_code == 200, answer.text
    name = "request-id" if path == "/v1/messages" else "x-request-id"
    row = stack.gateway.row(answer.headers[name], "usage")
    assert row["outcome"] == "completed" and row["streamed"] is stream
    assert row["output_tokens"] == 5 and row["input_tokens"] > 0
    assert row["finish"] == "length"


def test_cached_tokens_are_metered(stack):
    words = "the same long beginning of every prompt " * 200
    body = {"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": words}]}
    cached = []
    for _ in range(4):
        answer = httpx.post(stack.url + "/v1/chat/completions", json=body)
        shown = answer.json()["usage"].get("prompt_tokens_details") or {}
        row = stack.gateway.row(answer.headers["x-request-id"], "usage")
        assert row.get("cached_tokens") == shown.get("cached_tokens")
        cached.append(row.get("cached_tokens", 0))
    # Two servers, so one of them had it twice.
    assert max(cached) > 0
