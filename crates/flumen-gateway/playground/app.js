// The playground: asks a model, types its answer and measures how it arrives.

import { Failure, Valve, ask, goOn, request } from "./chat.js";
import { randomKey } from "./flumen.js";
import { Gaps } from "./gaps.js";
import * as keys from "./key.js";
import { Growing } from "./markdown.js";
import { countDown, refusal } from "./refusal.js";

const $ = (id) => document.getElementById(id);
const make = (name, className, ...children) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
};

const PROMPTS = ["Tell me about the river.", "讲讲这条河流。", "川の話をしてください。", "Erzähl mir etwas Schönes über den Fluss."];
const FAULTS = [
  ["sim:fault=cut@20", "cuts the connection"], ["sim:fault=stall@20", "falls silent"], ["sim:fault=status:503", "refuses"],
  ["sim:tps=0,tokens=endless", "endless and fast"],
];
// A page that has shown so many characters of one answer shows no more of it.
const MOST_SHOWN = 200_000;
/** Under this name an answer on its way is kept while the page is loaded again. */
const KEPT = "flumen-answer";
const TRANSPORTS = { sse: "SSE", websocket: "WebSocket", poll: "Long poll" };

const gaps = new Gaps($("gaps"), $("gaps-label"));
let conversation = [];
let running = null;

const WORDS = {
  idle: "Ready", waiting: "Waiting in the queue or for the model", streaming: "Streaming", paused: "Paused: not reading",
  reconnecting: "Reconnecting",
  complete: "Complete", stopped: "Stopped", refused: "Error before the first token", broken: "Error after the first token",
  unreachable: "Gateway unreachable",
};

function show(state, words = WORDS[state]) {
  $("status").dataset.state = state;
  $("state").textContent = words;
  const live = ["waiting", "streaming", "paused", "reconnecting"].includes(state);
  $("stop").disabled = !live;
  $("pause").disabled = !["streaming", "paused"].includes(state);
  $("cut").disabled = state !== "streaming";
  $("pause").textContent = state === "paused" ? "Resume" : "Pause";
  $("send").disabled = live;
}

const milliseconds = (value) => (value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`);

/** One answer on its way: what it measured, and where it is shown. */
class Run {
  /** `kept` is what `keep` has given for a run that is gone on with. */
  constructor(article, model, kept) {
    this.article = article;
    this.abort = new AbortController();
    this.valve = new Valve();
    Object.assign(this, { first: null, last: null, events: 0, tokens: 0, usage: null, text: "", cuts: 0, resumed: 0, ...kept?.figures });
    Object.assign(this, { model, unshown: this.text, shown: 0, connected: false });
    this.started = performance.now() - (kept ? Date.now() - kept.since : 0);
    this.growing = new Growing(article.querySelector(".text"));
    // Under the same key a request that was not answered before the page was loaded again is not run twice.
    this.idempotencyKey = kept?.idempotencyKey ?? randomKey();
    // What runs keeps the key with which it was begun.
    this.key = keys.key();
    const common = { headers: keys.headers(), signal: this.abort.signal, valve: this.valve, onState: (state) => this.changed(state) };
    this.answer = kept?.id ? goOn({ ...kept, ...common })
      : ask({ body: request(model, conversation), idempotencyKey: this.idempotencyKey, ...common });
    if (this.first !== null) this.speaks();
    this.tick();
  }

  /** What it takes to go on after the page was loaded again; null if that cannot be. */
  keep() {
    const { id, lastEventId, seq } = this.answer.stream;
    if (this.ended || (id === null && this.text !== "")) return null;
    const { first, events, tokens, usage, text, cuts, model, idempotencyKey } = this;
    const figures = { first, events, tokens, usage, text, cuts: cuts + 1, resumed: this.resumes + 1 };
    return { id, lastEventId, seq, model, conversation, idempotencyKey, figures, since: Date.now() - (performance.now() - this.started) };
  }

  get resumes() { return this.resumed + this.answer.stream.resumes; }

  changed(state) {
    if (this !== running || this.ended) return;
    if (state === "reconnecting") {
      if (this.connected) this.cuts += 1;
      this.connected = false;
      // The time without a connection is no gap in the model's answer.
      this.last = null;
    } else if (state === "open") {
      this.connected = true;
    } else {
      return;
    }
    if (this.valve.closed || this.abort.signal.aborted) return;
    show(state === "reconnecting" ? state : this.first === null ? "waiting" : "streaming");
  }

  speaks() {
    this.article.querySelector(".waiting")?.remove();
    show("streaming");
  }

  arrived({ text, events, usage }) {
    const now = performance.now();
    this.events += events;
    this.usage = usage ?? this.usage;
    if (text === "") return;
    if (this.first === null) {
      this.first = now - this.started;
      this.speaks();
    } else if (this.last !== null) {
      gaps.add(now - this.last);
    }
    this.last = now;
    this.tokens += events;
    this.text += text;
    this.unshown += text;
  }

  /** Once a frame: what has come is typed, and the figures follow. */
  tick() {
    this.type();
    const now = this.ended ?? performance.now();
    const elapsed = now - this.started;
    $("clock").textContent = this.first === null ? milliseconds(elapsed) : "";
    $("first").textContent = this.first === null ? "–" : milliseconds(this.first);
    const tokens = this.usage?.completion_tokens ?? this.tokens;
    const speaking = (elapsed - (this.first ?? 0)) / 1000;
    $("rate").textContent = this.first === null || speaking < 0.05 ? "–" : (tokens / speaking).toFixed(1);
    $("tokens").textContent = tokens.toLocaleString("en");
    $("events").textContent = this.events.toLocaleString("en");
    $("time").textContent = milliseconds(elapsed);
    $("gap").textContent = gaps.largest ? milliseconds(gaps.largest) : "–";
    $("cuts").textContent = this.cuts;
    $("resumes").textContent = this.resumes;
    $("transport").textContent = TRANSPORTS[this.answer.stream.transport] ?? "–";
    if (!this.ended) requestAnimationFrame(() => this.tick());
  }

  type() {
    if (this.unshown === "") return;
    const talk = $("talk");
    const following = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
    if (this.shown < MOST_SHOWN) {
      this.growing.append(this.unshown);
      this.shown += this.unshown.length;
      if (this.shown >= MOST_SHOWN) this.note("The answer goes on; this page shows no more of it.");
    }
    this.unshown = "";
    if (following) talk.scrollTop = talk.scrollHeight;
  }

  end(state) {
    this.ended = performance.now();
    this.tick();
    this.article.classList.remove("live");
    this.article.querySelector(".waiting")?.remove();
    show(state);
  }

  note(...words) {
    const note = make("p", "note", ...words);
    this.article.append(note);
    $("talk").scrollTop = $("talk").scrollHeight;
    return note;
  }
}

async function send(prompt) {
  $("welcome").hidden = true;
  conversation.push({ role: "user", content: prompt });
  $("messages").append(make("article", "user", prompt));
  await answer();
}

async function answer(kept) {
  const waiting = make("div", "waiting", make("i"), make("i"), make("i"));
  const article = make("article", "model live", make("div", "text"), waiting);
  $("messages").append(article);
  $("talk").scrollTop = $("talk").scrollHeight;
  gaps.clear();
  show("waiting");
  const run = running = new Run(article, kept?.model ?? $("model").value.trim(), kept);
  try {
    for await (const arrival of run.answer) {
      if (run !== running) return;
      run.arrived(arrival);
    }
    if (run === running) run.end("complete");
  } catch (error) {
    if (run === running) failed(run, error);
  }
  if (run !== running) return;
  if (run.text !== "") conversation.push({ role: "assistant", content: run.text });
  running = null;
}

function keep() {
  sessionStorage.removeItem(KEPT);
  const kept = running?.keep();
  // An answer of millions of characters may find no room; it is then lost with the page.
  try { if (kept) sessionStorage.setItem(KEPT, JSON.stringify(kept)); } catch { /* as said */ }
}

/** After the page was loaded again: the conversation as it was, and the answer from where it was. */
function restore() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT));
  sessionStorage.removeItem(KEPT);
  if (!kept) return false;
  $("welcome").hidden = true;
  $("model").value = kept.model;
  conversation = kept.conversation;
  for (const { role, content } of conversation) {
    const text = make("div", "text");
    $("messages").append(role === "user" ? make("article", "user", content) : make("article", "model", text));
    if (role !== "user") new Growing(text).append(content);
  }
  answer(kept);
  return true;
}

function failed(run, error) {
  if (run.abort.signal.aborted) {
    run.end("stopped");
    run.note("Stopped. The generation was cancelled at the model.");
    return;
  }
  const failure = error instanceof Failure ? error : new Failure({ message: String(error) });
  const before = run.first === null;
  run.end(!failure.reachable && before ? "unreachable" : before ? "refused" : "broken");
  const code = [failure.status, failure.code].filter(Boolean).join(" · ");
  const title = refusal(failure, run.key);
  const head = title ? [make("strong", "", title), " ", make("small", "", code)] : [make("strong", "", code || "Connection lost")];
  const words = [...head, make("br"), failure.message];
  const wait = make("span", "");
  if (failure.retryAfter) words.push(make("br"), wait);
  if (!before) words.push(make("br"), "The answer above is incomplete.");
  const note = run.note(...words);
  note.classList.add("bad");
  const retry = make("button", "", "Try again");
  retry.type = "button";
  retry.addEventListener("click", () => {
    if (running) return;
    run.article.remove();
    if (conversation.at(-1)?.role === "assistant") conversation.pop();
    answer();
  });
  note.append(retry);
  if (failure.retryAfter) countDown(wait, failure.retryAfter);
  $("talk").scrollTop = $("talk").scrollHeight;
  if (failure.status === 401) keys.refused(run.key, failure.message);
}

function stop() {
  if (!running) return;
  // If it does not get through, the gateway ends what nobody reads.
  running.answer.stream.stop().catch(() => {});
  running.valve.open();
  running.abort.abort();
}

function pause() {
  if (!running) return;
  if (running.valve.closed) {
    running.valve.open();
    running.last = null;
    show("streaming");
  } else {
    running.valve.close();
    show("paused");
    backpressure(running);
  }
}

/** While nothing is read, tells what the gateway holds: it is bounded, and the model waits. */
async function backpressure(run) {
  while (run === running && run.valve.closed) {
    const metrics = await fetch("/metrics", { headers: keys.headers() }).then((response) => response.text()).catch(() => "");
    const held = /^flumen_buffered_bytes (\d+)/m.exec(metrics);
    if (held && run === running && run.valve.closed) {
      show("paused", `Paused by backpressure: the gateway holds ${Math.round(held[1] / 1024)} KiB, the model waits`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function renew() {
  stop();
  running = null;
  conversation = [];
  $("messages").replaceChildren();
  $("welcome").hidden = false;
  gaps.clear();
  for (const id of ["first", "rate", "tokens", "events", "time", "gap", "cuts", "resumes", "transport"]) $(id).textContent = "–";
  $("clock").textContent = "";
  show("idle");
  $("prompt").focus();
}

function curl() {
  const content = $("prompt").value || conversation.findLast(({ role }) => role === "user")?.content || PROMPTS[0];
  const body = JSON.stringify(request($("model").value, [{ role: "user", content }])).replaceAll("'", "'\\''");
  const key = keys.key() ? " \\\n  -H \"authorization: Bearer $API_KEY\"" : "";
  $("curl").textContent = `curl -N ${location.origin}/v1/chat/completions \\\n  -H 'content-type: application/json'${key} \\\n  -d '${body}'`;
}

function dress(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "Light" : "Dark";
  gaps.redraw();
}

/** Asks which models there are. False if the gateway does not tell. */
async function models() {
  const key = keys.key();
  const response = await fetch("/v1/models", { headers: keys.headers() }).catch(() => null);
  const list = await response?.json().catch(() => null) ?? {};
  const ids = (list.data ?? []).map(({ id }) => id);
  $("models").replaceChildren(...ids.map((id) => Object.assign(document.createElement("option"), { value: id })));
  $("model").value ||= ids[0] ?? "";
  $("examples").hidden = !ids.includes("sim");
  if ([401, 403].includes(response?.status)) keys.refused(key, list.error?.message ?? response.statusText);
  curl();
  return response?.ok ?? false;
}

function chip(text, small, act) {
  const made = make("button", "", text);
  made.type = "button";
  if (small) made.append(" ", make("small", "", small));
  made.addEventListener("click", act);
  return made;
}

$("prompts").append(...PROMPTS.map((prompt) => chip(prompt, null, () => { if (!running) send(prompt); })));
$("faults").append(...FAULTS.map(([model, what]) => chip(model, what, () => {
  if (running) return;
  $("model").value = model;
  send(PROMPTS[0]);
})));
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = $("prompt").value.trim();
  if (running || prompt === "" || $("model").value.trim() === "") return;
  $("prompt").value = "";
  send(prompt);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") stop(); });
$("stop").addEventListener("click", stop);
$("pause").addEventListener("click", pause);
$("cut").addEventListener("click", () => running?.answer.stream.cut());
addEventListener("pagehide", keep);
document.addEventListener("visibilitychange", () => { if (document.hidden) keep(); });
$("new").addEventListener("click", renew);
$("copy").addEventListener("click", () => navigator.clipboard.writeText($("curl").textContent));
for (const id of ["model", "prompt"]) $(id).addEventListener("input", curl);
keys.setUp(models);
const dark = matchMedia("(prefers-color-scheme: dark)");
dress(localStorage.getItem("flumen-theme") ?? (dark.matches ? "dark" : "light"));
dark.addEventListener("change", () => { if (!localStorage.getItem("flumen-theme")) dress(dark.matches ? "dark" : "light"); });
$("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("flumen-theme", theme);
  dress(theme);
});
if (!restore()) show("idle");
models();
$("prompt").focus();
