// Over the foot of the picture: what can be done with the classes that are chosen.

import { ignoreClass, mergeSelected, splitClass } from "../actions.js";
import { button, element, hex } from "../html.js";
import { change, currentRun, on, state } from "../store.js";

class StudioSelection extends HTMLElement {
  connectedCallback() {
    on(["selected", "runs", "run", "tool"], () => this.fill());
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
    if (state.tool === "scribble") return "Draw on the picture; then Learn, with scribbles. Alt + drag moves the picture.";
    if (state.tool !== "merge") return "";
    return rows.length ? "stays. Now click what should become part of it" : "Click the region whose class should stay";
  }

  buttons(run, rows) {
    if (state.tool === "scribble") return [];
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
