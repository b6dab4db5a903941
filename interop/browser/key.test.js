// The playground in a real browser, against a gateway that wants a key.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { chromium } from "playwright-core";

const GATEWAY = new URL(process.env.INTEROP_LOCKED).origin;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const KEYS = Object.fromEntries(process.env.INTEROP_KEYS.split(" ").map((pair) => pair.split("=")));
const WRONG = "fl-0000000000000000000000000000000000000000000";
const KEY_PROTOCOL = `flumen.key.${Buffer.from(KEYS.acme).toString("base64url")}`;

let browser, page, asked;

before(async () => { browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] }); });
after(() => browser.close());

const open = async (options = {}) => {
  const context = await browser.newContext(options);
  page = await context.newPage();
  asked = [];
  page.on("request", (request) => asked.push(request));
  await page.goto(GATEWAY);
  await page.waitForSelector("#key-form");
};
beforeEach(() => open());
afterEach(async () => {
  for (const request of asked) {
    for (const key of Object.values(KEYS)) assert.ok(!request.url().includes(key), "a key stands in an address");
  }
  await page.context().close();
});

const use = async (key) => {
  await page.fill("#key", key);
  await page.press("#key", "Enter");
};
const accepted = async (key = KEYS.acme) => {
  await use(key);
  await page.waitForSelector("#key-form", { state: "hidden" });
};
const ask = async (model, prompt = "Tell me about the river.") => {
  await page.fill("#model", model);
  await page.fill("#prompt", prompt);
  await page.press("#prompt", "Enter");
};
const state = (name) => page.waitForFunction((name) => document.getElementById("status").dataset.state === name, name);
const problem = (words) => page.waitForFunction((words) => document.getElementById("key-problem").textContent.includes(words), words);
const answer = () => page.textContent("article.model:last-of-type .text");
const focused = () => page.evaluate(() => document.activeElement.id);
const kept = () => page.evaluate(() => sessionStorage.getItem("flumen-key"));

test("the page asks for a key, keeps it for the tab, and everything it asks carries it", async () => {
  await problem("wants a key");
  assert.equal(await focused(), "key");
  const field = page.getByLabel("API key");
  assert.deepEqual(
    await field.evaluate(({ type, autocomplete, name }) => ({ type, autocomplete, name })),
    { type: "password", autocomplete: "off", name: "" },
  );
  assert.match(await page.textContent("#key-form"), /Kept for this tab only/);
  await accepted();
  assert.equal(await focused(), "prompt");
  assert.notEqual(await page.inputValue("#model"), "");
  assert.equal(await page.inputValue("#key"), "");
  assert.equal(await page.getByRole("button", { name: "Key, in use" }).count(), 1);
  assert.match(await page.textContent("#curl"), /Bearer \$API_KEY/);
  asked.length = 0;
  await ask("sim:tokens=endless,tps=0");
  await state("streaming");
  const metrics = page.waitForRequest("**/metrics");
  await page.click("#pause");
  await metrics;
  await page.waitForFunction(() => /holds \d+ KiB/.test(document.getElementById("state").textContent));
  await page.click("#pause");
  await page.click("#cut:enabled");
  await page.waitForFunction(() => document.getElementById("resumes").textContent === "1");
  const stopped = page.waitForResponse((response) => response.request().method() === "DELETE");
  await page.click("#stop");
  assert.equal((await stopped).status(), 200);
  const methods = asked.map((request) => request.method());
  for (const method of ["POST", "GET", "DELETE"]) assert.ok(methods.includes(method), method);
  for (const request of asked) assert.equal(request.headers().authorization, `Bearer ${KEYS.acme}`, request.url());
  const elsewhere = await page.evaluate(() => [localStorage.length && JSON.stringify(localStorage), document.cookie, location.href].join());
  assert.ok(!elsewhere.includes(KEYS.acme));
});

test("a wrong key is named as such, and not sent again", async () => {
  await problem("wants a key");
  await use(WRONG);
  await problem("does not take this key");
  assert.equal(await kept(), null);
  assert.equal(await focused(), "key");
  await use("fl-key with spaces");
  await problem("neither spaces");
  await use("schlüssel");
  await problem("neither spaces");
  assert.equal(await kept(), null);
  await accepted(`  ${KEYS.acme}\t`);
  await ask("sim:tokens=5");
  await state("complete");
});

test("a request that is refused for want of a key can be made again with one", async () => {
  await problem("wants a key");
  await page.press("#key", "Escape");
  assert.ok(await page.isHidden("#key-form"));
  assert.equal(await focused(), "key-button");
  await ask("sim:tokens=5");
  await state("refused");
  assert.match(await page.textContent(".note.bad"), /This gateway wants a key 401 · invalid_api_key/);
  assert.ok(await page.isVisible("#key"));
  await accepted();
  await page.click(".note.bad button");
  await state("complete");
  assert.equal(await page.locator("article").count(), 2);
});

test("a key is forgotten when it is to be, and with the tab", async () => {
  await accepted();
  await page.reload();
  await page.waitForFunction(() => document.getElementById("model").value !== "");
  assert.ok(await page.isHidden("#key-form"));
  const other = await page.context().newPage();
  await other.goto(GATEWAY);
  await other.waitForSelector("#key-form:visible");
  await page.keyboard.press("Tab");
  await page.click("#key-button");
  assert.equal(await page.getAttribute("#key-button", "aria-expanded"), "true");
  assert.equal(await page.inputValue("#key"), "", "it is not shown again");
  await page.click("#key-forget");
  await problem("wants a key");
  assert.equal(await kept(), null);
  assert.equal(await page.getByRole("button", { name: "Key", exact: true }).count(), 1);
});

test("an answer goes on with its key after the page was loaded again", async () => {
  await accepted();
  await ask("sim:tokens=100,tps=100,seed=9");
  await page.waitForFunction(() => Number(document.getElementById("events").textContent) > 20);
  await page.reload();
  await state("complete");
  assert.equal(await page.textContent("#tokens"), "100");
});

test("a WebSocket carries the key as a subprotocol, and a poll in its header", async () => {
  await page.context().addInitScript(() => {
    const Real = WebSocket;
    window.protocols = [];
    window.WebSocket = class extends Real {
      constructor(url, protocols) {
        super(url, protocols);
        window.protocols.push([url, ...protocols]);
      }
    };
  });
  for (const [transport, blocked] of [["WebSocket", false], ["Long poll", true]]) {
    await page.reload();
    if (transport === "WebSocket") await accepted();
    await page.route("**/v1/**", (route) =>
      (route.request().headers().accept?.includes("text/event-stream") ? route.abort("connectionreset") : route.fallback()));
    if (blocked) await page.routeWebSocket("**/v1/socket", (socket) => socket.close());
    await ask("sim:tokens=30,seed=3");
    await state("complete");
    assert.equal(await page.textContent("#transport"), transport);
    assert.ok((await answer()).length > 60);
    if (blocked) continue;
    const [[url, ...protocols]] = await page.evaluate(() => window.protocols);
    assert.equal(url, `${GATEWAY.replace("http", "ws")}/v1/socket`);
    assert.deepEqual(protocols, ["flumen.v1", KEY_PROTOCOL]);
  }
});

test("refusals are told in words: what is not allowed, and how long to wait", async () => {
  await accepted(KEYS.globex);
  await ask("half-dead");
  await state("refused");
  assert.match(await page.textContent(".note.bad"), /That is not allowed 403 · model_not_allowed.*half-dead/);
  assert.equal(await kept(), KEYS.globex, "the key is good all the same");
  await page.click("#new");
  await page.click("#key-button");
  await accepted(KEYS["tokens-browser"]);
  for (let requests = 0; requests < 20 && (await page.locator(".note.bad").count()) === 0; requests++) {
    await ask("sim:tps=0,ttft=0,tokens=200");
    await page.waitForFunction(() => ["complete", "refused"].includes(document.getElementById("status").dataset.state));
  }
  const said = await page.textContent(".note.bad");
  assert.match(said, /A limit is used up 429 · rate_limit_exceeded.*1000 tokens per minute/);
  assert.match(said, /The server asks to wait for (1 min )?\d+ s\./);
  const [button, edge] = await page.evaluate(() =>
    [document.querySelector(".note.bad button"), document.getElementById("talk")].map((it) => it.getBoundingClientRect().bottom));
  assert.ok(button <= edge, "the button to try again is in sight");
  const wait = page.locator(".note.bad span");
  const before = await wait.textContent();
  await page.waitForFunction((before) => document.querySelector(".note.bad span").textContent !== before, before);
});

test("the field fits a phone", async () => {
  await page.context().close();
  await open({ viewport: { width: 320, height: 640 }, colorScheme: "dark", hasTouch: true });
  await use(WRONG);
  await problem("does not take this key");
  const [scroll, client] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(scroll <= client, `${scroll} > ${client}`);
  for (const id of ["key", "key-problem", "prompt", "send", "theme"]) assert.ok(await page.isVisible(`#${id}`), id);
});
