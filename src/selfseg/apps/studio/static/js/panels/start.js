// Begin a run: method, preset, number of classes, and every option of the method.

import { button, element } from "../html.js";
import { send } from "../socket.js";
import { on, state } from "../store.js";
import { optionFields } from "./fields.js";
import { notice } from "./notices.js";

class StudioStart extends HTMLElement {
  connectedCallback() {
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
      element("div", { class: "grid" }, this.named("Method", this.method), this.named("Preset", this.preset), this.named("Classes", this.classes), this.named("Seed", this.seed)),
      this.text,
      this.one,
      this.withScribbles,
      element("details", { class: "all-options" }, element("summary", {}, "All options"), this.more),
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
    this.choose();
  }

  chosen() {
    return state.methods.find((each) => each.name === this.method.value);
  }

  choose() {
    const method = this.chosen();
    this.preset.replaceChildren(...Object.keys(method.presets).map((name) => element("option", { value: name }, name)));
    this.text.textContent = method.text;
    this.options();
    this.mark();
  }

  options() {
    this.form = optionFields(this.chosen(), this.chosen().presets[this.preset.value]);
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
        options: this.form.read(),
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
