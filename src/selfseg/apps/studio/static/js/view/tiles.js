// Tiles of one pane: fetched when they are looked at, the nearest first, kept as textures while there is room.

const MOST_KEPT = 260;
const AT_ONCE = 6;

export class Tiles {
  // `made(key, buffer)` turns an answer into a tile with `textures`; `arrived` is called when there is one more.
  constructor(painter, arrived) {
    this.painter = painter;
    this.arrived = arrived;
    this.kept = new Map();
    this.busy = new Map();
    this.queue = [];
  }

  get(key) {
    const tile = this.kept.get(key);
    if (tile) {
      this.kept.delete(key);
      this.kept.set(key, tile);
    }
    return tile;
  }

  // Say which tiles are wanted now, in the order of their worth; others that wait are forgotten.
  want(jobs) {
    const keys = new Set(jobs.map((job) => job.key));
    for (const [key, stop] of this.busy) if (!keys.has(key)) stop.abort();
    this.queue = jobs.filter((job) => !this.kept.has(job.key) && !this.busy.has(job.key));
    this.next();
  }

  next() {
    while (this.queue.length && this.busy.size < AT_ONCE) this.fetch(this.queue.shift());
  }

  async fetch({ key, url, make }) {
    const stop = new AbortController();
    this.busy.set(key, stop);
    try {
      const answer = await fetch(url, { signal: stop.signal });
      if (answer.ok) {
        this.kept.set(key, make(await answer.arrayBuffer()));
        this.trim();
        this.arrived();
      }
    } catch (error) {
      if (error.name !== "AbortError") console.warn(error);
    } finally {
      this.busy.delete(key);
      this.next();
    }
  }

  trim() {
    for (const [key, tile] of this.kept) {
      if (this.kept.size <= MOST_KEPT) return;
      this.painter.drop(tile.texture);
      this.kept.delete(key);
    }
  }

  // Forget everything whose key begins so.
  forget(start) {
    for (const [key, tile] of this.kept) {
      if (!key.startsWith(start)) continue;
      this.painter.drop(tile.texture);
      this.kept.delete(key);
    }
  }
}

// The tiles that cover a rectangle of a plane at a level, the nearest to its middle first.
export function covering(plane, level, box, side) {
  const size = side * 2 ** level;
  const columns = [Math.max(0, Math.floor(box.left / size)), Math.min(Math.ceil(plane.width / size), Math.ceil(box.right / size))];
  const rows = [Math.max(0, Math.floor(box.top / size)), Math.min(Math.ceil(plane.height / size), Math.ceil(box.bottom / size))];
  const found = [];
  for (let y = rows[0]; y < rows[1]; y++) for (let x = columns[0]; x < columns[1]; x++) found.push(placed(plane, level, x, y, side));
  const middle = { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 };
  const far = (tile) => Math.hypot(tile.left + size / 2 - middle.x, tile.top + size / 2 - middle.y);
  return found.sort((a, b) => far(a) - far(b));
}

function placed(plane, level, x, y, side) {
  const step = 2 ** level;
  const width = Math.min(side, Math.ceil(plane.width / step) - x * side);
  const height = Math.min(side, Math.ceil(plane.height / step) - y * side);
  return { level, x, y, width, height, left: x * side * step, top: y * side * step, step };
}
