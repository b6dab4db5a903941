/** How the events come: as server-sent events, over a WebSocket, or by asking again and again. */
export type Transport = "sse" | "websocket" | "poll";

export type State =
  /** Nothing was asked for: a stream begins with the first read. */
  | "idle"
  | "connecting"
  /** The gateway has accepted the request; events come. */
  | "open"
  /** The connection is lost. The next try comes by itself. */
  | "reconnecting"
  /** All events were read. */
  | "done"
  /** The answer failed, was refused or cannot be reached. */
  | "failed"
  /** The signal was aborted. */
  | "aborted"
  /** The consumer broke out of its loop. */
  | "left";

export interface FlumenEvent {
  /** Opaque, except that the stream can be gone on with after it. Null if the answer is not resumable. */
  id: string | null;
  /** Counts the events of the stream from 1, without gaps. */
  seq: number;
  /** The type; "message" if the event names none. */
  event: string;
  /** The payload: as it was sent (SSE), or the same JSON with other white space (WebSocket, long poll). */
  data: string;
  /** By which it came. */
  transport: Transport;
}

export interface StateDetails {
  transport: Transport | null;
  /** How often the stream was gone on with over a new connection. */
  resumes: number;
  /** With "reconnecting": why the connection was lost. */
  cause?: unknown;
  /** With "reconnecting": how long until the next try, in ms. */
  delay?: number;
  /** With "failed" and "aborted". */
  error?: unknown;
}

export interface ResumeOptions {
  /**
   * Sent with every request; a key in `authorization` or `x-api-key` says whose stream it is, and goes along as a
   * subprotocol where a WebSocket is used. Other credentials, such as those of Basic, cannot: with them none is.
   */
  headers?: HeadersInit;
  /** Aborting ends the iteration with the signal's reason and closes the connection. It does not stop the generation. */
  signal?: AbortSignal;
  /** Which to use, in this order. Default: all three. What worked last for this gateway comes first. */
  transports?: Transport[];
  /**
   * How long the first byte may take until the transport is taken to be blocked, in ms; to be longer than the gateway's
   * heartbeat, which is the first byte of a slow model. Default: 20 000.
   */
  firstByteTimeout?: number;
  /** How long a connection may be silent until it is taken to be dead, in ms; heartbeats count as life. Default: 45 000. */
  idleTimeout?: number;
  /** How often in a row a stream may fail to go on. Default: 10. */
  maxRetries?: number;
  /** The first delay before coming back, in ms; it doubles up to `maxDelay`, and the real one is random below that. Default: 500. */
  minDelay?: number;
  /** Default: 10 000. */
  maxDelay?: number;
  /** How long to wait for the network where the browser says that there is none, in ms. Default: 60 000. */
  offlineWait?: number;
  /** Told whenever the state changes. */
  onState?: (state: State, details: StateDetails) => void;
  /** Awaited before anything is taken from the network: while the promise is pending, the model waits. */
  pass?: () => Promise<unknown> | null | undefined | void;
}

export interface StreamOptions extends ResumeOptions {
  /** The request: an object, or its JSON. */
  body: object | string;
  /** Whether to survive lost connections. Default: true. Without it the answer comes over SSE and ends with its connection. */
  resume?: boolean;
  /** The same key with the same body finds the same stream. Default: a random one. */
  idempotencyKey?: string;
  /** How often to send the request until there is an answer. Default: 6. */
  maxStarts?: number;
  /** With which statuses a refused request is sent again. Default: 429, 502, 503 and 504. */
  retryOn?: number[];
  /** The gateway's address, if it is not what is before the last "/v1/" of the URL. */
  gateway?: string | URL;
}

export interface ResumePoint {
  /** The number of the last event seen. Default: 0, from the beginning. */
  after?: number;
  /** The id of the last event seen; better than `after` where it is known. */
  lastEventId?: string | null;
}

/** A streamed answer: iterate it, once. Each event comes exactly once and in order, over whatever connections. */
export interface Stream extends AsyncIterable<FlumenEvent> {
  /** The stream's id, when it is known; null for an answer that is not resumable. */
  readonly id: string | null;
  /** Of the last event handed out. */
  readonly lastEventId: string | null;
  /** Of the last event handed out; 0 before the first. */
  readonly seq: number;
  readonly state: State;
  readonly transport: Transport | null;
  readonly resumes: number;
  /** Instead of iterating the stream itself: its events in the groups in which they arrived. */
  batches(): AsyncGenerator<FlumenEvent[], void, undefined>;
  /** Drops the connection, to see the stream go on over the next one. */
  cut(): void;
  /** Stops the generation, for all readers. Answers with the stream's state; null if there is none to ask for. */
  stop(): Promise<StreamState | null>;
}

export interface StreamState {
  id: string;
  object: "stream";
  state: "open" | "done" | "error" | "cancelled" | "lost";
  cause: string | null;
  created: number;
  dialect: string;
  model: string;
  epoch: number;
  first: number;
  last: number;
  bytes: number;
  readers: number;
}

/** The answer's error event, a final refusal, or a stream that cannot be reached any more. */
export class StreamError extends Error {
  readonly name: "StreamError";
  /** As the gateway or the model named it; "unreachable", "blocked" and "connection_lost" come from here. */
  readonly code: string | null;
  /** The HTTP status of a refusal. */
  readonly status: number | null;
  /** In seconds, if the server asks to wait. */
  readonly retryAfter: number | null;
}

/** Sends a streamed request, such as POST /v1/chat/completions, and reads its answer. */
export function stream(url: string | URL, options: StreamOptions): Stream;

/** A key as requests get it that have none. */
export function randomKey(): string;

/** Goes on with a stream that was begun elsewhere, as before the page was loaded again. */
export function resume(gateway: string | URL, streamId: string, options?: ResumeOptions & ResumePoint): Stream;
