"""The official Python client of OpenAI's API against the gateway."""

import json

import openai
import pytest

KEY = "sk-test-0123456789"
MODEL = "mock-model"
SLASHED = "org/mock-model-8b"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CONFIG = {
    "keys": [{"name": "team", "secret": "env:TEAM_KEY"}],
    "env": {"TEAM_KEY": KEY},
    "models": [
        {"name": MODEL, "endpoints": ["gpu-0", "gpu-1"], "policy": "round-robin"},
        {"name": SLASHED, "endpoints": ["gpu-0", "gpu-1"], "upstream_model": MODEL},
    ],
}


@pytest.fixture
def client(stack):
    with openai.OpenAI(base_url=stack.url + "/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def test_chat(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer._request_id


def test_chat_streamed_says_the_same_as_whole(client):
    arguments = {"model": MODEL, "messages": HELLO, "max_completion_tokens": 30, "seed": 7}
    whole = client.chat.completions.create(**arguments)
    with client.chat.completions.create(**arguments, stream=True) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in chunks), "usage that nobody asked for"


def test_chat_streamed_with_usage(client):
    stream = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=9,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 9
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_several_choices(client):
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, n=3)
    assert sorted(choice.index for choice in whole.choices) == [0, 1, 2]
    texts = {0: "", 1: "", 2: ""}
    finishes = []
    for chunk in client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=8, n=3, stream=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finishes += [choice.finish_reason] if choice.finish_reason else []
    assert all(texts.values()) and len(finishes) == 3


def test_tools(client):
    arguments = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Weather in Turin?"}],
        "tools": [TOOL],
        "tool_choice": "required",
    }
    whole = client.chat.completions.create(**arguments)
    call = whole.choices[0].message.tool_calls[0]
    assert whole.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    json.loads(call.function.arguments)
    name, text, finish = "", "", None
    for chunk in client.chat.completions.create(**arguments, stream=True):
        for choice in chunk.choices:
            for part in choice.delta.tool_calls or []:
                name += part.function.name or ""
                text += part.function.arguments or ""
            finish = choice.finish_reason or finish
    assert (name, finish) == ("get_weather", "tool_calls")
    json.loads(text)


def test_stream_helper_accumulates(client):
    with client.chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": "Weather?"}], tools=[TOOL], tool_choice="required"
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "get_weather"


def test_raw_answer_headers(client):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, max_tokens=2, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.parse().id


def test_completions(client):
    whole = client.completions.create(model=MODEL, prompt="Once upon", max_tokens=7)
    assert whole.usage.completion_tokens == 7 and whole.choices[0].text
    chunks = list(
        client.completions.create(model=MODEL, prompt="Once upon", max_tokens=7, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert all(chunk.usage is None for chunk in chunks)


def test_embeddings(client):
    # The client asks for base64 unless told otherwise, and decodes it.
    answer = client.embeddings.create(model=MODEL, input=["one", "two two"])
    assert [item.index for item in answer.data] == [0, 1]
    assert all(isinstance(number, float) for number in answer.data[0].embedding)
    plain = client.embeddings.create(model=MODEL, input="one", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(answer.data[0].embedding)


def test_responses(client):
    whole = client.responses.create(model=MODEL, input="Hello", max_output_tokens=11)
    assert whole.output_text
    assert whole.usage.output_tokens == 11
    events = list(
        client.responses.create(model=MODEL, input="Hello", max_output_tokens=11, stream=True)
    )
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_models(client):
    names = [model.id for model in client.models.list()]
    assert names == [MODEL, SLASHED]
    assert client.models.retrieve(MODEL).id == MODEL
    assert client.models.retrieve(SLASHED).id == SLASHED


def test_a_model_under_another_name(client):
    answer = client.chat.completions.create(model=SLASHED, messages=HELLO, max_tokens=3)
    assert answer.usage.completion_tokens == 3


def test_fields_that_sluice_does_not_know_survive(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, extra_body={"min_tokens": 4, "x_unknown": {"a": [1]}}, max_tokens=4
    )
    assert answer.usage.completion_tokens == 4


def test_unicode(client):
    words = [{"role": "user", "content": "Grüße 你好 🚀 \u0000 \\ \" \u2028"}]
    assert client.chat.completions.create(model=MODEL, messages=words, max_tokens=3).choices


def test_wrong_key(stack):
    client = openai.OpenAI(base_url=stack.url + "/v1", api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "invalid_api_key" and caught.value.request_id
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody/knows", messages=HELLO)
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    assert "nobody/knows" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/knows")


def test_unknown_path(client):
    with pytest.raises(openai.NotFoundError):
        client.post("/audio/speech", body={"model": MODEL}, cast_to=object)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 7),
        ("stream", "yes"),
        ("max_tokens", 1.5),
        ("max_tokens", "12"),
        ("n", "many"),
        ("stream_options", {"include_usage": "yes"}),
    ],
)
def test_fields_of_the_wrong_type_are_named(client, field, value):
    body = {"stream": field == "stream_options", field: value}
    arguments = {"model": MODEL, "messages": HELLO}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**arguments, extra_body=body)
    assert caught.value.status_code == 400
    assert field in (caught.value.param or "") or field in caught.value.message


def test_the_servers_own_refusals_are_relayed(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1 << 30)
    assert caught.value.request_id


def test_method_not_allowed(client):
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/chat/completions", cast_to=object)
    assert caught.value.status_code == 405
    assert caught.value.response.headers["allow"] == "POST"


def test_async_client(stack):
    import asyncio

    async def ask(client, at):
        stream = await client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=5 + at % 7, stream=True
        )
        return len([chunk async for chunk in stream if chunk.choices[0].delta.content])

    async def all_at_once():
        async with openai.AsyncOpenAI(
            base_url=stack.url + "/v1", api_key=KEY, max_retries=0
        ) as client:
            return await asyncio.gather(*(ask(client, at) for at in range(64)))

    assert asyncio.run(all_at_once()) == [5 + at % 7 for at in range(64)]
