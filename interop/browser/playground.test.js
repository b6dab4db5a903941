// The playground in a real browser, against the real gateway.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { chromium } from "playwright-core";

const GATEWAY = new URL(process.env.INTEROP_GATEWAY).origin;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

let browser, page, complaints;

before(async () => { browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] }); });
after(() => browser.close());

const open = async (options = {}) => {
  const context = await browser.newContext(options);
  page = await context.newPage();
  complaints = [];
  page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(GATEWAY);
  await page.waitForFunction(() => document.getElementById("model").value !== "");
};

beforeEach(() => open());
afterEach(() => page.context().close());

const ask = async (model, prompt = "Tell me about the river.") => {
  await page.fill("#model", model);
  await page.fill("#prompt", prompt);
  await page.press("#prompt", "Enter");
};
const state = (name) => page.waitForFunction((name) => document.getElementById("status").dataset.state === name, name);
const answer = () => page.textContent("article.model:last-of-type .text");
const kept = async (id) => (await fetch(`${GATEWAY}/v1/streams/${id}?transport=json`)).json();
const seen = async (events) => page.waitForFunction((events) => Number(document.getElementById("events").textContent) > events, events);
const metric = async (name) => {
  const text = await (await fetch(`${GATEWAY}/metrics`)).text();
  return [...text.matchAll(new RegExp(`^${name}(?:{[^}]*})? (\\S+)`, "gm"))].reduce((sum, [, value]) => sum + Number(value), 0);
};
const eventually = async (what, holds) => {
  for (let tries = 0; tries < 200; tries++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(what);
};

test("an answer is typed while it comes, and measured", async () => {
  await page.evaluate(() => {
    window.lengths = [];
    new MutationObserver(() => window.lengths.push(document.querySelector("article.model .text")?.textContent.length ?? 0))
      .observe(document.getElementById("messages"), { childList: true, subtree: true, characterData: true });
  });
  await ask("sim:tps=100,tokens=60");
  await state("streaming");
  await state("complete");
  const lengths = new Set(await page.evaluate(() => window.lengths));
  assert.ok(lengths.size > 10, `the text grew in ${lengths.size} steps`);
  assert.ok((await answer()).length > 100);
  assert.equal(await page.textContent("#tokens"), "60");
  for (const id of ["first", "rate", "events", "time", "gap"]) {
    assert.match(await page.textContent(`#${id}`), /\d/, id);
  }
  assert.match(await page.textContent("#gaps-label"), /p50 \d+ ms, p99 \d+ ms/);
  assert.deepEqual(complaints, []);
});

test("the text is that of the events, and the conversation goes on", async () => {
  const said = "Rivers *flow* – 万物皆流 🌊";
  await ask("sim:echo=1,split=1", said);
  await state("complete");
  assert.equal(await answer(), "Rivers flow – 万物皆流 🌊");
  const sent = page.waitForRequest("**/v1/chat/completions");
  await ask("sim:tokens=3", "And then?");
  const messages = (await sent).postDataJSON().messages;
  assert.deepEqual(messages.map(({ role }) => role), ["user", "assistant", "user"]);
  assert.equal(messages[1].content, said);
});

test("Markdown is shown, and nothing that is said becomes markup", async () => {
  const said = "# Head\n\n- **one**\n- `two`\n\n```\n<b>code</b>\n```\n\n<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>";
  await ask("sim:echo=1", said);
  await state("complete");
  assert.equal(await page.textContent("article.model h3"), "Head");
  assert.equal(await page.locator("article.model li strong").count(), 1);
  assert.equal(await page.textContent("article.model pre"), "<b>code</b>");
  assert.equal(await page.locator("article img, article script").count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});

test("Stop cancels the generation upstream", async () => {
  const response = page.waitForResponse("**/v1/chat/completions");
  await ask("sim:tps=20,tokens=endless");
  const id = (await response).headers()["flumen-stream-id"];
  await state("streaming");
  await page.click("#stop");
  await state("stopped");
  assert.match(await page.textContent("article.model"), /cancelled at the model/);
  await eventually("the stream is cancelled", async () => (await kept(id)).state === "cancelled");
});

test("Escape stops while the model is still waited for", async () => {
  await ask("sim:ttft=1h");
  await state("waiting");
  await page.keyboard.press("Escape");
  await state("stopped");
});

test("pausing reaches the model, and the page stays alive", async () => {
  await ask("sim:tps=0,tokens=endless");
  await state("streaming");
  await page.click("#pause");
  await state("paused");
  await eventually("the gateway holds what is not read", async () => (await metric("flumen_buffered_bytes")) > 16_000);
  await page.waitForFunction(() => /backpressure: the gateway holds \d+ KiB/.test(document.getElementById("state").textContent));
  const frames = await metric("flumen_frames_in_total");
  await eventually("the model waits", async () => {
    const before = await metric("flumen_frames_in_total");
    await new Promise((resolve) => setTimeout(resolve, 300));
    return (await metric("flumen_frames_in_total")) === before;
  });
  const events = await page.textContent("#events");
  await page.click("#pause");
  await state("streaming");
  await page.waitForFunction((events) => document.getElementById("events").textContent !== events, events);
  await eventually("the model goes on", async () => (await metric("flumen_frames_in_total")) > frames);
  await page.click("#stop");
  await state("stopped");
});

test("an error before the first token shows its status and can be tried again", async () => {
  await ask("sim:fault=status:503");
  await state("refused");
  assert.match(await page.textContent(".note.bad"), /503.*Try again/s);
  await page.fill("#model", "sim:tokens=5");
  await page.click(".note.bad button");
  await state("complete");
  assert.equal(await page.locator("article").count(), 2);
});

test("an unknown model is named", async () => {
  await ask("no-such-model");
  await state("refused");
  assert.match(await page.textContent(".note.bad"), /404 · model_not_found.*no-such-model/s);
});

for (const [fault, code] of [["cut@20", "upstream_broken"], ["end@20", "upstream_truncated"], ["stall@20", "idle_timeout"]]) {
  test(`an error after the first token (${fault}) keeps what came and says so`, async () => {
    await ask(`sim:fault=${fault}`);
    await state("broken");
    assert.match(await page.textContent(".note.bad"), new RegExp(`${code}.*incomplete`, "s"));
    assert.ok((await answer()).length > 20);
  });
}

test("text that comes together with the error is kept", async () => {
  const token = JSON.stringify({ choices: [{ index: 0, delta: { content: "what was said" } }] });
  const error = JSON.stringify({ error: { code: "upstream_broken", message: "cut" } });
  const body = `data: ${token}\n\ndata: ${error}\n\n`;
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await ask("sim");
  await state("broken");
  assert.match(await answer(), /what was said/);
});

test("a gateway that is gone is called unreachable", async () => {
  await page.route("**/v1/**", (route) => route.abort("connectionrefused"));
  await page.routeWebSocket("**/v1/socket", (socket) => socket.close());
  await ask("sim");
  await state("unreachable");
});

test("it fits a phone, in the dark", async () => {
  await page.context().close();
  await open({ viewport: { width: 320, height: 640 }, colorScheme: "dark", hasTouch: true });
  assert.equal(await page.getAttribute("html", "data-theme"), "dark");
  await ask("sim:lang=mix,tokens=150,tps=0", "wide ".repeat(60));
  await state("complete");
  const [scroll, client] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(scroll <= client, `${scroll} > ${client}`);
  assert.ok(await page.locator("#send").isVisible() && await page.locator("#stop").isVisible());
});

test("the keyboard is enough", async () => {
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  await page.keyboard.type("One");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  await page.keyboard.press("Enter");
  await state("complete");
  assert.equal(await page.textContent("article.user"), "One\ntwo");
});

test("the theme is remembered", async () => {
  await page.click("#theme");
  await page.reload();
  assert.equal(await page.getAttribute("html", "data-theme"), "dark");
});

// What must come out exactly, whatever happens to the connection.
const LONG = "sim:tps=100,tokens=200,seed=7";
const BLOCKED = (route) => (route.request().headers().accept?.includes("text/event-stream") ? route.abort("connectionreset") : route.fallback());
let uncut;
const undisturbed = async () => {
  if (uncut) return uncut;
  await ask(LONG);
  await state("complete");
  uncut = await answer();
  assert.ok(uncut.length > 400);
  assert.equal(await page.textContent("#cuts"), "0");
  await page.click("#new");
  return uncut;
};

test("an answer whose connection is cut goes on to the same text", async () => {
  const expected = await undisturbed();
  await ask(LONG);
  for (const events of [20, 70, 120]) {
    await seen(events);
    await page.click("#cut:enabled");
  }
  await state("complete");
  assert.equal(await answer(), expected);
  assert.equal(await page.textContent("#cuts"), "3");
  assert.equal(await page.textContent("#resumes"), "3");
  assert.equal(await page.textContent("#transport"), "SSE");
  assert.ok(await page.isDisabled("#cut"));
  assert.deepEqual(complaints, []);
});

test("an answer waits for the network", async () => {
  const expected = await undisturbed();
  // The same text, slow enough to be cut in its middle on a busy machine.
  await ask("sim:tps=40,tokens=200,seed=7");
  await seen(30);
  await page.context().setOffline(true);
  await page.evaluate(() => setTimeout(() => document.getElementById("cut").click(), 100));
  await state("reconnecting");
  assert.ok(await page.isEnabled("#stop") && await page.isDisabled("#pause") && await page.isDisabled("#send"));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(await page.getAttribute("#status", "data-state"), "reconnecting");
  await page.context().setOffline(false);
  // It goes on at once: without the browser's word for it, it would try again only after a minute.
  await state("complete");
  assert.equal(await answer(), expected);
});

test("an answer survives that the page is loaded again", async () => {
  const expected = await undisturbed();
  await ask("sim:tokens=3,seed=2", "First.");
  await state("complete");
  const first = await answer();
  await ask(LONG);
  for (const events of [30, 90]) {
    await seen(events);
    await page.reload();
  }
  await state("streaming");
  assert.deepEqual(await page.locator("article.user").allTextContents(), ["First.", "Tell me about the river."]);
  await state("complete");
  assert.equal(await page.locator("article.model .text").first().textContent(), first);
  assert.equal(await answer(), expected);
  assert.equal(await page.textContent("#tokens"), "200");
  await page.reload();
  assert.equal(await page.locator("article").count(), 0);
  assert.deepEqual(complaints, []);
});

test("a request that was not answered yet survives it, too, and is not run twice", async () => {
  const posts = [];
  page.on("request", (request) => { if (request.method() === "POST") posts.push(request.headers()["idempotency-key"]); });
  await ask("sim:ttft=3s,tokens=5");
  await state("waiting");
  await page.reload();
  await state("complete");
  assert.ok((await answer()).length > 10);
  // Once, or twice if the gateway had not named the stream yet.
  assert.match(posts[0], /\S/);
  assert.equal(new Set(posts).size, 1);
});

test("where event streams are blocked, the answer comes over a WebSocket", async () => {
  const expected = await undisturbed();
  await page.reload();
  await page.route("**/v1/**", BLOCKED);
  await ask(LONG);
  await seen(50);
  await page.click("#cut:enabled");
  await state("complete");
  assert.equal(await answer(), expected);
  assert.equal(await page.textContent("#transport"), "WebSocket");
});

test("where event streams never arrive, too", async () => {
  const expected = await undisturbed();
  await page.reload();
  await page.route("**/v1/**", (route) => {
    if (!route.request().headers().accept?.includes("text/event-stream")) route.fallback();
  });
  await ask(LONG);
  await page.waitForFunction(() => document.getElementById("transport").textContent === "WebSocket", null, { timeout: 30_000 });
  await state("complete");
  assert.equal(await answer(), expected);
});

test("where WebSockets are blocked as well, it is polled for", async () => {
  const expected = await undisturbed();
  await page.reload();
  await page.route("**/v1/**", BLOCKED);
  await page.routeWebSocket("**/v1/socket", (socket) => socket.close());
  await ask(LONG);
  await seen(50);
  await page.click("#cut:enabled");
  await state("complete");
  assert.equal(await answer(), expected);
  assert.equal(await page.textContent("#transport"), "Long poll");
});

test("pausing a WebSocket and a poll reaches the model, too", async () => {
  for (const sockets of [true, false]) {
    await page.reload();
    await page.route("**/v1/**", BLOCKED);
    if (!sockets) await page.routeWebSocket("**/v1/socket", (socket) => socket.close());
    await ask("sim:tps=0,tokens=endless");
    await state("streaming");
    await page.click("#pause");
    await state("paused");
    await eventually("the page reads no more", async () => {
      const events = await page.textContent("#events");
      await new Promise((resolve) => setTimeout(resolve, 300));
      return (await page.textContent("#events")) === events;
    });
    const events = await page.textContent("#events");
    await page.click("#pause");
    await page.waitForFunction((events) => document.getElementById("events").textContent !== events, events);
    await page.click("#stop");
    await state("stopped");
  }
});
