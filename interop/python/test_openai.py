"""The official Python SDK, unmodified, with only `base_url` changed."""

import asyncio
import json
import os
import time
import urllib.request

import openai
import pytest

GATEWAY, SIM, SECOND = (os.environ[f"INTEROP_{name}"] for name in ("GATEWAY", "SIM", "SECOND"))
MESSAGES = [{"role": "user", "content": "tell me of the river"}]


def client(base_url=GATEWAY, **options):
    return openai.OpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=20, **options)


def stream(model, base_url=GATEWAY, **options):
    return client(base_url).chat.completions.create(model=model, messages=MESSAGES, stream=True, **options)


def text(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("model, direct", [("sim:seed=3", SIM), ("sim:split=1,lang=zh,tokens=60", SIM), ("second", SECOND)])
def test_streamed_text_equals_the_upstreams(model, direct):
    relayed = text(stream(model))
    assert relayed == text(stream(model, direct))
    whole = client().chat.completions.create(model=model, messages=MESSAGES)
    assert whole.choices[0].message.content == relayed
    assert len(relayed) > 50


@pytest.mark.parametrize("model", ["sim:tokens=7", "second"])
def test_usage_comes_when_asked_for_and_only_then(model):
    asked = list(stream(model, stream_options={"include_usage": True}))
    assert asked[-1].choices == [] and asked[-1].usage.completion_tokens == (7 if "sim" in model else 42)
    silent = list(stream(model))
    assert all(chunk.choices and chunk.usage is None for chunk in silent)
    assert silent[-1].choices[0].finish_reason == "stop"


def test_the_wait_in_a_queue_is_told_in_comments_that_do_not_disturb():
    """The response begins while the request waits; `: queued 1` and `: waiting` come before its first event."""
    with stream("narrow:tokens=endless") as plug:
        next(iter(plug))
        waiting = [stream("narrow:seed=3") for _ in range(2)]
        time.sleep(2.5)
    assert [text(each) for each in waiting] == [text(stream("sim:seed=3", SIM))] * 2


def test_tool_call_deltas():
    parameters = {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "level", "parameters": parameters}}]
    name, arguments, chunks = None, "", list(stream("sim", tools=tools, tool_choice="required"))
    for call in (c.choices[0].delta.tool_calls[0] for c in chunks if c.choices[0].delta.tool_calls):
        name = name or call.function.name
        arguments += call.function.arguments
    assert name == "level" and isinstance(json.loads(arguments)["days"], int)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_leaving_cancels_the_generation():
    before = get(SECOND.replace("/v1", "/stats"))["aborted"]
    chunks = stream("second-slow")
    next(chunks)
    chunks.close()
    eventually(lambda: get(SECOND.replace("/v1", "/stats"))["aborted"] == before + 1)


def test_the_key_is_the_gateways():
    text(stream("second"))
    assert get(SECOND.replace("/v1", "/stats"))["keys"][-1] == "Bearer second-key"


@pytest.mark.parametrize("model, code", [
    ("sim:fault=error@5", "sim_fault"), ("sim:fault=end@5", "upstream_truncated"), ("sim:fault=cut@5", "upstream_broken"),
    ("sim:fault=stall@5", "idle_timeout"), ("second-broken", "upstream_truncated"),
])
def test_an_error_after_the_first_token_is_raised(model, code):
    seen = []
    with pytest.raises(openai.APIError) as raised:
        for chunk in stream(model):
            seen.append(chunk)
    assert raised.value.code == code and raised.value.message
    assert len(text(seen)) > 0


@pytest.mark.parametrize("model, error, status", [
    ("sim:fault=status:429", openai.RateLimitError, 429), ("second-busy", openai.RateLimitError, 429),
    ("sim:fault=status:503", openai.InternalServerError, 503), ("sim:fault=error@0", openai.InternalServerError, 502),
    ("sim:x=1", openai.BadRequestError, 400), ("nobody", openai.NotFoundError, 404),
])
def test_an_error_before_the_first_token_is_a_status(model, error, status):
    with pytest.raises(error) as raised:
        stream(model)
    assert raised.value.status_code == status and raised.value.message


def test_busy_upstreams_are_retried_by_the_sdk():
    started = time.monotonic()
    with pytest.raises(openai.RateLimitError):
        openai.OpenAI(base_url=GATEWAY, api_key="any", max_retries=1).chat.completions.create(
            model="second-busy", messages=MESSAGES, stream=True)
    assert time.monotonic() - started >= 0.9, "Retry-After is passed on and obeyed"


def test_other_endpoints():
    chunks = client().completions.create(model="sim:tokens=9", prompt="once", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    vectors = client().embeddings.create(model="sim", input=["a", "b"], dimensions=8)
    assert [len(item.embedding) for item in vectors.data] == [8, 8]
    assert "sim" in [model.id for model in client().models.list()]
    assert client().models.retrieve("sim").id == "sim"


def test_many_streams_at_once():
    async def one(sdk, seed):
        chunks = await sdk.chat.completions.create(model=f"sim:seed={seed},tokens=40", messages=MESSAGES, stream=True)
        return "".join([c.choices[0].delta.content or "" async for c in chunks])

    async def run():
        async with openai.AsyncOpenAI(base_url=GATEWAY, api_key="any", max_retries=0) as sdk:
            return await asyncio.gather(*(one(sdk, seed) for seed in range(50)))

    texts = asyncio.run(run())
    assert len(set(texts)) == 50 and all(texts)


def test_an_sdk_is_not_disturbed_by_heartbeats_and_long_silence():
    assert text(stream("sim:ttft=1500ms,tokens=3"))
