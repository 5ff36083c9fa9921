// Begin a run: method, preset, number of classes, and every option of the method.

import { button, element } from "../html.js";
import { send } from "../socket.js";
import { on, state } from "../store.js";
import { optionFields } from "./fields.js";
import { notice } from "./notices.js";

// Plain names: what the pictures are of, and the method, preset and options that stand behind.
const PURPOSES = [
  ["auto", "automatic", "auto", "default", {}],
  ["photo", "photographs, maps: regions", "contours", "default", {}],
  ["bright", "bright cells, nuclei, grains", "objects", "default", { polarity: "bright" }],
  ["dark", "dark or stained nuclei, particles", "objects", "default", { polarity: "dark" }],
  ["membranes", "cells between membranes", "membranes", "default", {}],
  ["tissue", "tissue: textures", "kmeans", "texture", {}],
  ["colours", "stains, land cover: colours", "kmeans", "default", {}],
  ["plain", "bright on dark, or dark on bright", "threshold", "default", {}],
  ["strokes", "what I scribble, at once", "pixel_classifier", "default", {}],
  ["learned", "learn features from these pictures", "feature_clustering", "default", {}],
  ["frames", "volumes and videos from few frames", "sp_wnet", "default", {}],
];

class StudioStart extends HTMLElement {
  connectedCallback() {
    this.purpose = element("select", { "aria-label": "What for", id: "purpose", onchange: () => this.takePurpose() });
    this.method = element("select", { "aria-label": "Method", id: "method", onchange: () => this.choose() });
    this.preset = element("select", { "aria-label": "Preset", id: "preset", onchange: () => this.options() });
    this.classes = element("input", { type: "number", min: 1, max: 255, step: 1, placeholder: "auto", "aria-label": "Number of classes", id: "n-classes" });
    this.seed = element("input", { type: "number", min: 0, step: 1, value: 0, "aria-label": "Seed" });
    this.scribbles = element("input", { type: "checkbox", checked: true });
    this.alone = element("input", { type: "checkbox" });
    this.text = element("p", { class: "hint" });
    this.more = element("div", { class: "options" });
    this.go = button("Start learning", () => this.start(), { class: "main wide", id: "start", disabled: true });
    this.withScribbles = element("label", { class: "check" }, this.scribbles, "learn from my scribbles");
    this.one = element("label", { class: "check" }, this.alone, "this picture only");
    this.append(
      element("h2", {}, "Learn"),
      element("div", { class: "grid" }, this.named("What for", this.purpose), this.named("Classes", this.classes)),
      this.text,
      this.one,
      this.withScribbles,
      (this.expert = element(
        "details", { class: "expert" }, element("summary", {}, "Expert: method, preset, seed, every option"),
        element("div", { class: "grid" }, this.named("Method", this.method), this.named("Preset", this.preset), this.named("Seed", this.seed)),
        element("details", { class: "all-options" }, element("summary", {}, "All options"), this.more),
      )),
      this.go,
    );
    on("methods", () => this.fill());
    on(["project", "image"], () => this.mark());
  }

  named(text, field) {
    return element("label", {}, element("span", {}, text), field);
  }

  fill() {
    const before = this.method.value;
    this.method.replaceChildren(...state.methods.map((each) => element("option", { value: each.name }, each.title)));
    this.method.value = before || state.methods[0].name;
    this.go.disabled = false;
    this.purpose.replaceChildren(...PURPOSES.filter(([, , method]) => this.has(method)).map(([key, text]) => element("option", { value: key }, text)), element("option", { value: "own", hidden: true }, "as under Expert"));
    this.choose();
  }

  has(method) {
    return state.methods.some((each) => each.name === method);
  }

  takePurpose() {
    const [, , method, preset, options] = PURPOSES.find(([key]) => key === this.purpose.value) ?? PURPOSES[0];
    this.method.value = method;
    this.choose();
    this.preset.value = preset;
    this.options(options);
    this.purpose.value = PURPOSES.find(([, , name, kind, values]) => name === method && kind === preset && values === options)[0];
  }

  chosen() {
    return state.methods.find((each) => each.name === this.method.value);
  }

  choose() {
    this.given = {};
    this.purpose.value = PURPOSES.find(([, , name]) => name === this.method.value)?.[0] ?? "own";
    const method = this.chosen();
    this.preset.replaceChildren(...Object.keys(method.presets).map((name) => element("option", { value: name }, name)));
    this.text.textContent = method.text;
    this.options();
    this.mark();
  }

  // The form of the method; `given` are values that the purpose sets.
  options(given = {}) {
    this.given = given;
    this.form = optionFields(this.chosen(), { ...this.chosen().presets[this.preset.value], ...given });
    this.more.replaceChildren(...this.form.rows);
  }

  mark() {
    const drawn = (state.project?.strokes ?? []).length;
    this.withScribbles.hidden = !drawn || !this.chosen()?.uses_annotations;
    this.one.hidden = (state.project?.images.length ?? 0) < 2;
  }

  start() {
    try {
      const sent = send("start", {
        method: this.method.value,
        preset: this.preset.value,
        n_classes: this.classes.value ? Number(this.classes.value) : null,
        seed: Number(this.seed.value) || 0,
        options: { ...this.given, ...this.form.read() },
        images: this.alone.checked && !this.one.hidden ? [state.image] : null,
        use_scribbles: this.scribbles.checked && !this.withScribbles.hidden,
        like: state.run,
      });
      if (sent) notice("Starting…");
    } catch (error) {
      notice(error.message, "error");
    }
  }
}

customElements.define("studio-start", StudioStart);
