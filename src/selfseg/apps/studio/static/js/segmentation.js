// The segmentation of one picture by one run: its tree, the class of each leaf, and the tables that the picture is drawn with.

import { labelLeaves, regionColour } from "./tree.js";

export const TABLE_WIDTH = 2048;

const loaded = new Map(); // "run|image|frame" -> Promise of a Segmentation

export function segmentation(run, image, frame) {
  const key = `${run.id}|${image}|${frame}`;
  if (!loaded.has(key)) {
    const made = Segmentation.load(run.id, image, frame);
    made.catch(() => loaded.delete(key));
    loaded.set(key, made);
    if (loaded.size > 24) loaded.delete(loaded.keys().next().value);
  }
  return loaded.get(key);
}

async function bytes(path, fields) {
  const answer = await fetch(`${path}?${new URLSearchParams(fields)}`);
  if (!answer.ok) throw new Error((await answer.json()).error ?? answer.statusText);
  return answer.arrayBuffer();
}

class Segmentation {
  static async load(run, name, frame) {
    const raw = await bytes("/api/tree", { run, name, frame });
    const nodes = raw.byteLength / 20; // two float64 and one int32
    const tree = {
      leaves: (nodes + 1) / 2,
      altitudes: new Float64Array(raw, 0, nodes),
      sizes: new Float64Array(raw, 8 * nodes, nodes),
      parents: new Int32Array(raw, 16 * nodes, nodes),
    };
    return new Segmentation(run, name, frame, tree);
  }

  constructor(run, name, frame, tree) {
    Object.assign(this, { run, name, frame, tree });
    this.revision = null; // that of the classes, or of those that are being fetched
    this.fetching = null;
    this.turn = 0;
    this.classes = null; // class of each leaf after merges and splits
    this.labels = null; // what the last `paint` made of them
    this.version = 0; // grows when the tables change
    const rows = Math.ceil((tree.leaves + 1) / TABLE_WIDTH);
    this.colours = new Uint8Array(4 * TABLE_WIDTH * rows);
    this.groups = new Uint32Array(TABLE_WIDTH * rows);
    this.inks = new Uint8Array(4 * TABLE_WIDTH);
    this.more = new Map(); // pixels that each class has more by corrections
  }

  // Fetch the classes of the leaves if merges or splits changed them. Of several fetches the last one counts: a step and its
  // undoing may both be on their way, and the answer to the first may come when it is no longer wanted.
  refresh(revision) {
    if (this.revision === revision) return this.fetching;
    this.revision = revision;
    this.fetching = this.fetchClasses(++this.turn);
    return this.fetching;
  }

  // Fetch by how many pixels the corrections by hand change each class; `stamp` differs where they do.
  async correct(stamp) {
    if (this.stamp === stamp) return;
    this.stamp = stamp;
    const { run, name, frame } = this;
    const answer = stamp ? await fetch(`/api/corrections?${new URLSearchParams({ run, name, frame })}`) : null;
    if (this.stamp !== stamp) return;
    this.more = new Map(answer?.ok ? Object.entries(await answer.json()).map(([label, count]) => [Number(label), count]) : []);
  }

  async fetchClasses(turn) {
    const { run, name, frame } = this;
    try {
      const classes = new Uint16Array(await bytes("/api/classes", { run, name, frame }));
      if (turn !== this.turn) return this.fetching;
      this.classes = classes;
    } catch (error) {
      if (turn === this.turn) this.revision = null;
      throw error;
    }
  }

  // While the slider moves, the lines are those of the regions, so that one sees what will merge.
  // Fill the tables: a colour and a group for each leaf, entry 0 being what lies outside. Answers within a frame.
  paint({ level, rows, show, selected, hovered, sliding }) {
    const ignored = new Set(rows.filter((row) => row.ignored).map((row) => row.id));
    const found = labelLeaves(this.tree, this.classes, ignored, level);
    this.labels = found.labels;
    this.regions = found.regions;
    this.count = found.count;
    const byId = new Map(rows.map((row) => [row.id, row.rgba]));
    const chosen = new Set(selected);
    for (let leaf = 0; leaf < found.labels.length; leaf++) {
      const label = found.labels[leaf];
      const region = found.regions[leaf];
      const rgba = show === "regions" ? regionColour(region) : (byId.get(label) ?? [0, 0, 0]);
      const at = 4 * (leaf + 1);
      this.colours[at] = rgba[0];
      this.colours[at + 1] = rgba[1];
      this.colours[at + 2] = rgba[2];
      this.colours[at + 3] = emphasis(label, chosen, hovered);
      this.groups[leaf + 1] = show === "regions" || sliding ? region + 1 : label;
    }
    this.paintInks(rows, ignored, chosen, hovered);
    this.version++;
  }

  // Colour of each class, for pixels that were corrected by hand.
  paintInks(rows, ignored, chosen, hovered) {
    const most = rows.reduce((largest, row) => Math.max(largest, row.id), 0);
    const length = 4 * TABLE_WIDTH * Math.ceil((most + 1) / TABLE_WIDTH);
    if (this.inks.length !== length) this.inks = new Uint8Array(length);
    this.inks.fill(0);
    for (const row of rows) if (!ignored.has(row.id)) this.inks.set([...row.rgba.slice(0, 3), emphasis(row.id, chosen, hovered)], 4 * row.id);
  }

  // Pixels of each label in this picture.
  areas() {
    const areas = new Map();
    for (let leaf = 0; leaf < this.labels.length; leaf++) {
      areas.set(this.labels[leaf], (areas.get(this.labels[leaf]) ?? 0) + this.tree.sizes[leaf]);
    }
    for (const [label, count] of this.more) areas.set(label, (areas.get(label) ?? 0) + count);
    return areas;
  }
}

// Alpha: 255 chosen, 200 usual, 80 faded since others are chosen, 0 ignored.
function emphasis(label, chosen, hovered) {
  if (label === 0) return 0;
  if (chosen.has(label) || label === hovered) return 255;
  return chosen.size || hovered !== null ? 90 : 200;
}
