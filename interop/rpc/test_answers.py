"""OpenAI's SDK, through the gateway, to the Python service; and what goes along with a request."""

import asyncio
import itertools
import json
import urllib.request

import openai
import pytest
from model import Model
from processes import PATIENCE
from reader import Reader

PROMPT = "Tell me of it."
MESSAGES = [{"role": "user", "content": PROMPT}]
TRACE = "0af7651916cd43dd8448eb211c80319c"


def expected(seed):
    return "".join(Model().generate(PROMPT, 1.0, seed))


@pytest.fixture
def sdk(gateway):
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0, timeout=20)


def text(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("model", ["ngram", "spelt"])
def test_a_stream_says_what_the_service_said(sdk, model):
    """Raw, and with the request spelt out in the contract's messages."""
    chunks = list(sdk.chat.completions.create(model=model, messages=MESSAGES, seed=3, stream=True))
    assert text(chunks) == expected(3)
    assert chunks[0].id.startswith("ngram-") and {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("model", ["ngram", "spelt"])
def test_an_answer_that_is_no_stream(sdk, model):
    answer = sdk.chat.completions.create(model=model, messages=MESSAGES, seed=3)
    assert answer.choices[0].message.content == expected(3)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == len(list(Model().generate(PROMPT, 1.0, 3)))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_usage_and_length(sdk):
    chunks = list(sdk.chat.completions.create(model="ngram", messages=MESSAGES, seed=3, max_tokens=5, stream=True,
                                              stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 5 and chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == "length"


def test_the_old_endpoint(sdk):
    chunks = sdk.completions.create(model="ngram", prompt=PROMPT, seed=4, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == expected(4)
    assert sdk.completions.create(model="ngram", prompt=PROMPT, seed=4).choices[0].text == expected(4)


def test_many_at_once(gateway):
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as sdk:
            async def one(seed):
                chunks = await sdk.chat.completions.create(model="ngram", messages=MESSAGES, seed=seed, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

            return await asyncio.gather(*(one(seed) for seed in range(50)))

    assert asyncio.run(run()) == [expected(seed) for seed in range(50)]


@pytest.mark.parametrize("stream", [True, False])
def test_a_service_may_end_its_call_after_a_complete_answer(services, sdk, measured, stream):
    """A call that is reset looks cancelled to the service, although nothing is wrong."""
    for _ in range(20):
        answer = sdk.chat.completions.create(model="lingering", messages=MESSAGES, stream=stream)
        assert (text(answer) if stream else answer.choices[0].message.content) == "all"
    resets = [services["lingering"].resets.get(timeout=PATIENCE) for _ in range(20)]
    measured(f"of 20 complete answers, {sum(resets)} had their calls reset before the service ended them (stream={stream})")
    assert not any(resets)


@pytest.mark.parametrize("wish, status, words", [
    ({"model": "ngram", "temperature": 3}, openai.BadRequestError, "between 0 and 2"),
    ({"model": "ngram", "stop": ["x"]}, openai.BadRequestError, "not supported"),
    ({"model": "nobody"}, openai.NotFoundError, "there is no model"),
])
@pytest.mark.parametrize("stream", [True, False])
def test_an_error_before_the_answer_is_a_status(sdk, wish, status, words, stream):
    with pytest.raises(status) as raised:
        sdk.chat.completions.create(messages=MESSAGES, stream=stream, **wish)
    assert words in raised.value.message
    assert raised.value.body["type"] == "invalid_request_error"


def test_trace_and_name_reach_the_service_and_times_come_back(gateway, fast, request_id, measured):
    traceparent = f"00-{TRACE}-b7ad6b7169203331-01"
    body = json.dumps({"model": "ngram", "messages": MESSAGES, "stream": True, "seed": 5}).encode()
    headers = {"content-type": "application/json", "x-request-id": request_id, "traceparent": traceparent}
    with urllib.request.urlopen(urllib.request.Request(f"{gateway.url}/v1/chat/completions", body, headers)) as got:
        assert got.headers["x-request-id"] == request_id
        got.read()
    _, end = fast.end_of(request_id)
    # A hop may name a span of its own; the trace is the same.
    assert end["traceparent"].split("-")[1] == TRACE
    _, line = gateway.end_of(request_id)
    assert line["upstream"] == "fast" and line["cause"] == "complete"
    assert line["completion_tokens"] == end["tokens"]
    assert 0 < line["service_first_token_ms"] <= line["service_total_ms"] <= line["total_ms"]
    assert line["service_paused_ms"] >= 0 and line["service_queue_ms"] >= 0
    measured(f"first token {line['service_first_token_ms']} ms at the service, {line['first_token_ms']} ms at the gateway; "
             f"in all {line['service_total_ms']} ms and {line['total_ms']} ms")


def test_a_request_without_a_name_gets_one_that_the_service_sees(gateway, fast, sdk):
    answer = sdk.chat.completions.with_raw_response.create(model="ngram", messages=MESSAGES, max_tokens=1)
    assert fast.end_of(answer.headers["x-request-id"])[1]["tokens"] == 1


class TestMortal:
    """A service with one place, which is killed and comes back."""

    def test_a_full_service_is_a_429_that_says_when_to_come_back(self, gateway, services, sdk):
        plug = Reader(gateway, "plug", model="mortal", seed=1)
        next(plug.events())
        with pytest.raises(openai.RateLimitError) as raised:
            sdk.chat.completions.create(model="mortal", messages=MESSAGES, stream=True)
        assert raised.value.status_code == 429 and "all places are taken" in raised.value.message
        assert raised.value.response.headers["retry-after"] == "2"
        plug.close()
        services["mortal"].end_of("plug")

    def test_a_service_that_is_killed_is_an_error_event_and_no_end(self, gateway, services, request_id):
        reader = Reader(gateway, request_id, model="mortal", seed=2)
        events = reader.events()
        payloads = [next(events) for _ in range(3)]
        services["mortal"].kill()
        payloads += events
        *tokens, last = payloads
        error = json.loads(last)["error"]
        assert error["code"] == "upstream_broken" and error["message"]
        assert all("choices" in json.loads(payload) for payload in tokens)
        _, line = gateway.end_of(request_id)
        assert line["cause"] == "upstream_error" and line["code"] == "upstream_broken"

    def test_a_service_that_is_gone_is_a_502(self, sdk):
        with pytest.raises(openai.InternalServerError) as raised:
            sdk.chat.completions.create(model="mortal", messages=MESSAGES, stream=True)
        assert raised.value.status_code == 502 and raised.value.code == "upstream_connect"

    def test_a_service_that_is_back_is_found(self, services, sdk):
        port = services["mortal"].address.rsplit(":", 1)[1]
        services["mortal"] = type(services["mortal"])("--port", port, "--tokens-per-second", "0")
        assert services["mortal"].address
        chunks = sdk.chat.completions.create(model="mortal", messages=MESSAGES, seed=6, max_tokens=20, stream=True)
        assert text(chunks) == "".join(itertools.islice(Model().generate(PROMPT, 1.0, 6, endless=True), 20))
