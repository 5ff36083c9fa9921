// A dialogue over one run: other options from here on, or another run from one of its checkpoints.

import { button, element } from "../html.js";
import { send } from "../socket.js";
import { state } from "../store.js";
import { optionFields } from "./fields.js";
import { notice } from "./notices.js";

// Options that decide the sizes of tensors: with another value, a checkpoint no longer fits.
const FIXED = new Set(["n_features", "n_clusters", "n_convolutions", "prepare", "batch_size", "accumulate"]);

// Effect of the options that are filled in on the run, shown before it is done.
function consequence(what, run, options, live) {
  if (what === "fork") return "Another run begins from this checkpoint; this one stays as it is.";
  const names = Object.keys(options);
  if (!names.length) return "Nothing is changed yet.";
  if (run.state === "learning" && names.every((name) => live.has(name))) return "Takes effect at the next step: the run does not stop.";
  if (run.state === "paused") return `The run continues from its last checkpoint, step ${run.checkpoints.at(-1)}, with this.`;
  const why = names.filter((name) => !live.has(name)).map((name) => name.replaceAll("_", " ")).join(", ");
  return `The run stops for some seconds and begins anew from its next checkpoint${why ? `, because of: ${why}` : ""}.`;
}

export function openChange(id, what) {
  const run = () => state.runs.get(id);
  const { name, method: kind, preset, options, n_classes: wanted, checkpoints } = run();
  const method = state.methods.find((each) => each.name === kind);
  const live = new Set(method.fields.filter((field) => field.live).map((field) => field.name));
  const now = { ...method.presets[preset], ...options };
  const forms = [true, false].map((atOnce) => optionFields(method, now, (field) => !FIXED.has(field.name) && field.live === atOnce));
  const classes = element("input", { type: "number", min: 1, max: 255, step: 1, placeholder: wanted ?? "auto", "aria-label": "Number of classes" });
  const steps = element("select", { "aria-label": "Checkpoint" }, checkpoints.map((step) => element("option", { value: step }, `step ${step}`)));
  steps.value = checkpoints.at(-1);
  const said = element("p", { class: "consequence", role: "status" });
  const read = () => Object.assign({}, ...forms.map((form) => form.read()));
  const dialogue = element("dialog", { class: "change", onclose: () => dialogue.remove() });
  const tell = () => {
    try {
      said.textContent = consequence(what, run(), { ...read(), ...(classes.value ? { classes: classes.value } : {}) }, live);
    } catch (error) {
      said.textContent = error.message;
    }
  };
  const go = () => {
    try {
      const fields = { run: id, options: read(), n_classes: classes.value ? Number(classes.value) : null };
      if (what === "fork") fields.step = Number(steps.value);
      if (send(what, fields)) notice(what === "fork" ? "Forking…" : said.textContent);
      dialogue.close();
    } catch (error) {
      notice(error.message, "error");
    }
  };
  const group = (title, ...rows) => element("section", {}, element("h3", {}, title), ...rows);
  dialogue.append(
    element("h2", {}, what === "fork" ? `Fork ${name}` : `Change ${name}`),
    what === "fork" ? element("label", { class: "option" }, element("span", { class: "name" }, "from"), steps) : "",
    element(
      "div",
      { class: "options", oninput: tell },
      group(what === "fork" ? "Weights and step sizes" : "At the next step", ...forms[0].rows),
      group(
        what === "fork" ? "What is built in" : "From a checkpoint",
        element("label", { class: "option" }, element("span", { class: "name" }, "classes"), classes, element("small", {}, "Number of classes; empty = as it is.")),
        ...forms[1].rows,
      ),
    ),
    said,
    element("div", { class: "buttons" }, button("Cancel", () => dialogue.close()), button(what === "fork" ? "Fork" : "Change", go, { class: "main" })),
  );
  document.body.append(dialogue);
  dialogue.showModal();
  tell();
}
