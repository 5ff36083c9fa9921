// A dialogue over one run: other options from here on, or another run from one of its checkpoints.

import { button, element } from "../html.js";
import { send } from "../socket.js";
import { state } from "../store.js";
import { optionFields } from "./fields.js";
import { notice } from "./notices.js";

// Options that decide the sizes of tensors: with another value, a checkpoint no longer fits.
const FIXED = new Set(["n_features", "n_classes", "n_convolutions", "prepare", "batch_size", "accumulate"]);

const TEXTS = {
  change: "The run pauses at its next checkpoint and goes on from there with the new options.",
  fork: "Another run begins from this checkpoint with the options below; this one stays as it is.",
};

export function openChange(id, what) {
  const run = state.runs.get(id);
  const method = state.methods.find((each) => each.name === run.method);
  const now = { ...method.presets[run.preset], ...run.options };
  const form = optionFields(method, now, (field) => !FIXED.has(field.name));
  const classes = element("input", { type: "number", min: 1, max: 255, step: 1, placeholder: run.n_classes ?? "auto", "aria-label": "Number of classes" });
  const steps = element("select", { "aria-label": "Checkpoint" }, run.checkpoints.map((step) => element("option", { value: step }, `step ${step}`)));
  steps.value = run.checkpoints.at(-1);
  const dialogue = element("dialog", { class: "change", onclose: () => dialogue.remove() });
  const go = () => {
    try {
      const fields = { run: id, options: form.read(), n_classes: classes.value ? Number(classes.value) : null };
      if (what === "fork") fields.step = Number(steps.value);
      if (send(what, fields)) notice(what === "fork" ? "Forking…" : "Pausing at the next checkpoint…");
      dialogue.close();
    } catch (error) {
      notice(error.message, "error");
    }
  };
  dialogue.append(
    element("h2", {}, what === "fork" ? `Fork ${run.name}` : `Change ${run.name}`),
    element("p", { class: "hint" }, TEXTS[what]),
    what === "fork" ? element("label", { class: "option" }, element("span", { class: "name" }, "from"), steps) : "",
    element("label", { class: "option" }, element("span", { class: "name" }, "classes"), classes, element("small", {}, "Number of classes; empty = as it is.")),
    element("div", { class: "options" }, form.rows),
    element("div", { class: "buttons" }, button("Cancel", () => dialogue.close()), button(what === "fork" ? "Fork" : "Change", go, { class: "main" })),
  );
  document.body.append(dialogue);
  dialogue.showModal();
}
