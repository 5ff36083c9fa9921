// Above the picture: tools, what is shown over it, and how.

import { displayOf, onScene, scene } from "../scene.js";
import { button, element, hex } from "../html.js";
import { change, on, setLayer, state } from "../store.js";

const TOOLS = [
  ["select", "Select", "Click regions to choose their class; drag to move, wheel to zoom (V)"],
  ["merge", "Merge", "Click a region, then another: their classes become one (M)"],
  ["scribble", "Scribble", "Draw where a class is; answered at once, and the next training learns from it (B)"],
  ["correct", "Correct", "Paint labels, give regions to another class, cut and join objects (C)"],
];

const SHOW = [
  ["classes", "Classes"],
  ["regions", "Regions"],
  ["probability", "Probability"],
  ["confidence", "Confidence"],
  ["image", "Picture alone"],
];

class StudioLayers extends HTMLElement {
  connectedCallback() {
    this.append(this.tools(), this.shown(), this.switches(), this.display());
    on(["tool", "layers", "planes", "solid", "project"], () => this.mark());
    onScene(() => this.fillDisplay());
    this.mark();
  }

  tools() {
    this.toolButtons = TOOLS.map(([key, text, title]) => button(text, () => change({ tool: key }), { title, dataset: { tool: key } }));
    return element("span", { class: "group", role: "group", "aria-label": "Tools" }, this.toolButtons);
  }

  shown() {
    this.show = element("select", { title: "What lies over the picture (1 to 5)", "aria-label": "Layer", onchange: () => setLayer({ show: this.show.value }) });
    this.show.append(...SHOW.map(([key, text]) => element("option", { value: key }, text)));
    this.opacity = element("input", {
      class: "opacity", type: "range", min: 0, max: 1, step: 0.01, title: "Opacity of what lies over the picture (O, Shift+O)", "aria-label": "Opacity",
      oninput: () => setLayer({ opacity: Number(this.opacity.value) }),
    });
    return element("span", { class: "group" }, this.show, this.opacity);
  }

  switches() {
    const flag = (key, text, title) => {
      const box = element("input", { type: "checkbox", onchange: () => setLayer({ [key]: box.checked }) });
      box.dataset.layer = key;
      return element("label", { title }, box, text);
    };
    const planes = element("input", { type: "checkbox", onchange: () => change({ planes: planes.checked }) });
    this.planes = element("label", { title: "Look along all three axes; click to move them (T)", hidden: true }, planes, "Three planes");
    const solid = element("input", { type: "checkbox", onchange: () => change({ solid: solid.checked }) });
    this.solid = element("label", { title: "The volume in 3D beside its slices (D)", hidden: true }, solid, "3D");
    return element(
      "span",
      { class: "group" },
      flag("boundaries", "Boundaries", "Lines between classes or regions (L)"),
      flag("superpixels", "Superpixels", "Lines between the smallest regions (P)"),
      flag("strokes", "Scribbles", "Strokes drawn by hand (H); they are always shown while you draw"),
      flag("swipe", "Swipe", "Before and after: a line to pull: left of it the picture alone (S)"),
      this.planes,
      this.solid,
    );
  }

  display() {
    this.fields = element("div", { class: "popover" });
    return element("details", { class: "display", ontoggle: () => this.marks?.forEach((mark) => mark()) }, element("summary", { title: "Contrast and channels" }, "Contrast"), this.fields);
  }

  fillDisplay() {
    const found = scene.facts;
    this.planes.hidden = this.solid.hidden = !(found?.depth > 1);
    if (!found || this.filled === scene.name) return;
    this.filled = scene.name;
    this.marks = [];
    const rows = found.channel_names.map((name, i) => this.channel(name, i));
    const gamma = element("input", { type: "range", min: 0.2, max: 4, step: 0.05, value: displayOf(state.image, found).gamma, "aria-label": "Gamma", oninput: () => this.keep({ gamma: Number(gamma.value) }) });
    const auto = button("Auto", () => this.auto(), { title: "Black and white at the darkest and the brightest half percent" });
    const reset = button("Reset", () => {
      delete state.display[state.image];
      this.filled = null;
      change({ display: { ...state.display } });
    });
    this.fields.replaceChildren(...rows, element("label", { class: "gamma" }, "gamma", gamma), element("div", { class: "buttons" }, auto, reset));
  }

  // A channel: shown or not, its histogram, and its black and white points as numbers in the picture's own values.
  channel(name, i) {
    const { facts } = scene;
    const { ranges, channels } = displayOf(state.image, facts);
    const shown = element("input", { type: "checkbox", checked: channels.includes(i), onchange: () => this.toggle(i, shown) });
    const { low, high, counts } = facts.histograms[i];
    const real = (value) => Number((facts.offset + facts.scale * value).toPrecision(6));
    const bars = element("canvas", { width: 540, height: 80, title: "How many pixels have each brightness; drag the white or the black point" });
    const step = Math.max((high - low) / 1000, facts.scale === 1 ? 1 : 1e-9);
    const sliders = [0, 1].map((end) =>
      element("input", { type: "range", min: low, max: Math.max(high, low + 1), step, value: ranges[i][end], "aria-label": `${name} ${end ? "white" : "black"} point`, oninput: (event) => this.range(i, end, Number(event.target.value)) }),
    );
    const numbers = [0, 1].map((end) =>
      element("input", { type: "number", step: "any", value: real(ranges[i][end]), "aria-label": `${name} ${end ? "white" : "black"} value`, onchange: (event) => this.range(i, end, (Number(event.target.value) - facts.offset) / facts.scale) }),
    );
    const tint = `background: ${hex(facts.channel_colours[i])}`;
    const made = element("div", { class: "channel" }, element("label", {}, shown, element("i", { style: tint }), name), bars, sliders, numbers);
    this.marks[i] = () => {
      const now = displayOf(state.image, scene.facts).ranges[i];
      [0, 1].forEach((end) => {
        if (document.activeElement !== sliders[end]) sliders[end].value = now[end];
        if (document.activeElement !== numbers[end]) numbers[end].value = real(now[end]);
      });
      drawHistogram(bars, counts, (now[0] - low) / Math.max(high - low, 1), (now[1] - low) / Math.max(high - low, 1));
    };
    this.marks[i]();
    return made;
  }

  auto() {
    const ranges = scene.facts.histograms.map(({ low, high, counts }) => {
      const total = counts.reduce((sum, count) => sum + count, 0);
      const width = Math.max(high - low, 1) / counts.length;
      const edge = (share) => {
        let sum = 0;
        const at = counts.findIndex((count) => (sum += count) >= share * total);
        return low + (at < 0 ? counts.length : at + (share > 0.5 ? 1 : 0)) * width;
      };
      return [edge(0.005), Math.max(edge(0.995), edge(0.005) + 1)];
    });
    this.keep({ ranges });
  }

  toggle(i, box) {
    const { channels } = displayOf(state.image, scene.facts);
    const next = box.checked ? [...channels, i].sort((a, b) => a - b) : channels.filter((each) => each !== i);
    if (!next.length || next.length > 4) {
      box.checked = !box.checked;
      return;
    }
    this.keep({ channels: next });
  }

  range(i, end, value) {
    const ranges = displayOf(state.image, scene.facts).ranges.map((pair) => [...pair]);
    ranges[i][end] = value;
    if (ranges[i][0] >= ranges[i][1]) ranges[i][1 - end] = end ? value - 1 : value + 1;
    this.keep({ ranges });
  }

  keep(values) {
    queueMicrotask(() => this.marks.forEach((mark) => mark()));
    change({ display: { ...state.display, [state.image]: { ...state.display[state.image], ...values } } });
  }

  mark() {
    for (const each of this.toolButtons) each.setAttribute("aria-pressed", each.dataset.tool === state.tool);
    this.show.value = state.layers.show;
    this.querySelector("[data-layer=strokes]").parentElement.hidden = !state.project?.strokes.length;
    this.opacity.value = state.layers.opacity;
    for (const box of this.querySelectorAll("[data-layer]")) box.checked = state.layers[box.dataset.layer];
    this.planes.firstChild.checked = Boolean(state.planes);
    this.solid.firstChild.checked = state.solid;
    document.querySelector("studio-panes").dataset.tool = state.tool;
  }
}

function drawHistogram(canvas, counts, black, white) {
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const { width, height } = canvas;
  const most = Math.log(1 + Math.max(...counts));
  context.clearRect(0, 0, width, height);
  context.fillStyle = style.getPropertyValue("--soft");
  counts.forEach((count, i) => {
    const tall = (height * Math.log(1 + count)) / most;
    context.fillRect((i * width) / counts.length, height - tall, width / counts.length - 1, tall);
  });
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 3;
  context.beginPath();
  context.moveTo(black * width, height);
  context.lineTo(white * width, 0);
  context.stroke();
}

customElements.define("studio-layers", StudioLayers);
