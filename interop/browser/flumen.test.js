// The client for resumable streams, against a small gateway that misbehaves on request.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { WebSocket } from "ws";
import { StreamError, resume, stream } from "../../crates/flumen-gateway/playground/flumen.js";
import { MockGateway } from "./mock-gateway.js";

let gateway;
// A gateway of its own for each test, so that none learns from another which transport works.
beforeEach(async () => {
  globalThis.WebSocket = WebSocket;
  gateway = await new MockGateway().listen();
});
afterEach(() => gateway.close());

const MESSAGES = [{ role: "user", content: "Tell me." }];
const FAST = { minDelay: 1, maxDelay: 5 };
const ask = (model, options = {}) =>
  stream(`${gateway.url}/v1/chat/completions`, { body: { model, messages: MESSAGES, stream: true }, ...FAST, ...options });

const collect = async (answer, events = []) => {
  for await (const event of answer) events.push(event);
  return events;
};
/** Every event once, in order, and the text they say. */
const text = (events) => {
  events.forEach(({ seq }, at) => assert.equal(seq, at + 1));
  assert.equal(events.at(-1).data, "[DONE]");
  return events.slice(0, -1).map(({ data }) => JSON.parse(data).choices[0].delta.content ?? "").join("");
};
const whole = async (model) => text(await collect(ask(model)));
const eventually = async (what, holds) => {
  for (let tries = 0; tries < 400; tries++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(what);
};
const settled = async (value) => {
  for (let before = -1; before !== value();) {
    before = value();
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  return value();
};
const fails = (promise, expected) => assert.rejects(promise, (error) => {
  assert.ok(error instanceof StreamError, String(error?.stack));
  assert.deepEqual({ code: error.code, status: error.status }, { status: null, ...expected });
  return true;
});

test("an answer that is left alone", async () => {
  const states = [];
  const answer = ask("sim:tokens=30", { onState: (state) => states.push(state) });
  assert.equal(answer.state, "idle");
  const events = await collect(answer);
  assert.ok(text(events).length > 60);
  assert.match(answer.id, /^[0-9a-f]{32}$/);
  assert.equal(answer.lastEventId, events.at(-1).id);
  assert.equal(answer.seq, 32);
  assert.equal(answer.resumes, 0);
  assert.deepEqual(states, ["connecting", "open", "done"]);
  assert.ok(events.every(({ transport, event }) => transport === "sse" && event === "message"));
});

test("a connection cut after every event", async () => {
  const expected = await whole("sim:tokens=50,seed=3");
  gateway.plan = () => ({ events: 1 });
  const answer = ask("sim:tokens=50,seed=3");
  assert.equal(text(await collect(answer)), expected);
  assert.ok(answer.resumes >= 51, String(answer.resumes));
});

test("a connection cut at every byte", async () => {
  const model = "sim:tokens=4,seed=5,event=delta";
  const expected = await whole(model);
  for (let bytes = 0, cut = true; cut; bytes++) {
    let connections = 0;
    gateway.plan = () => (connections++ === 0 ? { bytes } : {});
    assert.equal(text(await collect(ask(model))), expected, `cut at byte ${bytes}`);
    cut = connections > 1;
    assert.ok(bytes < 10_000);
  }
});

test("connections closed in good order, of an answer without end mark", async () => {
  gateway.plan = () => ({ events: 3, clean: true });
  const events = await collect(ask("sim:tokens=10,mark=none"));
  assert.deepEqual(events.map(({ seq }) => seq), Array.from({ length: 10 }, (_, at) => at + 1));
  assert.match(gateway.asked.at(-1), /^GET \/v1\/streams\/.*last_event_id=.*-10 /);
});

test("cuts on purpose, over each transport", async () => {
  const expected = await whole("sim:tokens=200,seed=7");
  for (const transport of ["sse", "websocket", "poll"]) {
    const answer = ask("sim:tokens=200,seed=7,tps=1000", { transports: [transport] });
    const events = [];
    for await (const event of answer) {
      events.push(event);
      if (event.seq % 40 === 0) answer.cut();
    }
    assert.equal(text(events), expected);
    assert.ok(answer.resumes >= 3, `${transport}: ${answer.resumes}`);
    assert.ok(events.every((event) => event.transport === transport));
  }
});

test("a request that was not answered is sent again under its key, and runs once", async () => {
  let posts = 0;
  const keys = new Set();
  gateway.before = (request, response) => {
    if (request.method !== "POST") return false;
    keys.add(request.headers["idempotency-key"]);
    assert.equal(request.headers["flumen-resume"], "1");
    if (++posts > 1) return false;
    // It arrives, but its answer is lost.
    let body = "";
    request.on("data", (chunk) => { body += chunk; });
    request.on("end", () => {
      gateway.begin(body, request.headers["idempotency-key"]);
      response.destroy();
    });
    return true;
  };
  text(await collect(ask("sim:tokens=10")));
  assert.equal(posts, 2);
  assert.equal(keys.size, 1);
  assert.equal(gateway.streams.size, 1);
});

test("a body given as text is sent as it is, over every transport", async () => {
  const body = `{ "model": "sim:tokens=3",  "messages": [] }`;
  for (const transport of ["sse", "websocket", "poll"]) {
    await collect(stream(`${gateway.url}/v1/chat/completions`, { body, idempotencyKey: "one", transports: [transport] }));
  }
  assert.equal(gateway.streams.size, 1);
});

test("a refusal over a WebSocket says as well how long to wait", async () => {
  const refused = collect(ask("sim:fault=status:429", { transports: ["websocket"], retryOn: [] }));
  await assert.rejects(refused, ({ status, retryAfter }) => status === 429 && retryAfter === 7);
});

test("refusals that are final", async () => {
  await fails(collect(ask("nobody")), { status: 404, code: "model_not_found" });
  for (const status of [400, 401, 403, 409, 410, 422, 500]) {
    await fails(collect(ask(`sim:fault=status:${status}`)), { status, code: "upstream_refused" });
  }
  assert.equal(gateway.asked.length, 8);
  await fails(collect(resume(gateway.url, "0".repeat(32))), { status: 404, code: "stream_not_found" });
  const answer = ask("sim:tokens=20");
  await collect(answer);
  const { id } = answer;
  await fails(collect(resume(gateway.url, id, { after: 99 })), { status: 409, code: "cursor_beyond_tail" });
  await fails(collect(resume(gateway.url, id, { lastEventId: "abc-3" })), { status: 400, code: "bad_cursor" });
  gateway.streams.get(id).first = 10;
  await fails(collect(resume(gateway.url, id, { after: 3 })), { status: 410, code: "cursor_too_old" });
  await fails(collect(ask("nobody", { transports: ["websocket"] })), { status: 404, code: "model_not_found" });
  await fails(collect(ask("nobody", { transports: ["poll"] })), { status: 404, code: "model_not_found" });
});

test("refusals that pass are waited for, as long as is asked", async () => {
  let refusals = 0;
  gateway.before = (request, response) => {
    if (++refusals > 3) return false;
    response.writeHead([429, 502, 503][refusals - 1], refusals === 3 ? { "retry-after": "1" } : {}).end("busy");
    return true;
  };
  const before = Date.now();
  text(await collect(ask("sim:tokens=5")));
  assert.ok(Date.now() - before >= 1000);
  refusals = 0;
  await fails(collect(ask("sim:tokens=5", { retryOn: [] })), { status: 429, code: null });
  gateway.before = (_, response) => response.writeHead(503, { "retry-after": "3600" }).end();
  await fails(collect(ask("sim:tokens=5")), { status: 503, code: null });
});

test("the wait that the stream asks for", async () => {
  gateway.plan = (connection) => (connection === 0 ? { events: 2, clean: true, retry: 400 } : {});
  const before = Date.now();
  text(await collect(ask("sim:tokens=5")));
  assert.ok(Date.now() - before >= 400);
});

test("a stream that is kept, from the beginning and from the middle", async () => {
  const answer = ask("sim:tokens=20");
  const events = await collect(answer);
  for (const transport of ["sse", "websocket", "poll"]) {
    const options = { transports: [transport] };
    assert.equal(text(await collect(resume(gateway.url, answer.id, options))), text(events));
    for (const point of [{ after: 7 }, { lastEventId: events[6].id }]) {
      const rest = await collect(resume(gateway.url, answer.id, { ...options, ...point }));
      assert.deepEqual(rest.map(({ id, seq, data }) => ({ id, seq, data })), events.slice(7).map(({ id, seq, data }) => ({ id, seq, data })));
    }
    assert.deepEqual(await collect(resume(gateway.url, answer.id, { ...options, after: 22 })), []);
  }
});

test("an error event comes after what was said before it", async () => {
  for (const transport of ["sse", "websocket", "poll"]) {
    const events = [];
    await fails(collect(ask("sim:fault=upstream_broken@5", { transports: [transport] }), events), { code: "upstream_broken" });
    assert.equal(events.length, 5);
  }
});

/** Event streams are answered, but a proxy keeps the answer to itself. */
const buffering = (head) => (request, response) => {
  if (!request.headers.accept.includes("event-stream")) return false;
  request.resume();
  if (head) response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
  return true;
};

test("a proxy that holds back event streams: WebSocket, then long poll", async () => {
  const expected = await whole("sim:tokens=60,seed=9");
  gateway.close();
  gateway = await new MockGateway().listen();
  gateway.before = buffering(false);
  let answer = ask("sim:tokens=60,seed=9", { firstByteTimeout: 150 });
  let events = await collect(answer);
  assert.equal(text(events), expected);
  assert.ok(events.every(({ transport }) => transport === "websocket"));
  const before = Date.now();
  await collect(ask("sim:tokens=60,seed=9", { firstByteTimeout: 5000 }));
  assert.ok(Date.now() - before < 2000, "it is remembered");
  gateway.socketsOpen = false;
  answer = ask("sim:tokens=60,seed=9", { firstByteTimeout: 150 });
  events = await collect(answer);
  assert.equal(text(events), expected);
  assert.equal(answer.transport, "poll");
  assert.equal(gateway.streams.size, 3);
});

test("a transport that stops working in the middle", async () => {
  const expected = await whole("sim:tokens=200,seed=9");
  gateway.plan = () => ({ events: 50 });
  const answer = ask("sim:tokens=200,seed=9", { firstByteTimeout: 150 });
  const events = [];
  for await (const event of answer) {
    events.push(event);
    if (event.seq === 30) gateway.before = buffering(true);
    if (event.seq === 90) {
      gateway.socketsOpen = false;
      answer.cut();
    }
  }
  assert.equal(text(events), expected);
  assert.deepEqual([...new Set(events.map(({ transport }) => transport))], ["sse", "websocket", "poll"]);
});

test("an answer of another type, and connections that are refused, lead to the next transport", async () => {
  const faults = [
    (response) => response.writeHead(200, { "content-type": "text/html" }).end("<p>Log in</p>"), (response) => response.destroy(),
  ];
  for (const fault of faults) {
    gateway.close();
    gateway = await new MockGateway().listen();
    gateway.before = (request, response) => request.headers.accept.includes("event-stream") && fault(response);
    const events = await collect(ask("sim:tokens=9"));
    text(events);
    assert.equal(events[0].transport, "websocket");
  }
});

test("without WebSocket, and with credentials that it cannot carry, it is left out", async () => {
  gateway.before = buffering(false);
  const owned = ask("sim:tokens=9", { firstByteTimeout: 50, headers: { authorization: "Basic bWU6" } });
  assert.equal((await collect(owned))[0].transport, "poll");
  delete globalThis.WebSocket;
  assert.equal((await collect(ask("sim:tokens=9", { firstByteTimeout: 50 })))[0].transport, "poll");
  assert.ok(!gateway.asked.includes("WS"));
  assert.throws(() => ask("sim", { transports: ["websocket"] }), TypeError);
  assert.throws(() => ask("sim", { transports: ["pigeon"] }), TypeError);
  await fails(collect(resume(gateway.url, owned.id)), { status: 404, code: "stream_not_found" });
});

test("a gateway that is gone", async () => {
  gateway.close();
  await fails(collect(ask("sim")), { code: "unreachable" });
});

test("a gateway that goes in the middle, for good", async () => {
  const events = [];
  await fails((async () => {
    for await (const event of ask("sim:tokens=endless,tps=100")) {
      events.push(event);
      if (event.seq === 5) gateway.close();
    }
  })(), { code: "connection_lost" });
  assert.ok(events.length >= 5);
});

test("silence longer than the heartbeat is a dead connection", async () => {
  const dead = [];
  gateway.before = (request, response) => {
    if (request.method !== "GET" || dead.length > 0) return false;
    dead.push(response);
    response.writeHead(200, { "content-type": "text/event-stream" }).write(": ping\n\n");
    return true;
  };
  gateway.plan = (connection) => (connection === 0 ? { events: 4 } : {});
  text(await collect(ask("sim:tokens=10", { idleTimeout: 150 })));
  assert.equal(dead.length, 1);
});

test("heartbeats are life; a silent socket is looked after", async () => {
  let pinging;
  gateway.before = (request, response) => {
    pinging = setInterval(() => { if (response.headersSent) response.write(": ping\n\n"); }, 30);
    response.on("close", () => clearInterval(pinging));
    return false;
  };
  const answer = ask("sim:tokens=3,ttft=600", { idleTimeout: 200 });
  text(await collect(answer));
  assert.equal(answer.resumes, 0);
  gateway.before = () => false;
  const socket = ask("sim:tokens=3,ttft=600", { idleTimeout: 200, transports: ["websocket"], maxRetries: 0 });
  text(await collect(socket));
  assert.ok(socket.resumes >= 2);
});

test("without resuming it reads event streams, and a cut is an error", async () => {
  for (const options of [{ resume: false }, {}]) {
    gateway.resumable = false;
    gateway.plan = () => ({});
    const answer = ask("sim:tokens=9", options);
    const events = await collect(answer);
    text(events);
    assert.equal(answer.id, null);
    assert.equal(events[0].id, null);
    gateway.plan = () => ({ events: 4 });
    const some = [];
    await fails(collect(ask("sim:tokens=9", options), some), { code: "connection_lost" });
    assert.equal(some.length, 4);
    gateway.plan = () => ({ events: 4, clean: true });
    assert.equal((await collect(ask("sim:tokens=9", options))).length, 4);
  }
  gateway.before = (_, response) => response.destroy();
  const asked = gateway.asked.length;
  await fails(collect(ask("sim:tokens=9", { resume: false })), { code: "unreachable" });
  assert.equal(gateway.asked.length, asked + 1);
});

for (const transport of ["sse", "websocket", "poll"]) {
  test(`${transport}: aborting and leaving close the connection, and do not stop the generation`, async () => {
    const abort = new AbortController();
    const answer = ask("sim:tokens=endless,tps=200", { transports: [transport], signal: abort.signal });
    await assert.rejects(async () => {
      for await (const { seq } of answer) if (seq === 5) setTimeout(() => abort.abort(), 30);
    }, { name: "AbortError" });
    assert.equal(answer.state, "aborted");
    const kept = gateway.streams.get(answer.id);
    await eventually("the reader has left", () => kept.readers === 0);
    assert.equal(kept.state, "open");
    const left = resume(gateway.url, answer.id, { transports: [transport], after: answer.seq });
    for await (const { seq } of left) {
      assert.equal(seq, answer.seq + 1);
      break;
    }
    assert.equal(left.state, "left");
    await eventually("the reader has left", () => kept.readers === 0);
  });

  test(`${transport}: stopping ends the answer for its readers`, async () => {
    const answer = ask("sim:tokens=endless,tps=200", { transports: [transport] });
    const events = [];
    for await (const event of answer) {
      events.push(event);
      if (event.seq === 5) assert.equal((await answer.stop()).state, "cancelled");
    }
    text(events);
    assert.equal(JSON.parse(events.at(-2).data).choices[0].finish_reason, "stopped");
    assert.equal((await answer.stop()).state, "cancelled");
  });

  test(`${transport}: who does not read stops the model`, async () => {
    let open = () => {};
    let gate = null;
    const answer = ask("sim:tokens=endless,pad=20000", { transports: [transport], pass: () => gate });
    const iterator = answer[Symbol.asyncIterator]();
    for (let events = 0; events < 10; events++) await iterator.next();
    const kept = gateway.streams.get(answer.id);
    const held = await settled(() => kept.last);
    // The sockets' buffers take their share of an event stream.
    assert.ok(held < (transport === "sse" ? 1500 : 120), `${held} events`);
    for (let events = 0; events < held + 50; events++) await iterator.next();
    assert.ok(kept.last > held);
    gate = new Promise((resolve) => { open = resolve; });
    const reading = (async () => { for (let events = 0; events < 3000; events++) await iterator.next(); })();
    const paused = await settled(() => kept.last);
    gate = null;
    open();
    await reading;
    assert.ok(kept.last > paused);
    await iterator.return();
  });
}

test("credit is topped up by what was used", async () => {
  await collect(ask("sim:tokens=3000", { transports: ["websocket"] }));
  const [kept] = gateway.streams.values();
  const used = kept.events.reduce((sum, { data }) => sum + Buffer.byteLength(data) + 8, 0);
  assert.ok(gateway.granted > used - 20_000 && gateway.granted < used * 1.1, `${gateway.granted} of ${used}`);
});

test("aborting works while it waits, too", async () => {
  gateway.before = (_, response) => response.destroy();
  const abort = new AbortController();
  const waiting = collect(ask("sim", { signal: abort.signal, minDelay: 60_000, maxDelay: 60_000 }));
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(waiting, { name: "AbortError" });
  await assert.rejects(collect(ask("sim", { signal: abort.signal })), { name: "AbortError" });
  gateway.before = () => false;
  const closed = new AbortController();
  const gated = collect(ask("sim", { signal: closed.signal, pass: () => new Promise(() => {}) }));
  setTimeout(() => closed.abort(), 50);
  await assert.rejects(gated, { name: "AbortError" });
});

test("stopping before the answer has begun", async () => {
  gateway.before = async (request) => {
    if (request.headers.accept.includes("event-stream")) await new Promise((resolve) => setTimeout(resolve, 300));
    return false;
  };
  const answer = ask("sim:tokens=endless");
  const reading = collect(answer);
  await eventually("it was asked", () => gateway.asked.length === 1);
  assert.equal((await answer.stop()).state, "cancelled");
  await reading;
  assert.equal(gateway.streams.size, 1);
  const never = ask("sim");
  assert.equal(await never.stop(), null);
  assert.deepEqual(await collect(never), []);
});

test("when the network is back, a waiting try goes at once", async () => {
  const listeners = new Map();
  globalThis.addEventListener = (name, listener) => listeners.set(name, listener);
  globalThis.removeEventListener = (name) => listeners.delete(name);
  const known = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
  try {
    const answer = ask("sim:tokens=40,tps=200", { minDelay: 1, offlineWait: 60_000 });
    const events = [];
    for await (const event of answer) {
      events.push(event);
      if (event.seq !== 10) continue;
      navigator.onLine = false;
      gateway.before = (_, response) => response.destroy();
      answer.cut();
      setTimeout(() => {
        navigator.onLine = true;
        gateway.before = () => false;
        listeners.get("online")();
      }, 500);
    }
    text(events);
    assert.ok(gateway.asked.length <= 4, gateway.asked.join("\n"));
    assert.equal(listeners.size, 0);
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
    if (known) Object.defineProperty(globalThis, "navigator", known);
    else delete globalThis.navigator;
  }
});

test("a gateway under a path, and URLs that are not of it", async () => {
  gateway.before = (request) => {
    request.url = request.url.replace("/llm/", "/");
    return false;
  };
  gateway.plan = () => ({ events: 20 });
  const url = `${gateway.url}/llm/v1/chat/completions`;
  const answer = stream(url, { body: { model: "sim", messages: MESSAGES }, ...FAST });
  text(await collect(answer));
  await collect(resume(`${gateway.url}/llm/`, answer.id, FAST));
  assert.ok(gateway.asked.every((asked) => /^[A-Z]+ \/llm\/v1\//.test(asked)));
  assert.throws(() => stream(url, { body: {}, gateway: "http://elsewhere.example/" }), TypeError);
});

test("an answer is read once; its groups hold the same events", async () => {
  const answer = ask("sim:tokens=20");
  const groups = [];
  for await (const events of answer.batches()) {
    groups.push(events);
    assert.equal(answer.seq, events.at(-1).seq);
  }
  text(groups.flat());
  await assert.rejects(collect(answer), TypeError);
});

test("a storm: cuts anywhere, refusals and transports that come and go, and not one event lost or doubled", async () => {
  let random = 42;
  const chance = (of) => {
    random = (random * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor(random / 65_536) % of;
  };
  const expected = await whole("sim:tokens=300,seed=11");
  gateway.plan = () => ({ bytes: chance(4000), clean: chance(2) === 0 });
  gateway.before = (request, response) => {
    if (request.method === "DELETE") return false;
    gateway.socketsOpen = chance(2) === 0;
    const fault = chance(8);
    if (fault === 0) response.destroy();
    if (fault === 1) response.writeHead(503).end();
    if (fault === 2) response.writeHead(200, { "content-type": "text/html" }).end("<p>A portal");
    return fault < 3;
  };
  const used = new Set();
  await Promise.all(Array.from({ length: 30 }, async () => {
    const answer = ask("sim:tokens=300,seed=11", { maxRetries: 50, maxStarts: 50 });
    const events = [];
    for await (const event of answer) {
      events.push(event);
      used.add(event.transport);
      if (chance(50) === 0) answer.cut();
    }
    assert.equal(text(events), expected);
  }));
  assert.equal(used.size, 3);
  assert.equal(gateway.streams.size, 31);
});
