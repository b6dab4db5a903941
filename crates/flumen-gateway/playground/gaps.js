// The gap chart: one bar for each pause between two arrivals of text, on a logarithmic scale.

const SHORTEST = 1, LONGEST = 10_000, TICKS = [1, 10, 100, 1000, 10_000];
// So many of the latest gaps are remembered.
const KEPT = 4000;

export class Gaps {
  #canvas;
  #label;
  #all = [];
  #largest = 0;
  #hover = null;
  #planned = false;

  constructor(canvas, label) {
    this.#canvas = canvas;
    this.#label = label;
    const redraw = () => this.#plan();
    new ResizeObserver(redraw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    canvas.addEventListener("pointermove", (event) => { this.#hover = event.offsetX; redraw(); });
    canvas.addEventListener("pointerleave", () => { this.#hover = null; redraw(); });
  }

  get largest() { return this.#largest; }

  clear() {
    this.#all = [];
    this.#largest = 0;
    this.#plan();
  }

  add(milliseconds) {
    this.#all.push(milliseconds);
    if (this.#all.length > KEPT) this.#all.splice(0, KEPT / 2);
    this.#largest = Math.max(this.#largest, milliseconds);
    this.#plan();
  }

  redraw() { this.#plan(); }

  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => { this.#planned = false; this.#draw(); });
  }

  #draw() {
    const canvas = this.#canvas, scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const left = 34, bottom = height - 4, top = 8;
    const y = (value) => {
      const share = Math.log(Math.min(Math.max(value, SHORTEST), LONGEST) / SHORTEST) / Math.log(LONGEST / SHORTEST);
      return bottom - share * (bottom - top);
    };
    context.font = `11px ${style.fontFamily}`;
    context.textBaseline = "middle";
    for (const tick of TICKS) {
      context.fillStyle = colour("--line");
      context.fillRect(left, Math.round(y(tick)), width - left, 1);
      context.fillStyle = colour("--muted");
      context.fillText(tick >= 1000 ? `${tick / 1000} s` : `${tick}`, 0, Math.min(y(tick), height - 7));
    }
    const step = 4, room = Math.max(1, Math.floor((width - left) / step));
    const shown = this.#all.slice(-room);
    let hovered = null;
    shown.forEach((gap, index) => {
      const x = left + index * step;
      const under = this.#hover !== null && this.#hover >= x && this.#hover < x + step;
      if (under) hovered = gap;
      context.fillStyle = colour(under ? "--text" : gap > 1000 ? "--bad" : "--accent");
      context.fillRect(x, y(gap), step - 1, Math.max(1, bottom - y(gap)));
    });
    this.#tell(hovered);
  }

  #tell(hovered) {
    if (this.#all.length === 0) {
      this.#label.textContent = "Time between arrivals, in ms";
      return;
    }
    const sorted = [...this.#all].sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))].toFixed(0);
    const text = hovered === null ? `Gaps: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms` : `Gap: ${hovered.toFixed(1)} ms`;
    this.#label.textContent = text;
    this.#canvas.setAttribute("aria-label", `Chart of the time between arrivals. ${text}`);
  }
}
