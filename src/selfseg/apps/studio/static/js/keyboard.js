// Keys for all that the hand does.

import { mergeSelected, setLevel, stepImage, turn } from "./actions.js";
import { goToDoubt } from "./answers.js";
import { mainKey, play, step } from "./playing.js";
import { scene } from "./scene.js";
import { change, currentRun, setLayer, state } from "./store.js";
import { levelAt, positionOf } from "./tree.js";

const SHOW = ["classes", "regions", "probability", "confidence", "image"];

const panes = () => document.querySelector("studio-panes");

const KEYS = {
  "+": () => panes().zoom(1.25),
  "=": () => panes().zoom(1.25),
  "-": () => panes().zoom(0.8),
  0: () => panes().fit(),
  9: () => real(),
  v: () => change({ tool: "select" }),
  m: () => change({ tool: "merge" }),
  c: () => change({ tool: "correct" }),
  n: () => goToDoubt(),
  b: () => change({ tool: "scribble" }),
  j: () => pick(1, false),
  k: () => pick(-1, false),
  J: () => pick(1, true),
  K: () => pick(-1, true),
  Enter: () => state.selected.length > 1 && mergeSelected(),
  l: () => setLayer({ boundaries: !state.layers.boundaries }),
  p: () => setLayer({ superpixels: !state.layers.superpixels }),
  h: () => setLayer({ strokes: !state.layers.strokes }),
  s: () => setLayer({ swipe: !state.layers.swipe }),
  t: () => change({ planes: !state.planes }),
  d: () => change({ solid: !state.solid }),
  o: () => setLayer({ opacity: Math.min(1, state.layers.opacity + 0.1) }),
  O: () => setLayer({ opacity: Math.max(0, state.layers.opacity - 0.1) }),
  "[": () => slide(-0.02),
  "]": () => slide(0.02),
  ",": () => step(mainKey(), -1),
  ".": () => step(mainKey(), 1),
  "<": () => step("plane", -1),
  ">": () => step("plane", 1),
  " ": () => play(mainKey()),
  PageUp: () => stepImage(-1),
  PageDown: () => stepImage(1),
  ArrowLeft: () => move(60, 0),
  ArrowRight: () => move(-60, 0),
  ArrowUp: () => move(0, 60),
  ArrowDown: () => move(0, -60),
  Escape: () => change({ selected: [], chosenObjects: [], tool: "select" }),
  "?": () => document.querySelector("studio-help").open(),
};

SHOW.forEach((show, i) => (KEYS[i + 1] = () => setLayer({ show })));

function move(right, down) {
  for (const pane of panes().panes) pane.transform.move(right, down, pane.plane());
  panes().redraw();
}

function real() {
  for (const pane of panes().panes) Object.assign(pane.transform, { zoom: 1 / pane.ratio, fitted: false });
  panes().redraw();
}

// The next class of the table, chosen alone or with those chosen before: merging without a mouse.
function pick(by, more) {
  const ids = (currentRun()?.classes ?? []).map((row) => row.id);
  if (!ids.length) return;
  const at = ids.indexOf(state.selected.at(-1));
  const next = ids[Math.min(Math.max(at < 0 ? (by > 0 ? 0 : ids.length - 1) : at + by, 0), ids.length - 1)];
  change({ selected: more ? [...state.selected.filter((id) => id !== next), next] : [next] });
}

function slide(by) {
  const run = currentRun();
  const tree = scene.seg?.tree;
  if (!tree) return;
  const at = Math.min(Math.max(positionOf(tree, state.level ?? run.level) + by, 0), 1);
  setLevel(run, levelAt(tree, at));
}

export function listenToKeys() {
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest?.("input:not([type=range]):not([type=checkbox]):not([type=color]), textarea, select");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !typing) {
      event.preventDefault();
      turn(event.shiftKey ? "redo" : "undo");
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "y" && !typing) {
      event.preventDefault();
      turn("redo");
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
    if (event.key === "Enter" && event.target.closest?.("button, summary, a")) return;
    if (event.key === " " && event.target.closest?.("button, summary, input")) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
