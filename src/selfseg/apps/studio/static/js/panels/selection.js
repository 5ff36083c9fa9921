// Over the foot of the picture: what can be done with the classes that are chosen.

import { ignoreClass, mergeSelected, splitClass } from "../actions.js";
import { button, element, hex } from "../html.js";
import { change, currentRun, on, state } from "../store.js";

class StudioSelection extends HTMLElement {
  connectedCallback() {
    on(["selected", "runs", "run", "tool", "scribble"], () => this.fill());
    this.fill();
  }

  fill() {
    const run = currentRun();
    const rows = state.selected.map((id) => run?.classes.find((row) => row.id === id)).filter(Boolean);
    const words = this.words(rows);
    this.hidden = !words && !rows.length;
    const chips = rows.map((row) => element("span", { class: "chip" }, element("i", { style: `background: ${hex(row.rgba)}` }), row.name));
    this.replaceChildren(...chips, ...(words ? [element("span", {}, words)] : []), ...this.buttons(run, rows));
  }

  words(rows) {
    if (state.tool === "scribble") return "Draw where this class is, then start learning:";
    if (state.tool !== "merge") return "";
    return rows.length ? "stays. Now click the region to merge into it." : "Click the region whose class should stay.";
  }

  buttons(run, rows) {
    if (state.tool === "scribble") return this.brush(run);
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

  // Which class is drawn, and how broad; before there are classes, six to choose from.
  brush(run) {
    const rows = run?.classes.length ? run.classes : [1, 2, 3, 4, 5, 6].map((id) => ({ id, name: `class ${id}` }));
    const set = (values) => change({ scribble: { ...state.scribble, ...values } });
    if (!rows.some((row) => row.id === state.scribble.value)) set({ value: rows[0].id });
    const which = element("select", { title: "Class that is drawn", onchange: () => set({ value: Number(which.value) }) });
    which.append(...rows.map(({ id, name }) => element("option", { value: id, selected: id === state.scribble.value }, name)));
    const size = element("input", {
      type: "range", min: 1, max: 40, step: 0.5, value: state.scribble.radius, title: "Size of the brush", "aria-label": "Size of the brush",
      onchange: () => set({ radius: Number(size.value) }),
    });
    return [which, size, button("Done", () => change({ tool: "select" }))];
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
