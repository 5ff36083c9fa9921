// Actions of several parts of the page on the classes of a run.

import { edit, send } from "./socket.js";
import { change, className, currentRun, state } from "./store.js";
import { notice } from "./panels/notices.js";

export function select(id, more = false) {
  const chosen = state.selected.includes(id);
  if (more) change({ selected: chosen ? state.selected.filter((each) => each !== id) : [...state.selected, id] });
  else change({ selected: chosen && state.selected.length === 1 && state.tool === "select" ? [] : [id] });
}

export function mergeClasses(run, source, target) {
  if (!run || source === target) return;
  const words = `${className(run, source)} is now part of ${className(run, target)}. Undo: Ctrl+Z`;
  if (edit(run.id, { op: "merge", source, target })) notice(words);
  change({ selected: [target], tool: "select", hovered: null });
}

// All chosen classes become the one that was chosen first.
export function mergeSelected() {
  const [target, ...sources] = state.selected;
  for (const source of sources) mergeClasses(currentRun(), source, target);
}

export function splitClass(run, id) {
  if (send("split", { run: run.id, id, parts: 2 })) change({ busy: { text: `Splitting ${className(run, id)}`, since: performance.now(), run: run.id } });
}

export const ignoreClass = (run, row) => edit(run.id, { op: "ignore", id: row.id, on: !row.ignored });

export const turn = (what) => {
  const scope = state.tool === "scribble" ? "scribbles" : state.run;
  if (scope) send(what, { scope });
};

export function setLevel(run, level) {
  change({ level });
  edit(run.id, { op: "level", level });
}

export function stepImage(by) {
  const names = state.project?.images ?? [];
  const at = names.indexOf(state.image) + by;
  if (names[at]) change({ image: names[at], frame: 0, hovered: null });
}
