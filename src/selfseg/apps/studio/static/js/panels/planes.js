// Under the picture: sliders over Z and over T, to scrub, step and play.

import { onScene, scene } from "../scene.js";
import { button, element } from "../html.js";
import { play, step } from "../playing.js";
import { change, on, state } from "../store.js";

class StudioPlanes extends HTMLElement {
  connectedCallback() {
    this.rows = { plane: this.row("plane", "Z"), frame: this.row("frame", "T") };
    this.append(...Object.values(this.rows).map((row) => row.element));
    onScene(() => this.fill());
    on(["plane", "frame", "playing"], () => this.fill());
  }

  row(key, letter) {
    const words = letter === "Z" ? "slice" : "frame";
    const slider = element("input", { type: "range", min: 0, step: 1, "aria-label": letter === "Z" ? "Slice" : "Frame", oninput: () => change({ [key]: Number(slider.value) }) });
    const text = element("output");
    const knob = button("▶", () => play(key), { title: `Play along ${letter} (space)`, "aria-label": `Play ${words}s` });
    const back = button("◂", () => step(key, -1), { title: `Previous ${words} (,)`, "aria-label": `Previous ${words}` });
    const on = button("▸", () => step(key, 1), { title: `Next ${words} (.)`, "aria-label": `Next ${words}` });
    return { slider, text, knob, element: element("div", { class: "plane", hidden: true }, letter, back, knob, on, slider, text) };
  }

  fill() {
    const sizes = { plane: scene.facts?.depth ?? 1, frame: scene.facts?.frames ?? 1 };
    for (const [key, row] of Object.entries(this.rows)) {
      row.element.hidden = sizes[key] < 2;
      row.slider.max = sizes[key] - 1;
      row.slider.value = state[key] ?? 0;
      row.knob.textContent = state.playing === key ? "❚❚" : "▶";
      row.text.textContent = this.words(key, state[key] ?? 0, sizes[key]);
    }
  }

  words(key, at, size) {
    const fps = key === "frame" ? scene.facts?.fps : null;
    return `${at + 1} / ${size}${fps ? `  ·  ${(at / fps).toFixed(2)} s` : ""}`;
  }
}

customElements.define("studio-planes", StudioPlanes);
