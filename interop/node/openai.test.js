// The official Node SDK, unmodified, with only `baseURL` changed; and a bare SSE parser.
import assert from "node:assert/strict";
import test from "node:test";
import { createParser } from "eventsource-parser";
import OpenAI, { APIError, NotFoundError, RateLimitError } from "openai";

const { INTEROP_GATEWAY: gateway, INTEROP_SIM: sim, INTEROP_SECOND: second } = process.env;
const messages = [{ role: "user", content: "tell me of the river" }];
const client = (baseURL = gateway) => new OpenAI({ baseURL, apiKey: "any", maxRetries: 0, timeout: 20_000 });
const stream = (model, baseURL, more = {}) =>
  client(baseURL).chat.completions.create({ model, messages, stream: true, ...more });

async function text(chunks) {
  let all = "";
  for await (const chunk of await chunks) all += chunk.choices[0]?.delta.content ?? "";
  return all;
}

for (const [model, direct] of [["sim:seed=5", sim], ["sim:split=1,lang=ja,tokens=60", sim], ["second", second]]) {
  test(`streamed text equals the upstream's: ${model}`, async () => {
    const relayed = await text(stream(model));
    assert.equal(relayed, await text(stream(model, direct)));
    assert.ok(relayed.length > 50);
  });
}

test("the wait in a queue is told in comments that do not disturb", async () => {
  const plug = await stream("narrow:tokens=endless");
  for await (const _ of plug) break;
  const waiting = await stream("narrow:seed=3");
  assert.equal(await text(waiting), await text(stream("sim:seed=3", sim)));
  const held = await stream("narrow:tokens=endless,tps=5");
  const begun = held[Symbol.asyncIterator]();
  await begun.next();
  const second = await stream("narrow:seed=3");
  await new Promise((done) => setTimeout(done, 2500));
  held.controller.abort();
  assert.equal(await text(second), await text(stream("sim:seed=3", sim)));
});

test("usage comes when asked for and only then", async () => {
  const asked = [];
  for await (const chunk of await stream("second", gateway, { stream_options: { include_usage: true } })) asked.push(chunk);
  assert.deepEqual(asked.at(-1).choices, []);
  assert.equal(asked.at(-1).usage.completion_tokens, 42);
  for await (const chunk of await stream("second")) assert.equal(chunk.choices.length, 1);
});

test("tool calls are put together by the SDK's own helper", async () => {
  const parameters = { type: "object", properties: { place: { type: "string" } } };
  const tools = [{ type: "function", function: { name: "level", parameters } }];
  const run = client().chat.completions.stream({ model: "sim", messages, tools, tool_choice: "required" });
  const { choices } = await run.finalChatCompletion();
  assert.equal(choices[0].message.tool_calls[0].function.name, "level");
  assert.ok(JSON.parse(choices[0].message.tool_calls[0].function.arguments).place);
});

test("abort cancels the generation", async () => {
  const stats = async () => (await (await fetch(second.replace("/v1", "/stats"))).json()).aborted;
  const before = await stats();
  const chunks = await stream("second-slow");
  for await (const _ of chunks) {
    chunks.controller.abort();
    break;
  }
  const deadline = Date.now() + 10_000;
  while ((await stats()) === before) assert.ok(Date.now() < deadline, "the upstream was not told");
});

test("an error event is raised with its code", async () => {
  for (const [model, code] of [["sim:fault=error@5", "sim_fault"], ["second-broken", "upstream_truncated"]]) {
    await assert.rejects(text(stream(model)), (error) => error instanceof APIError && error.code === code);
  }
});

test("an error before the first token is a status", async () => {
  await assert.rejects(stream("sim:fault=status:429"), RateLimitError);
  await assert.rejects(stream("second-busy"), RateLimitError);
  await assert.rejects(stream("nobody"), NotFoundError);
});

test("other endpoints", async () => {
  const embeddings = await client().embeddings.create({ model: "sim", input: "a", dimensions: 16 });
  assert.equal(embeddings.data[0].embedding.length, 16);
  assert.equal((await client().models.retrieve("sim")).id, "sim");
});

test("eventsource-parser reads every event and the end mark", async () => {
  const events = [];
  const parser = createParser({ onEvent: (event) => events.push(event.data), onError: (error) => { throw error; } });
  const body = JSON.stringify({ model: "sim:split=1,tokens=30,lang=emoji", stream: true, messages });
  const response = await fetch(`${gateway}/chat/completions`, {
    method: "POST", headers: { "content-type": "application/json" }, body,
  });
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const decoder = new TextDecoder();
  for await (const piece of response.body) parser.feed(decoder.decode(piece, { stream: true }));
  assert.equal(events.length, 1 + 30 + 1 + 1);
  assert.equal(events.at(-1), "[DONE]");
  assert.ok(events.slice(0, -1).every((event) => JSON.parse(event).object === "chat.completion.chunk"));
});
