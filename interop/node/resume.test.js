// Clients of others that reconnect by themselves, over a line that breaks all the time.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventSource } from "eventsource";
import { cutter } from "./cutter.js";

const GATEWAY = new URL(process.env.INTEROP_GATEWAY).origin;
const MODEL = "sim:tps=300,tokens=60,lang=mix,seed=11";
const body = JSON.stringify({ model: MODEL, stream: true, messages: [{ role: "user", content: "Rivers" }] });
const headers = { "content-type": "application/json" };

let line, whole;

before(async () => {
  line = await cutter(GATEWAY, 6000);
  const plain = await fetch(`${GATEWAY}/v1/chat/completions`, { method: "POST", body, headers: { ...headers, accept: "text/plain" } });
  whole = await plain.text();
});
after(() => line.close());

const said = (payloads) => payloads.filter((data) => data !== "[DONE]")
  .map((data) => JSON.parse(data).choices[0]?.delta?.content ?? "").join("");

test("eventsource: every event once and in order, and it stops at the end", async () => {
  const begun = await fetch(`${GATEWAY}/v1/chat/completions`, { method: "POST", body, headers: { ...headers, prefer: "respond-async" } });
  assert.equal(begun.status, 202);
  const cuts = line.cuts;
  const source = new EventSource(line.url + begun.headers.get("location"));
  const seen = [];
  await new Promise((ended, failed) => {
    source.onmessage = ({ data, lastEventId }) => seen.push({ data, lastEventId });
    // A connection that is cut makes it reconnect; 204 makes it close for good.
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) ended(); };
    setTimeout(() => failed(new Error(`only ${seen.length} events`)), 60_000).unref();
  });
  assert.equal(seen.at(-1).data, "[DONE]");
  assert.equal(said(seen.map(({ data }) => data)), whole);
  assert.deepEqual(seen.map(({ lastEventId }) => Number(lastEventId.split("-").at(-1))), seen.map((_, index) => index + 1));
  assert.ok(line.cuts > cuts + 1, `${line.cuts - cuts} cuts`);
});

test("fetch-event-source: a POST that is sent again attaches, and is run once", async () => {
  globalThis.window ??= globalThis;
  globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource } = await import("@microsoft/fetch-event-source");
  const streams = async () => (await (await fetch(`${GATEWAY}/v1/streams`)).json()).data.length;
  const [before, cuts] = [await streams(), line.cuts];
  const seen = [];
  await fetchEventSource(`${line.url}/v1/chat/completions`, {
    method: "POST", body, headers: { ...headers, "flumen-resume": "1" },
    onopen: async (response) => assert.ok(response.status === 200 || response.status === 204),
    onmessage: ({ data }) => seen.push(data),
    onerror: () => 50,
  });
  assert.equal(seen.at(-1), "[DONE]");
  assert.equal(said(seen), whole);
  assert.equal(await streams(), before + 1);
  assert.ok(line.cuts > cuts + 1, `${line.cuts - cuts} cuts`);
});
