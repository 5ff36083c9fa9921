// Under the picture: sliders over Z and over T, with a button that plays a series.

import { onScene, scene } from "../scene.js";
import { button, element } from "../html.js";
import { change, on, state } from "../store.js";

class StudioPlanes extends HTMLElement {
  connectedCallback() {
    this.rows = { plane: this.row("plane", "Z"), frame: this.row("frame", "T") };
    this.append(...Object.values(this.rows).map((row) => row.element));
    onScene(() => this.fill());
    on(["plane", "frame"], () => this.fill());
  }

  row(key, letter) {
    const slider = element("input", { type: "range", min: 0, step: 1, "aria-label": letter === "Z" ? "Slice" : "Frame", oninput: () => change({ [key]: Number(slider.value) }) });
    const text = element("output");
    const play = button("▶", () => this.play(key, play), { title: `Play along ${letter}` });
    return { slider, text, element: element("label", { class: "plane", hidden: true }, letter, play, slider, text) };
  }

  play(key, knob) {
    clearInterval(this.timer);
    if (this.playing === key) {
      this.playing = null;
      knob.textContent = "▶";
      return;
    }
    this.playing = key;
    knob.textContent = "❚❚";
    const size = key === "plane" ? "depth" : "frames";
    this.timer = setInterval(() => change({ [key]: ((state[key] ?? 0) + 1) % scene.facts[size] }), 120);
  }

  fill() {
    const sizes = { plane: scene.facts?.depth ?? 1, frame: scene.facts?.frames ?? 1 };
    for (const [key, row] of Object.entries(this.rows)) {
      row.element.hidden = sizes[key] < 2;
      row.slider.max = sizes[key] - 1;
      row.slider.value = state[key] ?? 0;
      row.text.textContent = `${(state[key] ?? 0) + 1} / ${sizes[key]}`;
    }
  }
}

customElements.define("studio-planes", StudioPlanes);
