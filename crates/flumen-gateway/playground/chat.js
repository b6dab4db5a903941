// One streamed chat completion.

import { StreamError, resume, stream } from "./flumen.js";

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
 * Asks, or asks again under the same key. Iterating yields one item for each arrival of events: `{ text, events, usage }`.
 * It ends when the end mark has come, and throws a `Failure` otherwise, or an `AbortError` when it is aborted.
 */
export const ask = ({ body, idempotencyKey, ...more }) =>
  // A refusal is shown, with a button to try again: nobody has to wait for tries that he cannot see.
  new Answer(stream("/v1/chat/completions", { body, idempotencyKey, retryOn: [], ...common(more) }));

/** Goes on with an answer that was begun before the page was loaded again. */
export const goOn = ({ id, seq, lastEventId, ...more }) => new Answer(resume("/", id, { after: seq, lastEventId, ...common(more) }));

const common = ({ headers, signal, valve, onState }) => ({ headers, signal, onState, pass: () => valve.passing() });

class Answer {
  constructor(stream) { this.stream = stream; }

  async *[Symbol.asyncIterator]() {
    let done = false;
    try {
      for await (const events of this.stream.batches()) {
        const arrival = { text: "", events: 0, usage: null };
        let failure = null;
        try {
          for (const { data } of events) {
            done = data === "[DONE]";
            if (done) break;
            const seen = parse(data);
            arrival.text += seen.choices?.[0]?.delta?.content ?? "";
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
    } catch (error) {
      throw error instanceof StreamError ? failed(error) : error;
    }
    // A stream of the gateway is known to have ended; of anything else only the end mark tells.
    if (!done && this.stream.id === null) throw new Failure({ code: "truncated", message: "The stream ended without its end mark." });
  }
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new Failure({ code: "garbage", message: "An event is not JSON." });
  }
}

function failed({ code, status, retryAfter, message }) {
  if (code !== "unreachable" && code !== "connection_lost") return new Failure({ code, status, retryAfter, message });
  return new Failure({ message: "The gateway cannot be reached, or it cut the connection.", reachable: false });
}
