// One streamed chat completion.

import { Decoder } from "./sse.js";

/** What ended an answer in any way but the good one. */
export class Failure extends Error {
  constructor({ message, code = null, status = null, retryAfter = null, reachable = true }) {
    super(message);
    Object.assign(this, { code, status, retryAfter, reachable });
  }
}

/** A switch that reading waits for: while it is closed nothing is taken from the network. */
export class Valve {
  #opened = null;
  #open = () => {};

  get closed() { return this.#opened !== null; }
  close() { this.#opened ??= new Promise((resolve) => { this.#open = resolve; }); }
  open() { this.#opened = null; this.#open(); }
  passing() { return this.#opened; }
}

export const request = (model, messages) =>
  ({ model, messages, stream: true, stream_options: { include_usage: true } });

/**
 * Asks and yields one item for each arrival of events: `{ text, events, usage }`. Ends when the end mark has come;
 * throws a `Failure` otherwise, or an `AbortError` when it is stopped.
 */
export async function* ask({ body, key, signal, valve }) {
  const response = await open(body, key, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const decoder = new Decoder();
  let done = false;
  while (!done) {
    await valve.passing();
    const chunk = await reader.read().catch((error) => { throw broken(error, signal); });
    if (chunk.done) throw new Failure({ code: "truncated", message: "The stream ended without its end mark." });
    const arrival = { text: "", events: 0, usage: null };
    let failure = null;
    try {
      for (const { data } of decoder.push(chunk.value)) {
        if (data === "[DONE]") {
          done = true;
          break;
        }
        const seen = parse(data);
        if (seen.error) throw new Failure({ code: seen.error.code, message: seen.error.message ?? "The stream failed." });
        const delta = seen.choices?.[0]?.delta ?? {};
        arrival.text += delta.content ?? "";
        arrival.events += 1;
        arrival.usage = seen.usage ?? arrival.usage;
      }
    } catch (error) {
      failure = error;
    }
    // What came together with the failure came before it.
    if (arrival.events > 0) yield arrival;
    if (failure) throw failure;
  }
}

async function open(body, key, signal) {
  const headers = { "content-type": "application/json", accept: "text/event-stream" };
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal })
    .catch((error) => { throw broken(error, signal); });
  const type = response.headers.get("content-type") ?? "";
  if (response.ok && type.startsWith("text/event-stream")) return response;
  const text = await response.text().catch(() => "");
  let error = {};
  try { error = JSON.parse(text).error ?? {}; } catch { /* not in the API's form: the status has to do */ }
  const message = error.message ?? (response.ok ? `The answer is no event stream, but ${type}.` : response.statusText);
  throw new Failure({
    message, code: error.code ?? null, status: response.status, retryAfter: response.headers.get("retry-after"),
  });
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new Failure({ code: "garbage", message: "An event is not JSON." });
  }
}

function broken(error, signal) {
  if (signal.aborted) return error;
  return new Failure({ message: "The gateway cannot be reached, or it cut the connection.", reachable: false });
}
