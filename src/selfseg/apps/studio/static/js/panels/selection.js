// Over the foot of the picture: what can be done with the classes that are chosen.

import { ignoreClass, mergeSelected, splitClass } from "../actions.js";
import { button, element, hex } from "../html.js";
import { change, currentRun, on, state } from "../store.js";
import { send } from "../socket.js";
import { answerHere, goToDoubt } from "../answers.js";
import { correctTools, correctWords } from "../correcting.js";
import { ERASE } from "../view/marks.js";

// Brushes that can be drawn with. `key` names it in the list; `value` is the class of the project, null where it becomes one by the first stroke.
function brushesOf(run) {
  const rows = (run?.classes ?? []).filter((row) => !row.ignored);
  const here = new Set(rows.map((row) => row.identity));
  const others = (state.project?.classes ?? []).filter((each) => !here.has(each.id) && !(each.id in (run?.links ?? {})));
  return [
    ...rows.map((row) => ({ key: String(row.id), name: row.name, value: row.identity, label: row.id })),
    ...others.map((each) => ({ key: `project ${each.id}`, name: each.name, value: each.id, label: null })),
    { key: "erase", name: "eraser", value: ERASE, label: null },
  ];
}

// The brush in the run that is shown: the same class of the project, else the class that was chosen there.
function brushKey(run) {
  const { value, label, key } = state.scribble;
  if (value === ERASE) return "erase";
  if (value !== null) return run?.links[value] === undefined ? `project ${value}` : String(run.links[value]);
  return label === null ? key : String(label);
}

class StudioSelection extends HTMLElement {
  connectedCallback() {
    on(["selected", "runs", "run", "tool", "scribble", "project", "answer", "answering", "correct", "objects"], () => this.fill());
    this.fill();
  }

  fill() {
    if (this.contains(document.activeElement) && document.activeElement.type === "text") return; // a name is being typed
    const run = currentRun();
    const rows = state.selected.map((id) => run?.classes.find((row) => row.id === id)).filter(Boolean);
    const words = this.words(rows);
    this.hidden = !words && !rows.length;
    this.classList.toggle("docked", state.tool === "scribble" || state.tool === "correct"); // the hand needs the whole picture
    const chips = rows.map((row) => element("span", { class: "chip" }, element("i", { style: `background: ${hex(row.rgba)}` }), row.name));
    this.replaceChildren(...chips, ...(words ? [element("span", {}, words)] : []), ...this.buttons(run, rows));
  }

  words(rows) {
    if (state.tool === "correct") return correctWords();
    if (state.tool === "scribble") return "Draw where this class is:";
    if (state.tool !== "merge") return "";
    return rows.length ? "stays. Now click the region to merge into it." : "Click the region whose class should stay.";
  }

  buttons(run, rows) {
    if (state.tool === "scribble") return this.brush(run);
    if (state.tool === "correct") return correctTools(run);
    const made = [];
    if (rows.length > 1) made.push(button(`Merge ${rows.length} into ${rows[0].name}`, mergeSelected, { class: "main" }));
    if (rows.length === 1 && state.tool === "select") {
      made.push(
        button("Merge with…", () => change({ tool: "merge" }), { class: "main", title: "Then click another region (M)" }),
        button("Rename", () => this.rename(rows[0].id)),
        button("Split", () => splitClass(run, rows[0].id), { title: "Cluster this class alone, into two" }),
        button(rows[0].ignored ? "Use" : "Ignore", () => ignoreClass(run, rows[0])),
      );
    }
    if (rows.length || state.tool === "merge") {
      made.push(button("×", () => change({ selected: [], tool: "select" }), { title: "Choose nothing (Esc)", "aria-label": "Choose nothing" }));
    }
    return made;
  }

  // Which class is drawn, and how broad: classes of the run that is shown, then those of the project that it has not.
  brush(run) {
    const set = (values) => change({ scribble: { ...state.scribble, ...values } });
    const brushes = brushesOf(run);
    const now = brushes.find((each) => each.key === brushKey(run)) ?? brushes[0];
    const which = element("select", { title: "Class that is drawn", "aria-label": "Class that is drawn", onchange: () => set(brushes.find((each) => each.key === which.value)) });
    which.append(...brushes.map(({ key, name }) => element("option", { value: key }, name)));
    if (now) {
      which.value = now.key;
      if (now.value !== state.scribble.value || now.label !== state.scribble.label) set(now);
    }
    const name = element("input", { type: "text", placeholder: "new class", maxLength: 200, size: 8, "aria-label": "Name of a new class", onkeydown: (event) => event.key === "Enter" && add() });
    const add = () => {
      const given = name.value;
      name.blur();
      send("add_class", { name: given });
    };
    const size = element("input", {
      type: "range", min: 1, max: 40, step: 0.5, value: state.scribble.radius, title: "Size of the brush", "aria-label": "Size of the brush",
      onchange: () => set({ radius: Number(size.value) }),
    });
    const clear = button("Clear", () => send("scribble", { operation: { op: "clear", image: state.image } }), { title: "Remove all scribbles of this picture (undo brings them back)" });
    const live = element("input", { type: "checkbox", checked: state.answering, onchange: () => change({ answering: live.checked }) });
    const at = element("label", { title: "After each stroke the pixels in view are classified by all strokes (pixel classifier)" }, live, "answer at once");
    const answer = answerHere();
    const doubt = button("Where next?", goToDoubt, { title: "Go to the place where the answer is least certain (N); layer Confidence shows all such places", disabled: !answer });
    const use = button("Use this", () => this.use(), { class: "main", title: "Segment all pictures like this: a run of the pixel classifier with these strokes", disabled: !answer });
    if (answer) at.append(element("small", { class: "hint" }, ` ${answer.seconds.toFixed(1)} s`));
    return [which, size, name, button("Add", add, { title: "Add a class that is not found yet" }), clear, at, doubt, use, button("Done", () => change({ tool: "select" }))];
  }

  use() {
    if (send("start", { name: "pixel classifier", method: "pixel_classifier", use_scribbles: true, like: state.run })) change({ tool: "select", tab: "classes" });
  }

  rename(id) {
    change({ tab: "classes" });
    requestAnimationFrame(() => {
      const field = document.querySelector(`studio-classes li[data-id="${id}"] input[type=text]`);
      field?.focus();
      field?.select();
    });
  }
}

customElements.define("studio-selection", StudioSelection);
