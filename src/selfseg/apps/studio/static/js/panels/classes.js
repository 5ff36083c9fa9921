// The class table: names, colours, shares; rows are dragged onto each other to merge.

import { ignoreClass, mergeClasses, select, splitClass } from "../actions.js";
import { button, element, fromHex, hex, percent } from "../html.js";
import { onScene, scene } from "../scene.js";
import { edit, send } from "../socket.js";
import { change, currentRun, on, state } from "../store.js";

const DRAGGED = "text/x-selfseg-class";

class StudioClasses extends HTMLElement {
  connectedCallback() {
    this.list = element("ul", { class: "classes", "aria-label": "Classes" });
    this.hint = element("p", { class: "hint" });
    this.stand = button("Colours that stand out", () => send("stand_out", { run: state.run, image: state.image, frame: state.frame }), { title: "Choose the colours against this picture, as clear as they can be; undo brings the others back" });
    this.append(element("h2", {}, "Classes", this.stand), this.hint, this.list);
    on(["run", "runs"], () => this.fill());
    on(["selected", "hovered"], () => this.mark());
    onScene(() => this.measure());
  }

  fill() {
    const run = currentRun();
    const rows = run?.classes ?? [];
    this.stand.hidden = !rows.length;
    this.hint.textContent = rows.length
      ? "To merge two: click a region in the picture, then “Merge with…”. Or drag one row onto another."
      : "The classes appear here as soon as a run has found them.";
    if (this.contains(document.activeElement) && document.activeElement.tagName === "INPUT" && document.activeElement.type === "text") return;
    const key = JSON.stringify([run?.id, rows]);
    if (key === this.key) return;
    this.key = key;
    this.list.replaceChildren(...rows.map((row) => this.entry(run, row)));
    this.mark();
    this.measure();
  }

  entry(run, row) {
    const colour = element("input", { type: "color", value: hex(row.rgba), title: "Colour", "aria-label": `Colour of ${row.name}`, onchange: () => edit(run.id, { op: "recolour", id: row.id, rgba: fromHex(colour.value) }) });
    const name = element("input", {
      type: "text", value: row.name, maxLength: 200, title: "Click to rename", "aria-label": `Name of class ${row.id}`,
      onchange: () => name.value.trim() && edit(run.id, { op: "rename", id: row.id, name: name.value.trim() }),
      onblur: () => setTimeout(() => this.fill()),
      onkeydown: (event) => event.key === "Enter" && name.blur(),
    });
    const share = element("span", { class: "share" }, element("i", { style: `background: ${hex(row.rgba)}` }), element("b", {}, ""));
    const tools = element(
      "span",
      { class: "tools" },
      button("Split", () => splitClass(run, row.id), { title: `Cluster ${row.name} alone, into two` }),
      button(row.ignored ? "Use" : "Ignore", () => ignoreClass(run, row), { title: row.ignored ? "Take it into the labels again" : "Leave it out of the labels (0)" }),
    );
    const entry = element("li", { draggable: true, class: row.ignored ? "ignored" : "", dataset: { id: row.id } }, element("span", { class: "grip", title: "Drag onto another class to merge" }, "⠿"), colour, name, share, tools);
    this.listen(entry, run, row);
    return entry;
  }

  listen(entry, run, row) {
    const hear = (kind, listener) => entry.addEventListener(kind, listener);
    hear("pointerdown", (event) => (entry.draggable = !event.target.closest("input"))); // text can be selected by dragging
    hear("click", (event) => !event.target.closest("input, button") && select(row.id, event.shiftKey || event.ctrlKey || event.metaKey));
    hear("mouseenter", () => change({ hovered: row.id }));
    hear("mouseleave", () => state.hovered === row.id && change({ hovered: null }));
    hear("dragstart", (event) => {
      event.dataTransfer.setData(DRAGGED, String(row.id));
      event.dataTransfer.effectAllowed = "move";
      this.dragged = row.id;
    });
    hear("dragover", (event) => {
      if (!event.dataTransfer.types.includes(DRAGGED) || this.dragged === row.id) return;
      event.preventDefault();
      entry.classList.add("target");
      entry.dataset.words = `merge into ${row.name}`;
    });
    hear("dragleave", (event) => !entry.contains(event.relatedTarget) && entry.classList.remove("target"));
    hear("dragend", () => this.list.querySelectorAll(".target").forEach((each) => each.classList.remove("target")));
    hear("drop", (event) => {
      event.preventDefault();
      entry.classList.remove("target");
      mergeClasses(run, Number(event.dataTransfer.getData(DRAGGED)), row.id);
    });
  }

  mark() {
    for (const entry of this.list.children) {
      const id = Number(entry.dataset.id);
      const chosen = state.selected.includes(id);
      if (chosen && !entry.classList.contains("chosen") && !this.list.matches(":hover")) entry.scrollIntoView({ block: "nearest" });
      entry.classList.toggle("chosen", chosen);
      entry.classList.toggle("hovered", state.hovered === id);
    }
  }

  // Shares in the picture that is shown, at the level that is shown.
  measure() {
    const areas = scene.seg?.labels ? scene.seg.areas() : new Map();
    const total = [...areas.values()].reduce((sum, value) => sum + value, 0);
    for (const entry of this.list.children) {
      const share = total ? (areas.get(Number(entry.dataset.id)) ?? 0) / total : null;
      entry.querySelector(".share b").textContent = share === null ? "" : percent(share);
      entry.classList.toggle("absent", share === 0);
      entry.querySelector(".share i").style.width = `${100 * Math.sqrt(share ?? 0)}%`;
    }
  }
}

customElements.define("studio-classes", StudioClasses);
