"""The official Python SDK and httpx-sse against a gateway with keys, limits, queues and upstreams that die."""

import base64
import hashlib
import hmac
import json
import os
import signal
import threading
import time

import httpx
import jwt
import openai
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from httpx_sse import connect_sse

GATEWAY, ADMIN, ISSUER = (os.environ[f"INTEROP_{name}"] for name in ("LOCKED", "ADMIN", "ISSUER"))
KEYS = dict(pair.split("=", 1) for pair in os.environ["INTEROP_KEYS"].split())
MORTALS = {name: int(pid) for name, pid in (pair.split("=") for pair in os.environ["INTEROP_MORTALS"].split())}
MESSAGES = [{"role": "user", "content": "tell me of the river"}]
KEYLESS = {"Authorization": openai.Omit()}
RESUME = {"Flumen-Resume": "1"}
PLAIN_AND_RESUMABLE = pytest.mark.parametrize("headers", [{}, RESUME], ids=["plain", "resumable"])


def client(key="acme", **options):
    options = {"max_retries": 0, "timeout": 20} | options
    return openai.OpenAI(base_url=GATEWAY, api_key=KEYS.get(key, key), **options)


def stream(sdk, model, **options):
    return sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True, **options)


def whole(sdk, model, **options):
    return sdk.chat.completions.create(model=model, messages=MESSAGES, **options)


def text(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def refused(sdk, most=50, **options):
    """Asks until the answer is a 429."""
    for _ in range(most):
        try:
            whole(sdk, "sim:tps=0,ttft=0,tokens=100", **options)
        except openai.RateLimitError as error:
            return error
    raise AssertionError(f"{most} requests were served")


def token(**wish):
    answer = httpx.post(f"{GATEWAY}/tokens", json=wish, headers={"authorization": f"Bearer {KEYS['acme']}"})
    assert answer.status_code == 200, answer.text
    return answer.json()["token"]


# Keys


@pytest.mark.parametrize("key", ["acme", "acme-sim", "globex", "old"])
def test_a_key_opens_everything_it_may(key):
    sdk = client(key)
    said = text(stream(sdk, "sim:tokens=30"))
    assert len(said) > 50 and whole(sdk, "sim:tokens=30").choices[0].message.content == said
    assert len(sdk.embeddings.create(model="sim", input="a", dimensions=8).data[0].embedding) == 8
    assert sdk.completions.create(model="sim", prompt="once", max_tokens=9).choices[0].text


@pytest.mark.parametrize("key, models", [
    ("acme", {"sim", "half-dead"}), ("acme-sim", {"sim", "half-dead"}), ("globex", {"sim"}),
])
def test_models_that_a_key_may_not_ask_are_not_listed_and_not_answered(key, models):
    sdk = client(key)
    assert {model.id for model in sdk.models.list()} == models
    if key == "acme":
        return
    for ask in (lambda: whole(sdk, "narrow-python:x"), lambda: stream(sdk, "narrow-python:x"),
                lambda: sdk.models.retrieve("narrow-python:x"), lambda: sdk.embeddings.create(model="narrow-python:x", input="a")):
        with pytest.raises(openai.PermissionDeniedError) as raised:
            ask()
        assert (raised.value.code, raised.value.param) == ("model_not_allowed", "model")


@pytest.mark.parametrize("key", ["fl-0000000000000000000000000000000000000000000", "expired", "Bearer", "x" * 600])
def test_a_wrong_key_is_an_authentication_error(key):
    for ask in (lambda: stream(client(key), "sim"), lambda: whole(client(key), "sim"), lambda: client(key).models.list()):
        with pytest.raises(openai.AuthenticationError) as raised:
            ask()
        assert raised.value.code == "invalid_api_key"
        assert raised.value.response.headers["www-authenticate"] == "Bearer"
        assert "x" * 600 not in raised.value.response.text and "fl-" not in raised.value.response.text


def test_no_key_is_an_authentication_error():
    with pytest.raises(openai.AuthenticationError):
        stream(client(), "sim", extra_headers=KEYLESS)


def test_the_other_header_does_as_well():
    assert text(stream(client("unused"), "sim:tokens=5", extra_headers=KEYLESS | {"x-api-key": KEYS["acme"]}))


# Limits


def test_used_up_requests_are_told_and_the_sdk_comes_back():
    sdk = client("requests-python")
    first = sdk.chat.completions.with_raw_response.create(model="sim:tokens=3", messages=MESSAGES)
    assert first.headers["x-ratelimit-limit-requests"] == "60"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    assert first.headers["ratelimit"].startswith('"tenant-requests-per-minute"')
    assert first.parse().choices[0].message.content
    error = refused(sdk)
    assert error.code == "rate_limit_exceeded" and "60 requests per minute" in error.message
    assert error.response.headers["retry-after"] == "1"
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    for ask in (lambda sdk: sdk.chat.completions.with_raw_response.create(model="sim:tokens=3", messages=MESSAGES),
                lambda sdk: sdk.chat.completions.with_raw_response.create(model="sim:tokens=3", messages=MESSAGES, stream=True)):
        refused(sdk)
        started = time.monotonic()
        answer = ask(client("requests-python", max_retries=3))
        assert answer.retries_taken >= 1 and time.monotonic() - started >= 0.9, "it waited as it was told"
        assert answer.headers["x-ratelimit-limit-requests"] == "60"


def test_used_up_tokens_are_told():
    sdk = client("tokens-python")
    error = refused(sdk, max_tokens=300)
    assert "1000 tokens per minute" in error.message
    headers = error.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit-tokens"] == "1000" and int(headers["x-ratelimit-remaining-tokens"]) < 320
    assert whole(client("acme"), "sim:tokens=3"), "another tenant does not notice"


def test_an_answer_is_as_long_as_the_tenant_may_have_it():
    sdk = client("short-python")
    for options in ({}, {"max_tokens": 500}, {"max_completion_tokens": 500}):
        answer = whole(sdk, "sim:tokens=100", **options)
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (20, "length")
    assert whole(sdk, "sim:tokens=100", max_tokens=7).usage.completion_tokens == 7


@PLAIN_AND_RESUMABLE
def test_one_answer_at_a_time_and_the_next_when_it_is_over(headers):
    sdk = client("single-python")
    endless = stream(sdk, "sim:tokens=endless,tps=50", extra_headers=headers)
    next(endless)
    with pytest.raises(openai.RateLimitError) as raised:
        stream(sdk, "sim:tokens=3")
    assert int(raised.value.response.headers["retry-after"]) >= 1
    if headers:
        id = endless.response.headers["flumen-stream-id"]
        stopped = httpx.delete(f"{GATEWAY}/streams/{id}", headers={"authorization": f"Bearer {KEYS['single-python']}"})
        assert stopped.json()["state"] == "cancelled"
    else:
        endless.close()
    assert text(stream(client("single-python", max_retries=5), "sim:tokens=3"))


# Queues


@PLAIN_AND_RESUMABLE
def test_a_stream_that_waits_in_the_queue_arrives_complete(headers):
    model = "narrow-python:tokens=40,seed=5"
    expected = whole(client(), model).choices[0].message.content
    ahead = stream(client(), "narrow-python:tokens=endless,tps=50")
    next(ahead)
    # The head comes while the stream waits: that is what the comments are for. First as it is on the wire.
    body = {"model": model, "stream": True, "messages": MESSAGES}
    bearer = {"authorization": f"Bearer {KEYS['acme']}"} | headers
    with httpx.stream("POST", f"{GATEWAY}/chat/completions", json=body, headers=bearer, timeout=20) as raw:
        assert raw.status_code == 200
        assert next(line for line in raw.iter_lines() if line).startswith(": queued")
    waiting = stream(client(), model, stream_options={"include_usage": True}, extra_headers=headers)
    assert ("flumen-stream-id" in waiting.response.headers) == bool(headers)
    ahead.close()
    chunks = list(waiting)
    assert text(chunks) == expected
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[-1].usage.completion_tokens == 40


@PLAIN_AND_RESUMABLE
def test_leaving_the_queue_leaves_it(headers):
    ahead = stream(client(), "narrow-python:tokens=endless,tps=50")
    next(ahead)
    with stream(client(), "narrow-python:tokens=5", extra_headers=headers):
        pass
    ahead.close()
    assert text(stream(client(), "narrow-python:tokens=5", extra_headers=headers))


# Upstreams that die


@PLAIN_AND_RESUMABLE
def test_a_dead_upstream_is_not_noticed(headers):
    for _ in range(8):
        assert text(stream(client(), "half-dead", extra_headers=headers))
        assert whole(client(), "half-dead").choices[0].message.content
    assert client().embeddings.create(model="half-dead", input="a").data


def running(model):
    streams = httpx.get(f"{ADMIN}/streams").json()["data"]
    return [stream["upstream"] for stream in streams if stream["model"].startswith(model)]


@PLAIN_AND_RESUMABLE
def test_an_upstream_killed_in_the_middle_is_not_noticed(headers):
    model = "mortal-python:tokens=120,seed=7,tps=60"
    usage = {"include_usage": True}
    expected = list(stream(client(), "mortal-python:tokens=120,seed=7,tps=0", stream_options=usage))
    answer = stream(client(), model, stream_options=usage, extra_headers=headers)
    chunks = [next(answer) for _ in range(20)]
    [upstream] = running("mortal-python")
    os.kill(MORTALS[upstream], signal.SIGKILL)
    chunks += answer
    assert text(chunks) == text(expected) and len(text(chunks)) > 200
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices and chunk.choices[0].delta.role] == ["assistant"]
    assert [chunk.usage for chunk in chunks if chunk.usage] == [expected[-1].usage]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason] == ["stop"]
    assert text(stream(client(), model.replace("60", "0"), extra_headers=headers)) == text(expected)


# Resuming with keys


def test_an_idempotency_key_is_the_tenants():
    headers = RESUME | {"Idempotency-Key": f"python-{time.time_ns()}"}
    ask = lambda key: stream(client(key), "sim:tokens=20", extra_headers=headers)
    first, again, others = ask("acme"), ask("old"), ask("globex")
    ids = [answer.response.headers["flumen-stream-id"] for answer in (first, again, others)]
    assert ids[0] == ids[1] != ids[2]
    said = [text(answer) for answer in (first, again, others)]
    assert said[0] == said[1] and said[0]
    with pytest.raises(openai.UnprocessableEntityError):
        stream(client(), "sim:tokens=21", extra_headers=headers)


def test_httpx_sse_reads_a_stream_with_a_token_in_the_address():
    answer = stream(client(), "sim:tokens=30,tps=100", extra_headers=RESUME)
    id = answer.response.headers["flumen-stream-id"]
    url = f"{GATEWAY}/streams/{id}"
    events = []
    with httpx.Client(timeout=20) as http:
        with connect_sse(http, "GET", url, params={"token": token(lives="1m")}) as source:
            for event in source.iter_sse():
                events.append(event)
                if len(events) == 10:
                    break
        # From where it was, with a token of its own.
        with connect_sse(http, "GET", url, params={"token": token()}, headers={"last-event-id": events[-1].id}) as source:
            events += source.iter_sse()
    assert [int(event.id.rsplit("-")[-1]) for event in events] == list(range(1, len(events) + 1))
    assert events[-1].data == "[DONE]"
    pieces = [json.loads(event.data)["choices"][0]["delta"].get("content") or "" for event in events[:-1]]
    assert "".join(pieces) == text(answer)
    for params, status in (({"token": KEYS["acme"]}, 401), ({"token": token()[:-3] + "AAA"}, 401), ({}, 401)):
        assert httpx.get(url, params=params).status_code == status
    globex = {"authorization": f"Bearer {KEYS['globex']}"}
    assert httpx.get(url, headers=globex).status_code == 404, "another tenant's stream is none"


def test_a_token_narrows_and_cannot_ask_for_another():
    narrow = client(token(models=["sim"]))
    assert whole(narrow, "sim").choices
    with pytest.raises(openai.PermissionDeniedError):
        whole(narrow, "half-dead")
    with pytest.raises(openai.PermissionDeniedError):
        narrow.post("/tokens", body={}, cast_to=object)
    with pytest.raises(openai.BadRequestError):
        client().post("/tokens", body={"lives": "2h"}, cast_to=object)


# Identity providers


def claims(**more):
    now = int(time.time())
    base = {"iss": "https://id.interop.example/", "aud": "flumen", "org": "acme", "iat": now, "exp": now + 300}
    return {name: value for name, value in (base | more).items() if value is not None}


def signed(algorithm="RS256", **more):
    return httpx.post(f"{ISSUER}/sign/{algorithm}", json=claims(**more)).text


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_an_identity_provider_is_as_good_as_a_key(algorithm):
    sdk = client(signed(algorithm))
    answer = stream(sdk, "sim:tokens=20", extra_headers=RESUME)
    assert text(answer)
    # The tenant is the one that the token names: its keys see the stream, those of others do not.
    url = f"{GATEWAY}/streams/{answer.response.headers['flumen-stream-id']}"
    seen = [httpx.head(url, headers={"authorization": f"Bearer {KEYS[key]}"}).status_code for key in ("acme", "globex")]
    assert seen == [200, 404]
    assert text(stream(client(signed(algorithm, aud=["other", "flumen"])), "sim:tokens=3"))
    with pytest.raises(openai.PermissionDeniedError):
        whole(client(signed(algorithm, org="globex-2")), "half-dead")


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged_with_the_public_key(kid):
    """What a gateway believes that takes the algorithm from the token: the public key is the secret."""
    [key] = [key for key in httpx.get(f"{ISSUER}/jwks.json").json()["keys"] if key["kid"] == "RS256"]
    pem = jwt.PyJWK(key).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = {"typ": "JWT", "alg": "HS256"} | ({"kid": kid} if kid else {})
    unsigned = f"{encoded(head)}.{encoded(claims())}"
    return f"{unsigned}.{encoded(hmac.digest(pem, unsigned.encode(), hashlib.sha256))}"


def tampered(token):
    head, _, signature = token.split(".")
    return f"{head}.{encoded(claims(org='globex'))}.{signature}"


@pytest.mark.parametrize("forged", [
    lambda: jwt.encode(claims(), None, "none"),
    lambda: jwt.encode(claims(), None, "none", headers={"kid": "RS256"}),
    lambda: forged_with_the_public_key(None),
    lambda: forged_with_the_public_key("RS256"),
    lambda: tampered(signed()),
    lambda: signed(iss="https://id.other.example/"),
    lambda: signed(iss="https://id.interop.example"),
    lambda: signed(iss=None),
    lambda: signed(iss="flumen", aud="flumen-gateway", tenant="acme"),
    lambda: signed(aud="other"),
    lambda: signed(aud=None),
    lambda: signed(exp=int(time.time()) - 60),
    lambda: signed(exp=None),
    lambda: signed(nbf=int(time.time()) + 600),
    lambda: signed(org=None),
    lambda: signed(org="a b"),
    lambda: signed("ES256").rsplit(".", 1)[0] + "." + signed("EdDSA").rsplit(".", 1)[1],
], ids=["none", "none-kid", "public-key", "public-key-kid", "tampered", "issuer", "issuer-slash", "no-issuer", "as-our-own", "audience",
        "no-audience", "expired", "no-expiry", "not-yet", "no-tenant", "tenant-name", "other-signature"])
def test_a_forged_token_is_an_authentication_error(forged):
    with pytest.raises(openai.AuthenticationError) as raised:
        whole(client(forged()), "sim")
    assert raised.value.code == "invalid_api_key"


# Many at once


def test_clients_of_several_tenants_at_once():
    said, lock = {}, threading.Lock()

    def one(key, seed):
        answer = text(stream(client(key), f"sim:seed={seed},tokens=40"))
        with lock:
            said.setdefault(seed, set()).add(answer)

    threads = [threading.Thread(target=one, args=(key, seed)) for key in ("acme", "globex", "old") for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(said) == 8 and all(len(texts) == 1 and texts != {""} for texts in said.values())
