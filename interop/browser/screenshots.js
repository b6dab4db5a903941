// Makes the pictures in docs/: node screenshots.js http://127.0.0.1:8080 [http://127.0.0.1:8081, which wants a key]

import { chromium } from "playwright-core";

const gateway = process.argv[2] ?? "http://127.0.0.1:8080";
const docs = new URL("../../docs/", import.meta.url).pathname;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

async function shoot(name, options, model, prompt, events, act) {
  const page = await (await browser.newContext(options)).newPage();
  await page.goto(gateway);
  await page.waitForFunction(() => document.getElementById("model").value !== "");
  if (model) {
    await page.fill("#model", model);
    await page.fill("#prompt", prompt);
    await page.press("#prompt", "Enter");
    await page.waitForFunction((events) => Number(document.getElementById("events").textContent) > events, events);
    if (model.includes("fault")) await page.waitForSelector(".note.bad");
    await act?.(page);
  }
  await page.screenshot({ path: `${docs}playground-${name}.png` });
  await page.context().close();
}

const desktop = { viewport: { width: 1120, height: 720 } };
await shoot("desktop", desktop, "sim:lang=md,seed=21", "What should I know about rivers?", 150);
await shoot("phone", { viewport: { width: 390, height: 780 }, colorScheme: "dark", hasTouch: true }, "sim:seed=4",
  "讲讲这条河流", 70);
await shoot("error", desktop, "sim:fault=cut@60", "Tell me about the river.", 20);
await shoot("resumed", desktop, "sim:lang=md,seed=21", "What should I know about rivers?", 60, async (page) => {
  for (const events of [90, 120]) {
    await page.click("#cut:enabled");
    await page.waitForFunction((events) => Number(document.getElementById("events").textContent) > events, events);
  }
  await page.context().setOffline(true);
  await page.evaluate(() => document.getElementById("cut").click());
  await page.waitForSelector("#status[data-state=reconnecting]");
  await page.screenshot({ path: `${docs}playground-cut.png` });
  await page.context().setOffline(false);
  await page.waitForSelector("#status[data-state=complete]");
});
if (process.argv[3]) {
  const page = await (await browser.newContext({ viewport: { width: 800, height: 420 } })).newPage();
  await page.goto(process.argv[3]);
  await page.waitForSelector("#key:focus");
  await page.fill("#key", "not a key of anybody");
  await page.screenshot({ path: `${docs}playground-key.png`, clip: { x: 0, y: 0, width: 800, height: 300 } });
}
await browser.close();
