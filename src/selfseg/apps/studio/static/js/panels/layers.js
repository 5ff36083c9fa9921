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
    on(["tool", "layers", "planes"], () => this.mark());
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
    this.solid = button("3D", () => import("../view/solid.js").then((made) => made.openSolid()), { title: "The volume in 3D", hidden: true });
    return element(
      "span",
      { class: "group" },
      flag("boundaries", "Boundaries", "Lines between classes or regions (L)"),
      flag("superpixels", "Superpixels", "Lines between the smallest regions (P)"),
      flag("swipe", "Swipe", "Before and after: a line to pull: left of it the picture alone (S)"),
      this.planes,
      this.solid,
    );
  }

  display() {
    this.fields = element("div", { class: "popover" });
    return element("details", { class: "display" }, element("summary", { title: "Contrast and channels" }, "Contrast"), this.fields);
  }

  fillDisplay() {
    const found = scene.facts;
    this.planes.hidden = this.solid.hidden = !(found?.depth > 1);
    if (!found || this.filled === scene.name) return;
    this.filled = scene.name;
    const top = found.bits === 8 ? 255 : 65535;
    const rows = found.channel_names.map((name, i) => this.channel(name, i, top));
    const reset = button("Reset", () => {
      delete state.display[state.image];
      this.filled = null;
      change({ display: { ...state.display } });
    });
    this.fields.replaceChildren(...rows, reset);
  }

  channel(name, i, top) {
    const { ranges, channels } = displayOf(state.image, scene.facts);
    const shown = element("input", { type: "checkbox", checked: channels.includes(i), onchange: () => this.toggle(i, shown) });
    const ends = [0, 1].map((end) =>
      element("input", {
        type: "range", min: 0, max: top, step: 1, value: ranges[i][end], "aria-label": `${name} ${end ? "white" : "black"} point`,
        oninput: (event) => this.range(i, end, Number(event.target.value)),
      }),
    );
    const tint = `background: ${hex(scene.facts.channel_colours[i])}`;
    return element("div", { class: "channel" }, element("label", {}, shown, element("i", { style: tint }), name), ends);
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
    change({ display: { ...state.display, [state.image]: { ...state.display[state.image], ...values } } });
  }

  mark() {
    for (const each of this.toolButtons) each.setAttribute("aria-pressed", each.dataset.tool === state.tool);
    this.show.value = state.layers.show;
    this.opacity.value = state.layers.opacity;
    for (const box of this.querySelectorAll("[data-layer]")) box.checked = state.layers[box.dataset.layer];
    this.planes.firstChild.checked = Boolean(state.planes);
    document.querySelector("studio-panes").dataset.tool = state.tool;
  }
}

customElements.define("studio-layers", StudioLayers);
