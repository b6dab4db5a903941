// Server-sent events (WHATWG HTML, section 9.2.6) from chunks of text that may be cut anywhere.

export class Decoder {
  #rest = "";
  #data = [];
  #event = "";
  #afterCr = false;
  #begun = false;
  #id = "";

  /** How long the server asks to wait before coming back, in ms; null if it never said. */
  retry = null;

  /**
   * Takes the next chunk of decoded text and returns the events that are complete: `{ event, data, id }`, without `id`
   * as long as the stream has given none. As the standard has it, an event without its own id has the last one.
   */
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
      if (this.#id !== "") event.id = this.#id;
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
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    return null;
  }
}
