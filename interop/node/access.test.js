// The official Node SDK and eventsource against a gateway with keys, limits, queues and upstreams that die.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EventSource } from "eventsource";
import OpenAI, { AuthenticationError, PermissionDeniedError, RateLimitError } from "openai";

const { INTEROP_LOCKED: gateway, INTEROP_ADMIN: admin, INTEROP_ISSUER: issuer } = process.env;
const pairs = (text) => Object.fromEntries(text.split(" ").map((pair) => pair.split("=")));
const keys = pairs(process.env.INTEROP_KEYS);
const mortals = pairs(process.env.INTEROP_MORTALS);
const messages = [{ role: "user", content: "tell me of the river" }];
const resume = { "Flumen-Resume": "1" };
const bearer = (key) => ({ authorization: `Bearer ${keys[key] ?? key}` });

const client = (key = "acme", maxRetries = 0) => new OpenAI({ baseURL: gateway, apiKey: keys[key] ?? key, maxRetries, timeout: 20_000 });
const stream = (key, model, headers = {}, more = {}) =>
  client(key).chat.completions.create({ model, messages, stream: true, ...more }, { headers });
const whole = (key, model, more = {}) => client(key).chat.completions.create({ model, messages, ...more });
const said = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
const all = async (items) => {
  const list = [];
  for await (const item of await items) list.push(item);
  return list;
};
const text = async (chunks) => said(await all(chunks));
const refused = (promise, kind, code) => assert.rejects(promise, (error) => {
  assert.ok(error instanceof kind, String(error));
  assert.equal(error.code, code);
  return true;
});

/** An answer that goes on until it is left, of which the first token has come. */
async function endless(key, model, headers) {
  const chunks = await stream(key, model, headers);
  const reading = chunks[Symbol.asyncIterator]();
  await reading.next();
  return chunks;
}

/** Asks until the answer is a 429. */
async function usedUp(key, more) {
  for (let requests = 0; requests < 50; requests++) {
    const answer = whole(key, "sim:tps=0,ttft=0,tokens=100", more);
    const error = await answer.then(() => null, (error) => error);
    if (error) {
      assert.ok(error instanceof RateLimitError, String(error));
      return error;
    }
  }
  assert.fail("50 requests were served");
}

test("a key opens what it may, and nothing else", async () => {
  const expected = await text(stream("acme", "sim:tokens=30"));
  assert.ok(expected.length > 50);
  assert.equal((await whole("acme", "sim:tokens=30")).choices[0].message.content, expected);
  const embeddings = await client().embeddings.create({ model: "sim", input: "a", dimensions: 8 });
  assert.equal(embeddings.data[0].embedding.length, 8);
  const names = async (key) => (await all(client(key).models.list())).map(({ id }) => id).sort();
  assert.deepEqual(await names("acme"), ["half-dead", "sim"]);
  assert.deepEqual(await names("globex"), ["sim"]);
  for (const ask of [whole, stream, (key, model) => client(key).models.retrieve(model)]) {
    await refused(ask("globex", "half-dead"), PermissionDeniedError, "model_not_allowed");
  }
});

test("a wrong key, one that is over, and none", async () => {
  for (const key of ["fl-0000000000000000000000000000000000000000000", "expired"]) {
    await refused(stream(key, "sim"), AuthenticationError, "invalid_api_key");
    await refused(whole(key, "sim"), AuthenticationError, "invalid_api_key");
    await refused(Promise.resolve(client(key).models.list()), AuthenticationError, "invalid_api_key");
  }
  await refused(stream("acme", "sim", { authorization: null }), AuthenticationError, "invalid_api_key");
});

test("used up requests are told, and the SDK comes back", async () => {
  const { response } = await client("requests-node").chat.completions.create({ model: "sim:tokens=3", messages }).withResponse();
  assert.equal(response.headers.get("x-ratelimit-limit-requests"), "60");
  assert.equal(response.headers.get("x-ratelimit-remaining-requests"), "1");
  for (const more of [{}, { stream: true }]) {
    const error = await usedUp("requests-node");
    assert.equal(error.code, "rate_limit_exceeded");
    assert.equal(error.headers.get("retry-after"), "1");
    const started = performance.now();
    const asked = client("requests-node", 3).chat.completions.create({ model: "sim:tokens=3", messages, ...more });
    const answer = await asked.withResponse();
    assert.ok(performance.now() - started > 900, "it waited as it was told");
    if (more.stream) assert.ok((await text(answer.data)).length > 0);
  }
});

test("used up tokens, and long answers", async () => {
  const error = await usedUp("tokens-node", { max_tokens: 300 });
  assert.match(error.message, /1000 tokens per minute/);
  assert.ok(Number(error.headers.get("retry-after")) >= 1);
  assert.equal(error.headers.get("x-ratelimit-limit-tokens"), "1000");
  const short = await whole("short-node", "sim:tokens=100", { max_completion_tokens: 500 });
  assert.deepEqual([short.usage.completion_tokens, short.choices[0].finish_reason], [20, "length"]);
});

for (const [name, headers] of [["plain", {}], ["resumable", resume]]) {
  test(`one answer at a time, and the next when it is over: ${name}`, async () => {
    const first = await endless("single-node", "sim:tokens=endless,tps=50", headers);
    await refused(stream("single-node", "sim:tokens=3"), RateLimitError, "rate_limit_exceeded");
    if (headers === resume) {
      const { data } = await (await fetch(`${gateway}/streams`, { headers: bearer("single-node") })).json();
      const { id } = data.find(({ state }) => state === "open");
      assert.equal((await fetch(`${gateway}/streams/${id}`, { method: "DELETE", headers: bearer("single-node") })).status, 200);
    } else {
      first.controller.abort();
    }
    const next = client("single-node", 5).chat.completions.create({ model: "sim:tokens=3", messages, stream: true });
    assert.ok((await text(next)).length > 0);
  });

  test(`a stream that waits in the queue arrives complete: ${name}`, async () => {
    const model = "narrow-node:tokens=40,seed=5";
    const expected = (await whole("acme", model)).choices[0].message.content;
    const ahead = await endless("acme", "narrow-node:tokens=endless,tps=50");
    // The head comes while the stream waits, and then the comments.
    const leaving = new AbortController();
    const raw = await fetch(`${gateway}/chat/completions`, {
      method: "POST", headers: { "content-type": "application/json", ...bearer("acme"), ...headers },
      body: JSON.stringify({ model, messages, stream: true }), signal: leaving.signal,
    });
    const { value } = await raw.body.getReader().read();
    assert.match(new TextDecoder().decode(value), /^: queued/);
    leaving.abort();
    const waiting = await stream("acme", model, headers, { stream_options: { include_usage: true } });
    ahead.controller.abort();
    const chunks = await all(waiting);
    assert.equal(said(chunks), expected);
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
    assert.equal(chunks.at(-1).usage.completion_tokens, 40);
  });

  test(`an upstream that is dead, and one killed in the middle, are not noticed: ${name}`, async () => {
    for (let requests = 0; requests < 8; requests++) assert.ok((await text(stream("acme", "half-dead", headers))).length > 0);
    const usage = { stream_options: { include_usage: true } };
    const expected = await all(stream("acme", "mortal-node:tokens=120,seed=7,tps=0", {}, usage));
    const chunks = [];
    for await (const chunk of await stream("acme", "mortal-node:tokens=120,seed=7,tps=60", headers, usage)) {
      chunks.push(chunk);
      if (chunks.length !== 20) continue;
      const { data } = await (await fetch(`${admin}/streams`)).json();
      const [{ upstream }] = data.filter(({ model }) => model.startsWith("mortal-node"));
      process.kill(Number(mortals[upstream]), "SIGKILL");
    }
    assert.equal(said(chunks), said(expected));
    assert.ok(said(chunks).length > 200);
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
    const of = (field) => chunks.map(field).filter(Boolean);
    assert.deepEqual(of((chunk) => chunk.choices[0]?.delta.role), ["assistant"]);
    assert.deepEqual(of((chunk) => chunk.usage), [expected.at(-1).usage]);
    assert.deepEqual(of((chunk) => chunk.choices[0]?.finish_reason), ["stop"]);
  });
}

test("an idempotency key is the tenant's", async () => {
  const headers = { ...resume, "Idempotency-Key": `node-${process.pid}` };
  const id = async (key) => {
    const { data, response } = await stream(key, "sim:tokens=20", headers).withResponse();
    return [response.headers.get("flumen-stream-id"), await text(data)];
  };
  const first = await id("acme");
  assert.deepEqual(await id("old"), first);
  assert.notEqual((await id("globex"))[0], first[0]);
});

test("eventsource reads a stream with a token in the address", async () => {
  const json = { "content-type": "application/json", ...bearer("acme") };
  const { token } = await (await fetch(`${gateway}/tokens`, { method: "POST", headers: json, body: "{}" })).json();
  const begun = await fetch(`${gateway}/chat/completions`, {
    method: "POST", headers: { ...json, prefer: "respond-async" },
    body: JSON.stringify({ model: "sim:tokens=30,tps=100", messages, stream: true }),
  });
  assert.equal(begun.status, 202);
  const url = `${new URL(gateway).origin}${begun.headers.get("location")}`;
  const source = new EventSource(`${url}?token=${token}`);
  const seen = [];
  await new Promise((ended) => {
    source.onmessage = ({ data }) => seen.push(data);
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) ended(); };
  });
  assert.equal(seen.at(-1), "[DONE]");
  assert.equal(said(seen.slice(0, -1).map((data) => JSON.parse(data))), await text(stream("acme", "sim:tokens=30")));
  for (const credential of [`?token=${keys.acme}`, `?token=${token.slice(0, -3)}AAA`, ""]) {
    const closed = new EventSource(url + credential);
    const error = await new Promise((told) => { closed.onerror = told; });
    assert.equal(error.code, 401);
    assert.equal(closed.readyState, EventSource.CLOSED);
  }
});

test("a token of an identity provider is as good as a key, unless it is for somebody else", async () => {
  const signed = async (more = {}) => {
    const claims = { iss: "https://id.interop.example/", aud: "flumen", org: "acme", exp: Math.floor(Date.now() / 1000) + 300, ...more };
    return (await fetch(`${issuer}/sign/ES256`, { method: "POST", body: JSON.stringify(claims) })).text();
  };
  assert.ok((await text(stream(await signed(), "sim:tokens=5", resume))).length > 0);
  for (const more of [{ iss: "https://id.other.example/" }, { aud: "other" }, { exp: 1_700_000_000 }]) {
    await refused(stream(await signed(more), "sim"), AuthenticationError, "invalid_api_key");
  }
});
