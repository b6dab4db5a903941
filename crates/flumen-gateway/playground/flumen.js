// Reads a streamed answer from a Flumen gateway and survives cuts. docs/streams.md is the contract.
// For browsers and Node 18 or later, without dependencies: this file, transports.js and sse.js.
//
//   const answer = stream("/v1/chat/completions", { body: { model, messages, stream: true } });
//   for await (const { data } of answer) console.log(data);

import { canCarry, Connection, Lost, StreamError, poll, sse, streamOf, websocket } from "./transports.js";

export { StreamError };

const TRANSPORTS = { sse, websocket, poll };
/** Refusals that may be otherwise a moment later. */
const PASSING = [429, 502, 503, 504];
/** Who is asked to wait for longer than this is told, and may come back himself. */
const LONGEST_WAIT = 60_000;

/** By gateway, the transport over which events came last: what is blocked has to be found out only once for a page. */
const worked = new Map();

/** Sends a request and reads its answer, which goes on over whatever happens to the connection. */
export function stream(url, { body, idempotencyKey = randomKey(), gateway, ...options } = {}) {
  const target = absolute(url);
  const prefix = target.pathname.slice(0, Math.max(0, target.pathname.lastIndexOf("/v1/")));
  const base = gateway === undefined ? target.origin + prefix : trimmed(gateway);
  if (!target.href.startsWith(`${base}/`)) throw new TypeError(`${target.href} is not of the gateway ${base}`);
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return new Stream({ ...options, gateway: base, path: target.href.slice(base.length), body: text, idempotencyKey });
}

/** Goes on with a stream that was begun elsewhere, as before the page was loaded again. */
export function resume(gateway, id, { after = 0, lastEventId = null, ...options } = {}) {
  const seq = lastEventId === null ? after : (seqOf(lastEventId) ?? after);
  return new Stream({ ...options, gateway: trimmed(gateway), resume: true }, { stream: id, id: lastEventId, seq });
}

class Stream {
  /** What was handed to the consumer last. */
  lastEventId;
  seq;
  state = "idle";
  transport = null;
  /** How often the stream was gone on with over a new connection. */
  resumes = 0;

  #job;
  /** What was received last. A group of events is handed out one by one, so the consumer may be a little behind. */
  #position;
  #connection = null;
  #wake = null;
  #begun = false;
  #stopped = false;

  constructor(options, position = { stream: null, id: null, seq: 0 }) {
    const {
      headers, transports = ["sse", "websocket", "poll"], resume = true, firstByteTimeout = 20_000, idleTimeout = 45_000,
      maxRetries = 10, maxStarts = 6, retryOn = PASSING, minDelay = 500, maxDelay = 10_000, offlineWait = 60_000, ...rest
    } = options;
    const own = new Headers(headers);
    const usable = transports.filter((name) => name !== "websocket" || (globalThis.WebSocket && canCarry(own)));
    for (const name of transports) if (!Object.hasOwn(TRANSPORTS, name)) throw new TypeError(`There is no transport ${name}.`);
    if (usable.length === 0) throw new TypeError("None of the transports can be used here.");
    const best = usable.indexOf(worked.get(rest.gateway));
    if (resume && best > 0) usable.unshift(...usable.splice(best, 1));
    this.#job = {
      ...rest, headers: own, resume, firstByteTimeout, idleTimeout, maxRetries, maxStarts, retryOn, minDelay, maxDelay, offlineWait,
      transports: resume ? usable : ["sse"],
    };
    this.#position = { ...position };
    this.lastEventId = position.id;
    this.seq = position.seq;
  }

  get id() { return this.#position.stream; }

  async *[Symbol.asyncIterator]() {
    for await (const events of this.#read()) {
      for (const event of events) {
        this.#handOut(event);
        yield event;
      }
    }
  }

  /** The same events in the groups in which they arrived. */
  async *batches() {
    for await (const events of this.#read()) {
      this.#handOut(events.at(-1));
      yield events;
    }
  }

  /** Drops the connection; the stream goes on over another one. */
  cut() { this.#connection?.abort(new Lost("The connection was cut on purpose.", { free: true })); }

  /**
   * Stops the generation, and answers with the stream's state, or null if there is no such stream (any more). Who goes on
   * reading gets the end of the answer.
   */
  async stop() {
    this.#stopped = true;
    if (!this.#job.resume || (this.#connection?.opened && this.id === null)) {
      // Leaving is all that can be done here, and stops an answer that belongs to its connection.
      this.#connection?.abort(new Lost("Stopped."));
      return null;
    }
    if (!this.#begun && this.id === null) return null;
    for (let tries = 1; ; tries++) {
      try {
        return await this.#delete();
      } catch (error) {
        if (error instanceof StreamError && error.status === 404) return null;
        if (tries === 3 || (error instanceof StreamError && !PASSING.includes(error.status))) throw error;
        await new Promise((resolve) => setTimeout(resolve, Math.random() * this.#job.minDelay * 2 ** tries));
      }
    }
  }

  async #delete() {
    const request = new Connection(this.#job, this.#position, () => {});
    const limit = this.#job.firstByteTimeout;
    const late = () => new Lost(`No answer within ${limit} ms.`);
    if (this.id === null) {
      // The answer to the request has not come yet, and with it the stream's name. Its key has it.
      const begun = await request.within(limit, request.begin("application/json", { prefer: "respond-async" }), late);
      this.#position.stream ??= await streamOf(begun);
      if (this.id === null) {
        // Nothing that outlives its connections: without them it ends.
        request.abort(new Lost("Stopped."));
        this.#connection?.abort(new Lost("Stopped."));
        return null;
      }
    }
    const answer = await request.within(limit, request.fetch(`/v1/streams/${this.id}`, "application/json", { method: "DELETE" }), late);
    return answer.json();
  }

  #handOut({ id, seq }) {
    this.lastEventId = id;
    this.seq = seq;
  }

  #show(state, more = {}) {
    this.state = state;
    this.#job.onState?.(state, { transport: this.transport, resumes: this.resumes, ...more });
  }

  async *#read() {
    if (this.#begun) throw new TypeError("A stream is read once.");
    this.#begun = true;
    const { signal } = this.#job;
    const abort = () => {
      this.#connection?.abort(signal.reason);
      this.#wake?.();
    };
    // A connection from before the network was gone is most likely dead, and would be waited for until it times out.
    const online = () => {
      if (this.#wake) this.#wake();
      else if (this.id !== null) this.#connection?.abort(new Lost("The network is back.", { free: true }));
    };
    signal?.addEventListener("abort", abort);
    globalThis.addEventListener?.("online", online);
    try {
      signal?.throwIfAborted();
      yield* this.#connections();
      this.#show("done");
    } catch (error) {
      this.#show(signal?.aborted ? "aborted" : "failed", { error });
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
      globalThis.removeEventListener?.("online", online);
      if (this.state !== "done" && this.state !== "failed" && this.state !== "aborted") this.#show("left");
    }
  }

  /** One connection after the other, until the stream has ended. */
  async *#connections() {
    const { signal, transports } = this.#job;
    let which = 0;
    let failures = 0;
    let silent = 0;
    this.transport = transports[0];
    this.#show("connecting");
    for (let connections = 0; !(this.#stopped && this.id === null); connections++) {
      const connection = this.#connect(connections);
      let failure = new Lost("The connection ended before the stream.", { ended: true });
      try {
        for await (const events of TRANSPORTS[this.transport](connection)) {
          const { fresh, end = false, wrong } = this.#sift(events);
          if (fresh.length > 0) {
            worked.set(this.#job.gateway, this.transport);
            failures = 0;
            yield fresh;
          }
          connection.finished = end || wrong instanceof StreamError;
          if (wrong) throw wrong;
          if (end) break;
        }
        if (connection.finished) return;
        // An answer that belongs to its connection ends with it.
        if (connection.opened && this.id === null) return;
      } catch (error) {
        // Platforms differ in what an aborted read throws.
        const own = error instanceof StreamError || error instanceof Lost;
        failure = connection.signal.aborted && !own ? connection.signal.reason : error;
      }
      this.#connection = null;
      signal?.throwIfAborted();
      if (this.#stopped && this.id === null) return;
      if (failure.free) {
        this.#show("reconnecting", { cause: failure, delay: 0 });
        continue;
      }
      // What went well for a while is no row of failures, even if nothing was said.
      failures = connection.lived > this.#job.maxDelay ? 1 : failures + 1;
      // Without a network no transport is to blame.
      const offline = globalThis.navigator?.onLine === false;
      silent = connection.heard || offline || failure instanceof StreamError ? 0 : silent + 1;
      this.#giveUp(connection, failure, failures);
      let delay = this.#delay(connection, failure, failures);
      if (failure.blocked || silent === 2) {
        silent = 0;
        which = (which + 1) % transports.length;
        this.transport = transports[which];
        // The next transport has not failed yet.
        if (which > 0) delay = 0;
      }
      this.#show("reconnecting", { cause: failure, delay });
      // What the browser takes for the network may not be the one on which the gateway is: it has to fail once more.
      if (offline && failures > 1) delay = Math.max(delay, this.#job.offlineWait);
      if (delay > 0) await this.#rest(delay);
      signal?.throwIfAborted();
    }
  }

  #connect(before) {
    return this.#connection = new Connection(this.#job, this.#position, (stream) => {
      this.#position.stream = this.#job.resume ? stream : null;
      if (before > 0) this.resumes += 1;
      this.#show("open");
    });
  }

  /** Of what has arrived, what is new; and whether the end has come, good or bad. */
  #sift(events) {
    const { stream } = this.#position;
    const fresh = [];
    for (const { id = null, event, data, seq = seqOf(id) ?? this.#position.seq + 1 } of events) {
      if (stream !== null && seq <= this.#position.seq) continue;
      if (stream !== null && seq > this.#position.seq + 1) return { fresh, wrong: new Lost(`Event ${seq} came after ${this.#position.seq}.`) };
      const error = errorIn(data);
      if (error) return { fresh, wrong: error };
      this.#position.id = id;
      this.#position.seq = stream === null ? this.#position.seq + 1 : seq;
      fresh.push({ id, seq: this.#position.seq, event, data, transport: this.transport });
      if (data === "[DONE]") return { fresh, end: true };
    }
    return { fresh };
  }

  /** Throws if there is no point, or no longer a point, in coming back. */
  #giveUp(connection, failure, failures) {
    const { resume, retryOn, maxRetries, maxStarts } = this.#job;
    if (failure instanceof StreamError) {
      const passing = resume && (this.id === null ? retryOn : PASSING).includes(failure.status);
      if (!passing || failure.retryAfter * 1000 > LONGEST_WAIT) throw failure;
    }
    const again = resume && !(connection.opened && this.id === null);
    if (again && (this.id === null ? failures < maxStarts : failures <= maxRetries)) return;
    if (failure instanceof StreamError) throw failure;
    // A blocked transport has given its reason; the reasons of a network say nothing to anybody.
    const known = failure instanceof Lost;
    if (this.id === null && !connection.opened) {
      const code = failure.blocked ? "blocked" : "unreachable";
      throw new StreamError({ code, message: known ? failure.message : "The gateway cannot be reached.", cause: failure });
    }
    throw new StreamError({ code: "connection_lost", message: known ? failure.message : "The connection was cut.", cause: failure });
  }

  #delay(connection, failure, failures) {
    const { minDelay, maxDelay } = this.#job;
    const asked = failure instanceof StreamError ? failure.retryAfter * 1000 : Math.min(connection.retry ?? 0, LONGEST_WAIT);
    // An answer without end mark looks like this, and whether it was one is known at once.
    if (asked === 0 && failures === 1 && failure.ended) return 0;
    // Full jitter: those who lost their connections together must not come back together.
    return asked + Math.random() * Math.min(maxDelay, minDelay * 2 ** (failures - 1));
  }

  /** Waits so long, or until the network is back. */
  #rest(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
    });
  }
}

/** The error in an error event, in the form that the APIs share. */
function errorIn(data) {
  if (!data.includes('"error"')) return null;
  try {
    const { error } = JSON.parse(data);
    if (typeof error === "string" && error !== "") return new StreamError({ message: error });
    if (typeof error !== "object" || error === null) return null;
    return new StreamError({ message: error.message ?? "The stream failed.", code: error.code ?? error.type ?? null, cause: error });
  } catch {
    return null;
  }
}

/** An id ends with the event's number. */
function seqOf(id) {
  const digits = /-(\d+)$/.exec(id ?? "");
  return digits && Number(digits[1]);
}

const absolute = (url) => new URL(url, globalThis.location?.href);
const trimmed = (gateway) => absolute(gateway || "/").href.replace(/\/+$/, "");

/** A key that nobody else has. */
export function randomKey() {
  // Outside secure contexts, as on a gateway in the house without TLS, there is no randomUUID.
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  const bytes = new Uint8Array(16);
  if (globalThis.crypto) crypto.getRandomValues(bytes);
  else bytes.forEach((_, at) => { bytes[at] = Math.random() * 256; });
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
