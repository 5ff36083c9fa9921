// The objects of the picture that is shown, as the server counted them: measures by column, and which of them are shown.

import { change, currentRun, hasResult, on, state } from "./store.js";
import { TABLE_WIDTH } from "./segmentation.js";
import { notice } from "./panels/notices.js";

let shown = null; // Counted of the picture that is shown, or null
let asking = null; // key of the one that is being counted
let least = null; // least size while the slider moves

class Counted {
  constructor(key, { stamp, n, columns, unit, size_unit: sizeUnit }) {
    Object.assign(this, { key, stamp, n, columns, unit, sizeUnit });
    this.ids = columns.id;
    this.version = 0;
    const largest = this.ids.reduce((most, id) => Math.max(most, id), 0);
    this.marks = new Uint8Array(TABLE_WIDTH * Math.ceil((largest + 1) / TABLE_WIDTH));
    this.row = new Map(this.ids.map((id, i) => [id, i]));
    this.mark();
  }

  // Which objects are shown: those of enough pixels; the chosen ones stand out.
  mark() {
    const wanted = leastSize();
    this.marks.fill(0);
    this.rows = [];
    for (let i = 0; i < this.n; i++) {
      if (this.columns.pixels[i] < wanted) continue;
      this.marks[this.ids[i]] = 1;
      this.rows.push(i);
    }
    for (const id of state.chosenObjects) if (this.marks[id]) this.marks[id] = 2;
    this.version++;
  }
}

export const leastSize = () => least ?? currentRun()?.counting?.min_size ?? 1;

export function slideLeast(value) {
  least = value;
  shown?.mark();
  change({ objects: state.objects + 1 });
}

const keyNow = () => {
  const run = currentRun();
  if (!run?.counting || !hasResult(run)) return null;
  const { kind, of } = run.counting;
  return JSON.stringify([run.id, state.image, state.frame, kind, of, run.level, run.revision, run.classes.map((row) => [row.id, row.ignored]), run.corrected[state.image] ?? 0]);
};

export const countedHere = () => (shown && state.layers.objects ? shown : null);
export const allObjects = () => shown;
export const isCounting = () => asking !== null;

// Ask for the objects of what is shown, if they are counted at all; of several questions the last one counts.
export async function loadObjects() {
  const key = keyNow();
  if (shown && shown.key !== key && JSON.parse(shown.key).slice(0, 3).join() !== [state.run, state.image, state.frame].join()) put(null);
  if (!key) return shown && put(null);
  if (shown?.key === key || asking === key) return null;
  asking = key;
  change({ objects: state.objects + 1 });
  const begun = performance.now();
  try {
    const answer = await fetch(`/api/objects?${new URLSearchParams({ run: state.run, name: state.image, frame: state.frame })}`);
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.error);
    if (asking !== key || keyNow() !== key) return null;
    asking = null;
    put(new Counted(key, value));
    timing.counted = performance.now() - begun;
  } catch (error) {
    if (asking !== key) return null;
    asking = null;
    change({ objects: state.objects + 1 });
    notice(error.message, "error");
  }
  return null;
}

export const timing = { counted: 0 };

function put(found) {
  shown = found;
  least = null;
  change({ objects: state.objects + 1, chosenObjects: [] });
}

export function chooseObject(id, more = false) {
  const has = state.chosenObjects.includes(id);
  const next = more ? (has ? state.chosenObjects.filter((each) => each !== id) : [...state.chosenObjects, id]) : has && state.chosenObjects.length === 1 ? [] : [id];
  change({ chosenObjects: id ? next : [] });
}

on("chosenObjects", () => {
  shown?.mark();
  change({ objects: state.objects + 1 });
});
on("runs", () => {
  if (least !== null && currentRun()?.counting?.min_size === least) least = null;
});
