// Server-sent events (WHATWG HTML, section 9.2.6) from chunks of text that may be cut anywhere.

export class Decoder {
  #rest = "";
  #data = [];
  #event = "";
  #afterCr = false;
  #begun = false;

  /** Takes the next chunk of decoded text and returns the events that are complete: `{ event, data }`. */
  push(text) {
    if (text === "") return [];
    if (!this.#begun) {
      this.#begun = true;
      if (text.startsWith("\ufeff")) text = text.slice(1);
    }
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    this.#afterCr = text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    const events = [];
    for (const line of lines) {
      const event = this.#line(line);
      if (event) events.push(event);
    }
    return events;
  }

  #line(line) {
    if (line === "") {
      const event = { event: this.#event || "message", data: this.#data.join("\n") };
      const dispatched = this.#data.length > 0;
      this.#data = [];
      this.#event = "";
      return dispatched ? event : null;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    return null;
  }
}
