"""A second OpenAI-compatible server, of another make: Starlette on uvicorn, with the SDK's own types.

It answers as hand-made servers do: small writes, one event each, no simulator behind it.
"""

import asyncio
import json

import uvicorn
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

TEXT = "Panta rhei, 万物皆流 🌊👩‍🔬: no one steps twice into the same \"river\".\n```py\nprint('é')\n```"
USAGE = {"prompt_tokens": 3, "completion_tokens": 42, "total_tokens": 45}
state = {"aborted": 0, "keys": []}


def chunk(choices, usage=None):
    base = {"id": "chatcmpl-second", "object": "chat.completion.chunk", "created": 1, "model": "second"}
    return ChatCompletionChunk(**base, choices=choices, usage=usage)


def choice(delta, finish=None):
    return {"index": 0, "delta": delta, "finish_reason": finish}


async def events(body):
    sent = lambda c: f"data: {c.model_dump_json(exclude_unset=True)}\n\n"
    try:
        yield sent(chunk([choice({"role": "assistant", "content": ""})]))
        for at in range(0, len(TEXT), 3):
            yield sent(chunk([choice({"content": TEXT[at : at + 3]})]))
            await asyncio.sleep(0.05 if body["model"] == "second-slow" else 0.001)
            if body["model"] == "second-broken" and at > 20:
                return
        yield sent(chunk([choice({}, "stop")]))
        if (body.get("stream_options") or {}).get("include_usage"):
            yield sent(chunk([], USAGE))
        yield "data: [DONE]\n\n"
    except asyncio.CancelledError:
        state["aborted"] += 1
        raise


async def chat(request):
    state["keys"].append(request.headers.get("authorization"))
    body = await request.json()
    if body["model"] == "second-busy":
        error = {"message": "try later", "type": "rate_limit_error", "param": None, "code": "busy"}
        return JSONResponse({"error": error}, status_code=429, headers={"retry-after": "1"})
    if body.get("stream"):
        return StreamingResponse(events(body), media_type="text/event-stream")
    message = {"role": "assistant", "content": TEXT}
    answer = ChatCompletion(
        id="chatcmpl-second", object="chat.completion", created=1, model="second", usage=USAGE,
        choices=[{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
    )
    return JSONResponse(json.loads(answer.model_dump_json()))


async def stats(request):
    return JSONResponse(state)


routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/stats", stats)]
uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="info", access_log=False)
