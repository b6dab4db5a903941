// The three ways to read a stream. Each is a generator over one connection: it yields the events in the groups in which
// they arrive, and returns when the connection ends. It takes nothing from the network that was not asked for, so the
// consumer's pace is the model's. What to do about a connection that is lost is decided in flumen.js.

import { Decoder } from "./sse.js";

/** An answer that failed, or a request that was refused. */
export class StreamError extends Error {
  name = "StreamError";

  constructor({ message, code = null, status = null, retryAfter = null, cause }) {
    super(message, cause === undefined ? undefined : { cause });
    Object.assign(this, { code, status, retryAfter });
  }
}

/** A connection that is gone while the stream behind it may well be alive. Never leaves this library. */
export class Lost extends Error {
  /**
   * `blocked`: the transport is to blame. `free`: it says nothing about the gateway, so it counts as no failed try.
   * `ended`: the connection was closed in good order.
   */
  constructor(message, { blocked = false, free = false, ended = false } = {}) {
    super(message);
    Object.assign(this, { blocked, free, ended });
  }
}

/** How much a WebSocket may send ahead of the consumer. */
const WINDOW = 65_536;
const encoder = new TextEncoder();

/** One connection: its deadlines, its end, and what it has shown of itself. */
export class Connection {
  #controller = new AbortController();
  #onOpen;
  #born = Date.now();
  /** For how long signs of life came. */
  lived = 0;
  /** Whether anything came at all; what a proxy holds back looks like nothing. */
  heard = false;
  /** Whether the gateway has accepted the request. */
  opened = false;
  /** Whether the stream is known to have ended, so that there is nothing to come back for. */
  finished = false;
  retry = null;

  /** `position` is that of the consumer and moves with it: `{ stream, id, seq }`. */
  constructor(job, position, onOpen) {
    Object.assign(this, { job, position });
    this.#onOpen = onOpen;
  }

  get signal() { return this.#controller.signal; }
  abort(reason) { this.#controller.abort(reason); }

  /** Waits until the consumer lets something through, or the connection is given up. */
  async pass() {
    const gate = this.job.pass?.();
    if (gate) await this.#unlessAborted(gate);
  }

  /** Not every read that is aborted fails: Node's may wait for ever. */
  async #unlessAborted(promise) {
    const { signal } = this;
    let abort;
    const aborted = new Promise((_, reject) => {
      abort = () => reject(signal.reason);
      if (signal.aborted) abort();
      else signal.addEventListener("abort", abort);
    });
    try {
      return await Promise.race([promise, aborted]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  open(stream) {
    this.alive();
    if (this.opened) return;
    this.opened = true;
    this.#onOpen(stream);
  }

  alive() {
    this.heard = true;
    this.lived = Date.now() - this.#born;
  }

  /** Waits for what the connection has to give, but no longer than so many ms. */
  async within(ms, promise, failure) {
    const timer = setTimeout(() => this.abort(failure()), ms);
    try {
      return await this.#unlessAborted(promise);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits for the next thing to come: the first has to come soon, or the transport is blocked. */
  next(promise) {
    const { firstByteTimeout, idleTimeout, resume } = this.job;
    if (this.heard || !resume) return this.within(idleTimeout, promise, () => new Lost(`Nothing came for ${idleTimeout} ms.`));
    return this.within(firstByteTimeout, promise, () => new Lost(`No byte came within ${firstByteTimeout} ms.`, { blocked: true }));
  }

  async fetch(path, accept, { method = "GET", body, headers = {} } = {}) {
    const { job, signal } = this;
    const all = new Headers(job.headers);
    all.set("accept", accept);
    for (const [name, value] of Object.entries(headers)) all.set(name, value);
    // Who stops an answer may close the page in the next moment.
    const keepalive = method === "DELETE";
    const response = await fetch(job.gateway + path, { method, body, headers: all, signal, keepalive, cache: "no-store" });
    if (response.ok) return response;
    throw refused(response.status, await response.text(), response.headers.get("retry-after"), response.statusText);
  }

  /** The request that begins the stream. Sent again it finds the same stream, by its key. */
  begin(accept, more = {}) {
    const { job } = this;
    const headers = { "content-type": "application/json", ...more };
    headers["flumen-resume"] = job.resume ? "1" : "0";
    if (job.resume) headers["idempotency-key"] = job.idempotencyKey;
    return this.fetch(job.path, accept, { method: "POST", body: job.body, headers });
  }
}

export async function* sse(connection) {
  const { position } = connection;
  const { stream, id, seq } = position;
  const after = id ? `?last_event_id=${encodeURIComponent(id)}` : seq > 0 ? `?starting_after=${seq}` : "";
  const response = await connection.next(
    stream === null ? connection.begin("text/event-stream") : connection.fetch(`/v1/streams/${stream}${after}`, "text/event-stream"),
  );
  if (response.status === 204) {
    connection.finished = true;
    return;
  }
  expectType(response, "text/event-stream");
  connection.open(response.headers.get("flumen-stream-id") ?? stream);
  // A proxy may pass the head and hold back the body, which only matters where there is another way.
  connection.heard = position.stream === null;
  yield* read(connection, response);
}

async function* read(connection, response) {
  const reader = response.body.getReader();
  const text = new TextDecoder();
  const decoder = new Decoder();
  try {
    for (;;) {
      await connection.pass();
      const { done, value } = await connection.next(reader.read());
      if (done) return;
      connection.alive();
      const events = decoder.push(text.decode(value, { stream: true }));
      connection.retry = decoder.retry;
      if (events.length > 0) yield events;
    }
  } finally {
    // After the end mark only the end of the body is missing. Reading it spares the connection, and the gateway a client
    // that seems to have left early.
    if (connection.finished) {
      connection.within(1000, reader.read(), () => new Lost("The body did not end.")).catch(() => {});
    } else {
      connection.abort(new Lost("The reader left."));
    }
  }
}

export async function* poll(connection) {
  const { job, position } = connection;
  let { stream } = position;
  if (stream === null) {
    const response = await connection.next(connection.begin("application/json", { prefer: "respond-async" }));
    // A server that does not know the preference has begun to answer.
    if ((response.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
      connection.open(response.headers.get("flumen-stream-id"));
      yield* read(connection, response);
      return;
    }
    if (response.status !== 202) throw new Lost("The gateway does not know long polling.", { blocked: true });
    stream = await streamOf(response);
    connection.open(stream);
  }
  // The gateway has to answer before the client takes it for dead.
  const wait = Math.max(1, Math.min(25, Math.floor(job.idleTimeout / 2000)));
  for (;;) {
    await connection.pass();
    const get = connection.fetch(`/v1/streams/${stream}/poll?after=${position.seq}&wait=${wait}s`, "application/json");
    const limit = wait * 1000 + job.firstByteTimeout;
    const page = await connection.within(limit, get.then(async (response) => {
      if (response.status === 204) return null;
      expectType(response, "application/json");
      return response.json();
    }), () => new Lost(`No answer to a poll within ${limit} ms.`, { blocked: !connection.heard }));
    if (page === null) {
      connection.finished = true;
      return;
    }
    connection.open(stream);
    connection.alive();
    if (page.events.length > 0) yield page.events.map(unwrap);
  }
}

export async function* websocket(connection) {
  const { job, position, signal } = connection;
  const socket = new WebSocket(`${job.gateway.replace(/^http/, "ws")}/v1/socket`, ["flumen.v1", ...keyProtocol(job.headers)]);
  const queue = [];
  let closed = null;
  let wake = () => {};
  const close = (reason) => {
    closed ??= reason;
    wake();
  };
  const leave = () => {
    queue.length = 0;
    socket.close();
    close(signal.reason);
  };
  if (signal.aborted) leave();
  signal.addEventListener("abort", leave);
  socket.onopen = () => socket.send(opening(job, position));
  socket.onclose = ({ code, reason }) => close(new Lost(`The socket was closed: ${code} ${reason}`.trim()));
  // What went wrong is not told; that the socket closed is, by the next event.
  socket.onerror = () => {};
  socket.onmessage = ({ data }) => {
    queue.push(data);
    wake();
  };
  let spent = 0;
  try {
    for (;;) {
      await connection.pass();
      if (queue.length === 0 && !closed) {
        const arrival = new Promise((resolve) => { wake = resolve; });
        // Pings are invisible here: only a new connection can tell a silent model from a dead socket.
        if (connection.opened) await connection.within(job.idleTimeout, arrival, () => new Lost("The socket is silent.", { free: true }));
        else await connection.next(arrival);
      }
      if (queue.length === 0) throw closed;
      connection.alive();
      const events = [];
      let last = null;
      for (const text of queue.splice(0)) {
        const message = JSON.parse(text);
        if (message.type === "open") connection.open(message.stream);
        else if (message.type === "event") {
          events.push(unwrap(message));
          spent += message.bytes;
        } else if (message.type === "end" || message.type === "error") last = message;
      }
      if (events.length > 0) yield events;
      if (last?.type === "error") throw refused(last.status, JSON.stringify(last), last.retry_after ?? null, "");
      if (last) {
        connection.finished = true;
        return;
      }
      // Only what the consumer has taken makes room; in portions, not to answer every event with a message.
      if (spent >= WINDOW / 4 && !closed) {
        socket.send(JSON.stringify({ type: "credit", ref: 1, bytes: spent }));
        spent = 0;
      }
    }
  } finally {
    signal.removeEventListener("abort", leave);
    socket.close();
  }
}

/** The name of a stream that was asked for without its answer; null if the answer is not of that kind. */
export async function streamOf(response) {
  return response.headers.get("flumen-stream-id") ?? (response.status === 202 ? (await response.json()).id : null);
}

function opening({ path, body, idempotencyKey }, { stream, id, seq }) {
  if (stream === null) {
    const start = JSON.stringify({ type: "start", ref: 1, path, idempotency_key: idempotencyKey, credit: WINDOW });
    // The body goes as it is: under the same key it has to be the same to the byte.
    return `${start.slice(0, -1)},"body":${body}}`;
  }
  return JSON.stringify({ type: "resume", ref: 1, ...(id ? { last_event_id: id } : { stream, after: seq }), credit: WINDOW });
}

/** A browser's WebSocket has no headers of its own. A key can go as a protocol, other credentials cannot go at all. */
export const canCarry = (headers) => keyProtocol(headers).length > 0 || !(headers.has("authorization") || headers.has("x-api-key"));

function keyProtocol(headers) {
  const key = /^Bearer (.+)$/i.exec(headers.get("authorization") ?? "")?.[1] ?? headers.get("x-api-key");
  if (!key) return [];
  const binary = String.fromCharCode(...encoder.encode(key));
  return [`flumen.key.${btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`];
}

/** The payload as text: JSON as it was but for white space and the form of numbers, anything else to the letter. */
function unwrap({ id, seq, event = "message", data }) {
  return { id, seq, event, data: typeof data === "string" ? data : JSON.stringify(data) };
}

function expectType(response, type) {
  const got = response.headers.get("content-type") ?? "";
  if (!got.startsWith(type)) {
    response.body?.cancel().catch(() => {});
    throw new Lost(`The answer is no ${type === "text/event-stream" ? "event stream" : "JSON"}, but ${got || "of no type"}.`, { blocked: true });
  }
}

function refused(status, text, retryAfter, statusText) {
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    // Not in the API's form, as from a proxy: the status has to do.
  }
  const message = error.message ?? (statusText || `The request was refused with status ${status}.`);
  return new StreamError({ message, code: error.code ?? null, status, retryAfter: seconds(retryAfter), cause: error });
}

/** `Retry-After` in seconds, whichever way it is written. */
function seconds(value) {
  if (value === null || value === "") return null;
  const number = Number(value);
  if (Number.isFinite(number)) return Math.max(0, number);
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, Math.ceil((date - Date.now()) / 1000));
}
