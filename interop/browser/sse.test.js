// The playground's reader of server-sent events, to the letter of WHATWG HTML section 9.2.6.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Decoder } from "../../crates/flumen-gateway/playground/sse.js";

const decode = (...chunks) => {
  const decoder = new Decoder();
  return chunks.flatMap((chunk) => decoder.push(chunk));
};
const data = (...chunks) => decode(...chunks).map((event) => event.data);

test("lines end with LF, CR or CRLF", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    assert.deepEqual(data(`data: a${end}data: b${end}${end}data:c${end}${end}x`), ["a\nb", "c"]);
  }
});

test("an event may be split anywhere", () => {
  const stream = "\ufeff: hello\r\nevent: e\r\ndata:  1\r\ndata\r\n\r\ndata: {\"x\":\"🌊\"}\n\ndata: 3\r\rdata: lost";
  const whole = decode(stream);
  assert.deepEqual(whole, [
    { event: "e", data: " 1\n" }, { event: "message", data: "{\"x\":\"🌊\"}" }, { event: "message", data: "3" },
  ]);
  assert.deepEqual(decode(...stream), whole);
  for (let at = 0; at <= stream.length; at++) assert.deepEqual(decode(stream.slice(0, at), stream.slice(at)), whole);
});

test("comments, unknown fields and events without data are nothing", () => {
  assert.deepEqual(data(": ping\n\nretry: 5\n\nid: 3\n\nevent: e\n\nfoo\n\ndata\n\n"), [""]);
});

test("ids stay until there is another one, and the time to wait is told", () => {
  const decoder = new Decoder();
  const events = decoder.push("data: 0\n\nid: a-1\ndata: 1\n\ndata: 2\n\nid: b\0\ndata: 3\n\nid\ndata: 4\n\nretry: 1x\n\n");
  assert.deepEqual(events.map(({ id }) => id), [undefined, "a-1", "a-1", "a-1", undefined]);
  assert.equal(decoder.retry, null);
  decoder.push("retry: 250\n\n");
  assert.equal(decoder.retry, 250);
});
