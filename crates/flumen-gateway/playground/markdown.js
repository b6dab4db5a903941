// A little Markdown, as a model writes it, into elements. Text only ever becomes text nodes, so nothing that a model
// or a prompt says can become markup.

const element = (name, ...children) => {
  const made = document.createElement(name);
  made.append(...children);
  return made;
};

/** Shows a text that grows at its end. Blocks that are complete are never touched again. */
export class Growing {
  #into;
  #source = "";
  #tail = null;

  constructor(into) { this.#into = into; }

  append(text) {
    this.#source += text;
    for (let end; (end = blockEnd(this.#source)) > 0;) {
      this.#show(this.#source.slice(0, end));
      this.#tail = null;
      this.#source = this.#source.slice(end);
    }
    if (this.#source.trim() !== "") this.#show(this.#source);
  }

  #show(source) {
    if (source.trim() === "") return;
    const made = block(source);
    if (this.#tail) this.#tail.replaceWith(made);
    else this.#into.append(made);
    this.#tail = made;
  }
}

/** Where the first block ends, if it does: at a blank line, or for code at the closing fence. */
function blockEnd(source) {
  const start = source.search(/\S/);
  if (start < 0) return 0;
  if (source.startsWith("```", start)) {
    const close = /\n```[^\S\n]*\n/g;
    close.lastIndex = start + 3;
    return close.exec(source) ? close.lastIndex : 0;
  }
  const blank = /\n[^\S\n]*\n/g;
  blank.lastIndex = start;
  return blank.exec(source) ? blank.lastIndex : 0;
}

function block(source) {
  const text = source.replace(/^\n+|\s+$/g, "");
  const lines = text.split("\n");
  if (lines[0].startsWith("```")) {
    const body = lines.slice(1, lines.length > 1 && lines.at(-1).startsWith("```") ? -1 : undefined);
    return element("pre", element("code", body.join("\n")));
  }
  const heading = /^(#{1,6}) +(.*)$/.exec(lines[0]);
  if (heading) {
    const title = element(`h${Math.min(heading[1].length + 2, 6)}`, ...inline(heading[2]));
    return lines.length === 1 ? title : element("section", title, block(lines.slice(1).join("\n")));
  }
  if (lines[0].startsWith("> ")) {
    return element("blockquote", ...inline(lines.map((line) => line.replace(/^> ?/, "")).join("\n")));
  }
  if (lines.length > 1 && lines[0].startsWith("|") && /^\|[\s:|-]+$/.test(lines[1])) return table(lines);
  const first = lines.findIndex((line) => ITEM.test(line));
  if (first >= 0) {
    const made = list(lines.slice(first));
    return first === 0 ? made : element("section", element("p", ...inline(lines.slice(0, first).join("\n"))), made);
  }
  return element("p", ...inline(text));
}

const ITEM = /^\s*(?:([-*])|(\d+)\.) +/;

function list(lines) {
  const items = [];
  for (const line of lines) {
    if (ITEM.test(line) || items.length === 0) items.push(line.replace(ITEM, ""));
    else items[items.length - 1] += `\n${line.trim()}`;
  }
  return element(/^\s*\d/.test(lines[0]) ? "ol" : "ul", ...items.map((item) => element("li", ...inline(item))));
}

function table(lines) {
  const cells = (line) => line.replace(/^\||\|\s*$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, cell) => element("tr", ...cells(line).map((text) => element(cell, ...inline(text))));
  const made = element("table", element("thead", row(lines[0], "th")),
    element("tbody", ...lines.slice(2).map((line) => row(line, "td"))));
  const scroll = element("div", made);
  scroll.className = "table";
  return scroll;
}

/** Bold, emphasis and code within a line. */
function inline(text) {
  const parts = text.split(/(\*\*[^*\n]+\*\*|`[^`\n]+`|\*[^*\s][^*\n]*\*)/);
  return parts.filter((part) => part !== "").map((part) => {
    if (/^\*\*.+\*\*$/.test(part)) return element("strong", part.slice(2, -2));
    if (/^`.+`$/.test(part)) return element("code", part.slice(1, -1));
    if (/^\*.+\*$/.test(part)) return element("em", part.slice(1, -1));
    return part;
  });
}
