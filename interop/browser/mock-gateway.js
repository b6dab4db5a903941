// A gateway after docs/streams.md, as small as its clients need it, and with the faults that a real one has no use for.
// `node mock-gateway.js 8080` serves the playground from the source tree with it.

import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";

const PLAYGROUND = new URL("../../crates/flumen-gateway/playground/", import.meta.url);
const TYPES = { js: "text/javascript", css: "text/css", svg: "image/svg+xml", html: "text/html" };
const WORDS = ["river ", "flows ", "through ", "the ", "万物", "皆流 ", "valley ", "– ", "🌊 ", "slowly\n\n", "and ", "*on* "];
// As on the real page: it must do for WebSockets too.
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
  "form-action 'none'; frame-ancestors 'none'";
/** How many events the model may be ahead of the fastest reader. */
const AHEAD = 64;
const FAULTS = { cut: "upstream_broken", end: "upstream_truncated", stall: "idle_timeout" };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Stream {
  id = randomBytes(16).toString("hex");
  state = "open";
  events = [];
  first = 1;
  read = 0;
  readers = 0;
  #changed = [];

  constructor(request, owner) {
    Object.assign(this, { request, owner });
    this.generate();
  }

  get last() { return this.events.length; }
  describe() {
    return { id: this.id, object: "stream", state: this.state, cause: null, created: 1_790_000_000, dialect: "openai-chat", model: "sim",
      epoch: 1, first: this.first, last: this.last, bytes: 0, readers: this.readers };
  }

  changed(ms) {
    return new Promise((resolve) => {
      this.#changed.push(resolve);
      if (ms !== undefined) setTimeout(resolve, ms);
    });
  }

  wake() { for (const resolve of this.#changed.splice(0)) resolve(); }

  push(data, event) {
    this.events.push({ id: `${this.id}.1-${this.last + 1}`, seq: this.last + 1, event, data: typeof data === "string" ? data : JSON.stringify(data) });
    this.wake();
  }

  end(state, reason) {
    if (this.state !== "open") return;
    if (reason !== null) {
      this.push({ choices: [{ index: 0, delta: {}, finish_reason: reason }] });
      if (this.request.stream_options?.include_usage) this.push({ choices: [], usage: { completion_tokens: this.last - 1 } });
      this.push("[DONE]");
    }
    this.state = state;
    this.wake();
  }

  async generate() {
    const { model, messages } = this.request;
    const of = (name, otherwise) => new RegExp(`${name}=([^,]+)`).exec(model)?.[1] ?? otherwise;
    const wanted = of("tokens", of("echo") ? "1" : "40");
    const tokens = wanted === "endless" ? Infinity : Number(wanted);
    const pause = Number(of("tps", "0")) === 0 ? 0 : 1000 / Number(of("tps", "0"));
    const pad = "x".repeat(Number(of("pad", "0")));
    const [fault, at] = of("fault", "@").split("@");
    let random = Number(of("seed", "1"));
    const [, first, unit] = /^(\d+)(h|s|)$/.exec(of("ttft", "0"));
    await sleep(first * ({ h: 3_600_000, s: 1000 }[unit] ?? 1));
    for (let token = 0; token < tokens && this.state === "open"; token++) {
      while (this.state === "open" && this.last - this.read > AHEAD && pause === 0) await this.changed();
      if (this.state !== "open") return;
      if (fault && token === Number(at)) {
        this.push({ error: { code: FAULTS[fault] ?? fault, message: "The model failed." } });
        this.end("error", null);
        return;
      }
      random = (random * 1_103_515_245 + 12_345) % 2_147_483_648;
      const content = of("echo") ? messages.at(-1).content : WORDS[Math.floor(random / 65_536) % WORDS.length] + pad;
      this.push({ choices: [{ index: 0, delta: { content } }] }, of("event"));
      if (pause > 0) await sleep(pause);
      else if (token % 20 === 0) await sleep(0);
    }
    if (of("mark") === "none") {
      this.state = "done";
      this.wake();
    } else {
      this.end("done", "stop");
    }
  }
}

const frame = ({ id, event, data }) => `${event ? `event: ${event}\n` : ""}data: ${data}\nid: ${id}\n\n`;
const envelope = ({ id, seq, event, data }, more = {}) => {
  let value = data;
  try { value = JSON.parse(data); } catch { /* not JSON: a string */ }
  return { ...more, id, seq, ...(event ? { event } : {}), data: value };
};

export class MockGateway {
  streams = new Map();
  keys = new Map();
  /** What was asked, as "METHOD /path transport". */
  asked = [];
  /** Called for every request; an answer of true means that it has been dealt with. */
  before = () => false;
  /** For the n-th event stream: `{ events }` or `{ bytes }` after which it is cut; `clean` closes it in good order, `retry` as told. */
  plan = () => ({});
  resumable = true;
  socketsOpen = true;
  /** Bytes of credit that the last socket granted. */
  granted = 0;
  #served = 0;

  async listen(port = 0) {
    this.server = createServer((request, response) => this.#answer(request, response).catch((error) => {
      response.destroy(error);
    }));
    const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "flumen.v1" });
    this.server.on("upgrade", (request, socket, head) => {
      this.asked.push("WS");
      if (!this.socketsOpen) return socket.destroy();
      sockets.handleUpgrade(request, socket, head, (opened) => this.#socket(opened));
    });
    await new Promise((resolve) => this.server.listen(port, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  get frames() { return [...this.streams.values()].reduce((sum, stream) => sum + stream.last, 0); }

  close() {
    for (const stream of this.streams.values()) stream.end("cancelled", null);
    this.server.closeAllConnections();
    this.server.close();
  }

  async #answer(request, response) {
    this.asked.push(`${request.method} ${request.url} ${request.headers.accept ?? "*/*"}`);
    if (await this.before(request, response)) return;
    const url = new URL(request.url, this.url);
    const json = (status, value, headers = {}) => {
      response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
    };
    const refuse = (status, code, more = {}, headers) => json(status, { error: { code, message: `This is ${code}.`, ...more } }, headers);
    if (url.pathname === "/v1/chat/completions") {
      let body = "";
      for await (const chunk of request) body += chunk;
      const found = this.begin(body, request.headers["idempotency-key"], request.headers.authorization);
      if (found.status) return refuse(found.status, found.code, found.message && { message: found.message });
      const head = { "flumen-stream-id": found.id, link: `</v1/streams/${found.id}>; rel="resume"` };
      if (request.headers.prefer === "respond-async") return json(202, found.describe(), { location: `/v1/streams/${found.id}`, ...head });
      return this.#serve(found, 0, request, response, this.resumable && request.headers["flumen-resume"] === "1" ? head : null);
    }
    const [, id, poll] = /^\/v1\/streams\/([^/]+)(\/poll)?$/.exec(url.pathname) ?? [];
    if (id) {
      const stream = this.streams.get(id);
      if (!stream || stream.owner !== request.headers.authorization) return refuse(404, "stream_not_found");
      if (request.method === "DELETE") {
        stream.end("cancelled", "stopped");
        return json(200, stream.describe());
      }
      if (url.searchParams.get("transport") === "json") return json(200, stream.describe());
      const after = cursor(stream, url.searchParams);
      if (after.status) return refuse(after.status, after.code);
      if (poll) {
        const wait = Number.parseInt(url.searchParams.get("wait") ?? "25", 10) * 1000;
        if (stream.state === "open" && stream.last <= after) await stream.changed(wait);
        if (stream.state !== "open" && stream.last <= after) return response.writeHead(204).end();
        const events = stream.events.slice(after, after + 20);
        stream.read = Math.max(stream.read, after + events.length);
        stream.wake();
        return json(200, { stream: id, state: stream.state, events: events.map((event) => envelope(event)), last: after + events.length });
      }
      if (stream.state !== "open" && stream.last <= after) return response.writeHead(204).end();
      return this.#serve(stream, after, request, response, { "flumen-stream-id": id });
    }
    if (url.pathname === "/v1/models") return json(200, { data: [{ id: "sim" }] });
    if (url.pathname === "/metrics") return response.end(`flumen_buffered_bytes 20000\nflumen_frames_in_total ${this.frames}\n`);
    const name = url.pathname === "/" ? "index.html" : url.pathname.replace("/playground/", "");
    const file = await readFile(new URL(name, PLAYGROUND)).catch(() => null);
    if (!file) return refuse(404, "not_found");
    response.writeHead(200, { "content-type": TYPES[name.split(".").at(-1)], "content-security-policy": POLICY }).end(file);
  }

  /** A new stream, or the one of the same key, or why not. */
  begin(body, key, owner) {
    const known = key && this.keys.get(key);
    if (known) return known.body === body ? known.stream : { status: 422, code: "idempotency_mismatch" };
    const request = JSON.parse(body);
    const status = /fault=status:(\d+)/.exec(request.model);
    if (status) return { status: Number(status[1]), code: "upstream_refused" };
    if (!request.model.startsWith("sim")) return { status: 404, code: "model_not_found", message: `There is no model ${request.model}.` };
    const stream = new Stream(request, owner);
    this.streams.set(stream.id, stream);
    if (key) this.keys.set(key, { body, stream });
    return stream;
  }

  async #serve(stream, after, request, response, head) {
    const { events = Infinity, bytes = Infinity, clean = false, retry } = this.plan(this.#served++);
    const gone = new Promise((resolve) => response.on("close", resolve));
    response.writeHead(200, { "content-type": "text/event-stream", ...head });
    response.flushHeaders();
    let written = 0;
    const cut = () => {
      if (clean) response.end();
      else response.socket?.end();
      // What was written has to arrive before the connection is gone.
      setTimeout(() => response.destroy(), 5);
    };
    stream.readers += 1;
    for (let seq = after; !response.destroyed; ) {
      if (seq < stream.last) {
        if (seq - after >= events) return cut();
        let text = head ? frame(stream.events[seq]) : frame(stream.events[seq]).replace(/id: .*\n/, "");
        if (retry !== undefined) text = `retry: ${retry}\n${text}`;
        const part = Buffer.from(text).subarray(0, Math.max(0, bytes - written));
        const more = response.write(part);
        written += Buffer.byteLength(text);
        if (written > bytes) return cut();
        if (!more) await Promise.race([new Promise((resolve) => response.once("drain", resolve)), gone]);
        seq += 1;
        stream.read = Math.max(stream.read, seq);
        stream.wake();
      } else if (stream.state !== "open") {
        response.end();
        break;
      } else {
        await Promise.race([stream.changed(), gone]);
      }
    }
    stream.readers -= 1;
  }

  #socket(socket) {
    const open = new Map();
    this.granted = 0;
    socket.on("message", async (text) => {
      const message = JSON.parse(text);
      const { type, ref } = message;
      const send = (value) => socket.send(JSON.stringify(value));
      if (type === "credit") {
        this.granted += message.bytes;
        if (open.has(ref)) open.get(ref).credit += message.bytes;
        open.get(ref)?.wake();
        return;
      }
      if (type !== "start" && type !== "resume") return;
      this.asked.push(`WS ${type}`);
      const begun = type === "start" ? this.begin(/"body":(.*)}$/s.exec(text)[1], message.idempotency_key)
        : this.streams.get(message.stream ?? message.last_event_id.slice(0, 32)) ?? { status: 404, code: "stream_not_found" };
      if (begun.status) {
        send({ type: "error", ref, status: begun.status, ...(begun.status === 429 && { retry_after: 7 }), error: { code: begun.code, message: `This is ${begun.code}.` } });
        return;
      }
      const reader = { credit: message.credit, wake: () => begun.wake() };
      open.set(ref, reader);
      send({ type: "open", ref, stream: begun.id });
      const from = message.after ?? (message.last_event_id ? Number(message.last_event_id.split("-")[1]) : 0);
      for (let seq = from; socket.readyState === 1; ) {
        if (seq < begun.last && reader.credit > 0) {
          const event = begun.events[seq];
          const bytes = Buffer.byteLength(frame(event).replace(/id: .*\n/, ""));
          reader.credit -= bytes;
          send({ ...envelope(event, { type: "event", ref }), bytes });
          seq += 1;
          begun.read = Math.max(begun.read, seq);
          begun.wake();
        } else if (seq >= begun.last && begun.state !== "open") {
          send({ type: "end", ref, state: begun.state });
          return;
        } else {
          await begun.changed(1000);
        }
      }
    });
  }
}

function cursor(stream, query) {
  const id = query.get("last_event_id");
  if (id !== null && !id.startsWith(`${stream.id}.1-`)) return { status: 400, code: "bad_cursor" };
  const after = id === null ? Number(query.get("starting_after") ?? query.get("after") ?? 0) : Number(id.split("-")[1]);
  if (after > stream.last) return { status: 409, code: "cursor_beyond_tail" };
  if (after + 1 < stream.first) return { status: 410, code: "cursor_too_old" };
  return after;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await new MockGateway().listen(Number(process.argv[2] ?? 8080));
  console.log(url);
}
