"""The official Python client of Anthropic's API against the gateway."""

import anthropic
import pytest

KEY = "sk-ant-test-0123456789"
MODEL = "mock-model"
SLASHED = "org/mock-model-8b"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "name": "get_weather",
    "description": "The weather of a place",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
CONFIG = {
    "keys": [{"name": "team", "secret": "env:TEAM_KEY"}],
    "env": {"TEAM_KEY": KEY},
    "models": [
        {"name": MODEL, "endpoints": ["gpu-0", "gpu-1"]},
        {"name": SLASHED, "endpoints": ["gpu-0", "gpu-1"], "upstream_model": MODEL},
    ],
}


@pytest.fixture(params=["api_key", "auth_token"])
def client(request, stack):
    """With its key as `x-api-key`, and as a bearer token."""
    key = {request.param: KEY}
    with anthropic.Anthropic(base_url=stack.url, max_retries=0, timeout=20, **key) as client:
        yield client


def test_messages(client):
    answer = client.messages.create(model=MODEL, messages=HELLO, max_tokens=12)
    assert answer.content[0].text and answer.usage.output_tokens == 12
    assert answer.stop_reason == "max_tokens"
    assert answer._request_id


def test_messages_streamed(client):
    whole = client.messages.create(model=MODEL, messages=HELLO, max_tokens=12)
    with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=12) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert final.usage.output_tokens == 12 and final.stop_reason == "max_tokens"


def test_messages_events(client):
    events = list(client.messages.create(model=MODEL, messages=HELLO, max_tokens=4, stream=True))
    names = [event.type for event in events]
    assert names[0] == "message_start" and names[-1] == "message_stop"
    assert "content_block_delta" in names and "message_delta" in names


def test_tools(client):
    arguments = {
        "model": MODEL,
        "messages": HELLO,
        "max_tokens": 200,
        "tools": [TOOL],
        "tool_choice": {"type": "any"},
    }
    whole = client.messages.create(**arguments)
    assert whole.stop_reason == "tool_use"
    assert any(block.type == "tool_use" and block.name == "get_weather" for block in whole.content)
    with client.messages.stream(**arguments) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"


def test_count_tokens(client):
    answer = client.messages.count_tokens(model=MODEL, messages=HELLO)
    assert answer.input_tokens > 0


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL, SLASHED]
    assert client.models.retrieve(SLASHED).id == SLASHED


def test_a_model_under_another_name(client):
    answer = client.messages.create(model=SLASHED, messages=HELLO, max_tokens=3)
    assert answer.usage.output_tokens == 3


def test_wrong_key(stack):
    client = anthropic.Anthropic(base_url=stack.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as caught:
        client.messages.create(model=MODEL, messages=HELLO, max_tokens=5)
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert caught.value.request_id


def test_unknown_model(client):
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="nobody", messages=HELLO, max_tokens=5)
    assert caught.value.body["error"]["type"] == "not_found_error"
    assert caught.value.body["request_id"] == caught.value.request_id


def test_fields_of_the_wrong_type_are_named(client):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=MODEL, messages=HELLO, max_tokens=1.5)
    assert "max_tokens" in str(caught.value)


def test_unknown_path(client):
    with pytest.raises(anthropic.NotFoundError):
        client.post("/v1/messages/batches", body={"requests": []}, cast_to=object)
