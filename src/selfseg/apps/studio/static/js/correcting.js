// Correcting by hand: the brush over labels, regions and objects given to a class, objects cut, joined, drawn and removed.

import { button, element } from "./html.js";
import { countedHere } from "./objects.js";
import { send } from "./socket.js";
import { change, currentRun, state } from "./store.js";

const WAYS = [
  ["paint", "brush", "Paint the class over the labels."],
  ["give", "fill a region", "Click a region: it becomes the class."],
  ["cut", "cut an object", "Draw a line right through an object."],
  ["join", "join objects", "Click an object, then the one that belongs to it."],
  ["draw", "draw an object", "Paint a new object."],
  ["drop", "remove an object", "Click an object: it no longer counts."],
  ["giveObject", "give an object a class", "Click an object: its pixels become the class."],
];
const OF_OBJECTS = new Set(["cut", "join", "draw", "drop", "giveObject"]);

const ways = () => WAYS.filter(([key]) => countedHere() || !OF_OBJECTS.has(key));
const now = () => ways().find(([key]) => key === state.correct.do) ?? WAYS[0];
const set = (values) => change({ correct: { ...state.correct, first: null, ...values } });

export const correctWords = () => (state.correct.first ? "Now click the object that belongs to it." : now()[2]);

export function correctTools(run) {
  const [way] = now();
  if (way !== state.correct.do) set({ do: way });
  const how = element("select", { "aria-label": "What is corrected", onchange: () => set({ do: how.value }) });
  how.append(...ways().map(([key, text]) => element("option", { value: key }, text)));
  how.value = way;
  const made = [how];
  if (["paint", "give", "giveObject"].includes(way)) {
    const rows = [...(run?.classes ?? []).filter((row) => !row.ignored), { id: 0, name: "nothing (eraser)" }];
    if (!rows.some((row) => row.id === state.correct.value)) set({ value: state.selected[0] ?? rows[0].id });
    const which = element("select", { "aria-label": "Class that is given", onchange: () => set({ value: Number(which.value) }) });
    which.append(...rows.map((row) => element("option", { value: row.id }, row.name)));
    which.value = state.correct.value;
    made.push(which);
  }
  if (["paint", "draw"].includes(way)) {
    const size = element("input", { type: "range", min: 0.5, max: 60, step: 0.5, value: state.correct.radius, title: "Size of the brush", "aria-label": "Size of the brush", onchange: () => set({ radius: Number(size.value) }) });
    made.push(size);
  }
  return [...made, button("Done", () => change({ tool: "select" }))];
}

const here = () => ({ image: state.image, frame: state.frame });
const correct = (what) => currentRun() && send("correct", { run: currentRun().id, what: { ...here(), ...what } });

// A stroke of the brush, or a line through an object.
export function correctStroke(pane, points) {
  const { do: way, value, radius } = state.correct;
  const stroke = { plane: pane.scene.index, points: points.slice(0, 20000) };
  if (way === "paint") correct({ do: "paint", value, radius, ...stroke });
  else correct({ do: way, radius: way === "cut" ? 0.5 : radius, ...stroke });
}

// A click, for what is done to the region or the object under it.
export function correctClick(pane, found) {
  const { do: way, value, first } = state.correct;
  const plane = pane.scene.index;
  const point = [found.y + 0.5, found.x + 0.5];
  if (way === "give" || way === "giveObject") {
    correct({ do: "give", value, whole: way === "give" ? "region" : "object", point: pane.scene.facts.depth > 1 ? [plane, found.y, found.x] : [found.y, found.x] });
  } else if (way === "drop") correct({ do: "drop", plane, points: [point] });
  else if (way === "join" && !first) change({ correct: { ...state.correct, first: { point, plane } } });
  else if (way === "join" && first) {
    correct({ do: "join", plane, points: [first.point, point] });
    set({});
  }
}

