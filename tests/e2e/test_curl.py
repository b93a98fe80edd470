"""curl, as in everybody's first attempt."""

import json
import subprocess

BODY = '{"model": "mock-model", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}'
STREAM = BODY.replace("{", '{"stream": true, ', 1)
JSON = ["-H", "content-type: application/json"]


def curl(stack, path, *arguments, code=0):
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", stack.url + path, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_chat(stack):
    answer = json.loads(curl(stack, "/v1/chat/completions", *JSON, "-d", BODY))
    assert answer["usage"]["completion_tokens"] == 5


def test_chat_streamed_over_both_versions(stack):
    for version in ("--http1.1", "--http1.0"):
        text = curl(stack, "/v1/chat/completions", version, "-N", *JSON, "-d", STREAM)
        assert text.endswith("data: [DONE]\n\n")


def test_an_upgrade_to_http2_is_declined(stack):
    answer = json.loads(curl(stack, "/v1/chat/completions", "--http2", *JSON, "-d", BODY))
    assert answer["choices"]


def test_a_status_that_fails(stack):
    curl(stack, "/v1/nothing", "-f", code=22)
    text = curl(stack, "/v1/chat/completions", "-i", *JSON, "-d", '{"model": "none"}')
    assert text.startswith("HTTP/1.1 404 ") and "model_not_found" in text


def test_a_form_is_not_json(stack):
    """curl's own default content type."""
    assert '"unsupported_media_type"' in curl(stack, "/v1/chat/completions", "-d", BODY)


def test_expect_100_continue(stack, tmp_path):
    large = tmp_path / "body.json"
    words = "word " * 300_000
    large.write_text(json.dumps({"model": "mock-model", "max_tokens": 1, "messages": [
        {"role": "user", "content": words}]}))
    answer = curl(stack, "/v1/chat/completions", "-H", "expect: 100-continue", *JSON,
                  "--expect100-timeout", "10", "--data-binary", f"@{large}",
                  "-w", "\n%{time_starttransfer}")
    body, seconds = answer.rsplit("\n", 1)
    assert json.loads(body)["choices"] and float(seconds) < 5


def test_a_chunked_upload_from_a_pipe(stack):
    done = subprocess.run(
        ["curl", "-sS", stack.url + "/v1/chat/completions", *JSON, "-H",
         "transfer-encoding: chunked", "--data-binary", "@-"],
        input=BODY, capture_output=True, text=True, timeout=30,
    )
    assert json.loads(done.stdout)["choices"], done.stderr


def test_two_requests_on_one_connection(stack):
    text = curl(stack, "/v1/models", stack.url + "/v1/models", "-w", "%{num_connects}\n")
    counts = [line.rsplit("}", 1)[-1] for line in text.strip().splitlines()]
    assert counts == ["1", "0"]


def test_models(stack):
    assert json.loads(curl(stack, "/v1/models"))["data"][0]["id"] == "mock-model"
