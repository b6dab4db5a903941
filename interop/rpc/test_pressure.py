"""What a model service feels of slow readers, of readers that leave, and of time that runs out."""

import itertools
import json
import time

import httpx
import pytest
from model import Model
from reader import Reader, token

PROMPT = "Tell me of it."


def endless(seed):
    return Model().generate(PROMPT, 1.0, seed, endless=True)


def others(gateway, tokens):
    """Others ask meanwhile, and get their answer: the service had the time to make so many tokens."""
    *_, last = Reader(gateway, "others", model="ngram-endless", max_tokens=tokens).events()
    assert last == "[DONE]"
    return tokens


def pauses_of(service, request_id):
    """Every pause that is over: how long it took, and the tokens at its begin and at its end."""
    began, ended = (service.logged(event=event, request_id=request_id) for event in ("paused", "resumed"))
    return [(until - since, before["tokens"], after["tokens"]) for (since, before), (until, after) in zip(began, ended)]


def test_a_slow_reader_pauses_the_loop_and_loses_nothing(gateway, fast, request_id, measured):
    reader = Reader(gateway, request_id, model="ngram-endless", seed=7)
    events = reader.events()
    said = [token(next(events)) for _ in range(3)]
    # It reads no more. What others ask for meanwhile is answered, and this generation stands still.
    (_, pause), *_ = fast.logged(event="paused", request_id=request_id)
    meanwhile = others(gateway, 2000)
    # Buffers between the service and the reader hold so many tokens; behind them, the rest.
    said += [token(next(events)) for _ in range(2 * pause["tokens"])]
    pauses = pauses_of(fast, request_id)
    assert all(before == after for _, before, after in pauses)
    assert said == list(itertools.islice(endless(7), len(said)))
    reader.close()
    _, end = fast.end_of(request_id)
    assert end["cause"] == "client_gone" and end["paused_ms"] > 0
    _, line = gateway.end_of(request_id)
    assert line["cause"] == "client_gone" and line["paused_ms"] > 0
    longest, before, after = max(pauses)
    measured(f"a slow reader: paused at {before} tokens for {longest * 1000:.0f} ms, in which {after - before} were made, "
             f"and {meanwhile} for others; {len(said)} of {end['tokens']} tokens read, in order")


def test_a_service_that_is_told_no_pauses_is_held_back_by_flow_control(gateway, fast, request_id, measured):
    reader = Reader(gateway, request_id, model="silent", seed=8)
    events = reader.events()
    said = [token(next(events)) for _ in range(3)]
    meanwhile = others(gateway, 20_000)
    reader.close()
    _, end = fast.end_of(request_id)
    assert (end["cause"], end["pauses"]) == ("client_gone", 0)
    assert end["paused_ms"] > 0
    # HTTP/2's window of 64 KiB, and what fits into the buffers before and behind it.
    assert end["tokens"] < meanwhile / 2
    measured(f"told no pauses, the service made {end['tokens']} tokens for a reader that took {len(said)}, "
             f"while it made {meanwhile} for others; held up {end['paused_ms']:.0f} ms")


def test_what_flow_control_held_back_goes_on_in_order(gateway, fast, request_id):
    reader = Reader(gateway, request_id, model="silent", seed=10)
    events = reader.events()
    said = [token(next(events)) for _ in range(3)]
    others(gateway, 5000)
    said += [token(next(events)) for _ in range(10_000)]
    assert said == list(itertools.islice(endless(10), len(said)))
    reader.close()
    assert fast.end_of(request_id)[1]["cause"] == "client_gone"


@pytest.mark.parametrize("model, service, when", [
    ("ngram-endless", "fast", "while tokens flow"),
    ("slow", "slow", "between two tokens"),
    ("ngram-endless", "fast", "while it is paused"),
])
def test_a_reader_that_leaves_ends_the_loop(gateway, services, request_id, measured, model, service, when):
    reader = Reader(gateway, request_id, model=model, seed=9)
    next(reader.events())
    if when == "while it is paused":
        services[service].logged(event="paused", request_id=request_id)
        # By then no buffer on the way takes more.
        others(gateway, 5000)
    left = time.monotonic()
    reader.close()
    ended, end = services[service].end_of(request_id)
    measured(f"a reader that left {when}: the loop ended {(ended - left) * 1000:.1f} ms later")
    assert end["cause"] == "client_gone"
    assert ended - left < 5
    _, line = gateway.end_of(request_id)
    assert line["cause"] == "client_gone"
    if when == "while it is paused":
        *_, (_, paused) = services[service].logged(event="paused", request_id=request_id)
        assert end["tokens"] == paused["tokens"]


@pytest.mark.parametrize("seed", range(5))
def test_time_that_runs_out_is_told_to_both_sides(gateway, fast, request_id, measured, seed):
    *rest, last = Reader(gateway, request_id, model="short", seed=seed).events()
    _, end = fast.end_of(request_id)
    error = json.loads(last)["error"]
    measured(f"time ran out: `{error['code']}` for the reader, `{end['cause']}` at the service")
    assert error["code"] == "total_timeout"
    assert [token(payload) for payload in rest] == list(itertools.islice(endless(seed), len(rest)))
    assert end["cause"] in ("total_timeout", "deadline")
    _, line = gateway.end_of(request_id)
    assert line["cause"] == "total_timeout"


def test_time_that_runs_out_before_an_answer_that_is_no_stream(gateway, fast, request_id):
    got = httpx.post(f"{gateway.url}/v1/chat/completions", headers={"x-request-id": request_id}, timeout=20,
                     json={"model": "short", "messages": [{"role": "user", "content": PROMPT}]})
    assert (got.status_code, got.json()["error"]["code"]) == (504, "total_timeout")
    assert fast.end_of(request_id)[1]["cause"] in ("total_timeout", "deadline")
