"""One generation: the loop that makes its tokens, and the ear for whoever reads them."""

import asyncio
import json
import time
import uuid

from contract import messages
from model import tokens_of

# A write that takes longer waits for a reader that takes nothing, in seconds.
HELD_UP = 0.01


class Generation:
    def __init__(self, wish, metadata, interval, trace):
        self.wish, self.interval, self.trace = wish, interval, trace
        self.request_id, self.traceparent = metadata.get("x-request-id"), metadata.get("traceparent")
        # Set while the reader keeps up. The loop passes here before every token.
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.tokens = self.pauses = 0
        self.paused = 0.0
        self.first_token = None
        self.came = time.perf_counter()

    def took(self):
        return time.perf_counter() - self.came

    async def write(self, model, context):
        """The whole answer. Stopping it is cancelling the task in which this runs."""
        wish = self.wish
        await self._say(context, accepted=messages.Accepted(id=f"ngram-{uuid.uuid4().hex}"))
        reason = "stop"
        for token in model.generate(wish.prompt, wish.temperature, wish.seed, wish.endless):
            self.tokens += 1
            self.first_token = self.first_token or self.took()
            await self._say(context, delta=messages.Delta(text=token))
            if self.tokens == wish.max_tokens:
                reason = "length"
                break
            # The generator stands still meanwhile: a token that is not asked for is not made.
            if self.interval:
                await asyncio.sleep(self.interval)
            await self._leave_to_flow()
        prompt = len(tokens_of(wish.prompt))
        await self._say(context, usage=messages.Usage(prompt_tokens=prompt, completion_tokens=self.tokens))
        spans = {"first_token": self.first_token or 0, "total": self.took(), "paused": self.paused}
        times = messages.Times(**{name: int(span * 1e6) for name, span in spans.items()})
        await self._say(context, finish=messages.Finish(reason=reason, times=times))

    async def _leave_to_flow(self):
        began = time.perf_counter()
        try:
            # A pause may follow a resume before this has woken up.
            while not self.flowing.is_set():
                await self.flowing.wait()
        finally:
            self.paused += time.perf_counter() - began

    async def _say(self, context, **message):
        began = time.perf_counter()
        try:
            # Waits while HTTP/2's windows are full: backpressure for services that heed no pause.
            await context.write(messages.ServerMessage(**message))
        finally:
            span = time.perf_counter() - began
            self.paused += span if span > HELD_UP else 0

    async def hear(self, context):
        """Heeds what the caller says. Returns the cause of a stop."""
        while message := await context.read():
            match message.WhichOneof("message"):
                case "pause":
                    self.pauses += self.flowing.is_set()
                    self.flowing.clear()
                    self._tell("paused")
                case "resume":
                    self.flowing.set()
                    self._tell("resumed")
                case "stop":
                    return message.stop.cause or "stopped"
        # A caller that has nothing more to say may well listen.
        await asyncio.Event().wait()

    def _tell(self, event):
        if self.trace:
            log({"event": event, "request_id": self.request_id, "tokens": self.tokens})

    def log(self, cause):
        log({
            "request_id": self.request_id,
            "traceparent": self.traceparent,
            "tokens": self.tokens,
            "paused_ms": round(self.paused * 1000, 3),
            "pauses": self.pauses,
            "cause": cause,
            "total_ms": round(self.took() * 1000, 3),
        })


def log(line):
    print(json.dumps(line), flush=True)
