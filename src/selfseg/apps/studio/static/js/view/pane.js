// One pane: a plane of a picture under the layers of one run. It draws only when something changed.

import { TABLE_WIDTH } from "../segmentation.js";
import { Painter } from "./gl.js";
import { drawMarks } from "./marks.js";
import { Tiles, covering } from "./tiles.js";
import { Transform } from "./transform.js";

const SHOW = { image: 0, classes: 1, regions: 1, probability: 2, confidence: 2 };

export class Pane {
  constructor(host, axis) {
    this.axis = axis;
    this.element = document.createElement("div");
    this.element.className = "pane";
    this.canvas = this.element.appendChild(document.createElement("canvas"));
    this.marks = this.element.appendChild(document.createElement("canvas"));
    this.caption = this.element.appendChild(document.createElement("span"));
    this.caption.className = "caption";
    host.append(this.element);
    this.painter = new Painter(this.canvas);
    this.tiles = new Tiles(this.painter, () => this.redraw());
    this.transform = new Transform();
    this.tables = { seg: null, version: -1, colours: null, groups: null };
    this.preview = { key: null, texture: this.painter.clear };
    this.scene = null;
    this.frameTimes = [];
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  // Scene: { facts, name, frame, index, run, seg, layers, ranges, channels, sources, strokes, swipe, preview, label }.
  show(scene) {
    const before = this.scene;
    this.scene = scene;
    if (!before || before.name !== scene.name || this.plane(before).width !== this.plane().width) this.transform.fitted = true;
    this.redraw();
  }

  plane(scene = this.scene) {
    const { width, height, depth, spacing } = scene.facts;
    const [z, y, x] = spacing.length === 3 ? spacing : [1, spacing[0] ?? 1, spacing[1] ?? 1];
    if (this.axis === "z") return { width, height, aspect: y / x };
    if (this.axis === "y") return { width, height: depth, aspect: z / x };
    return { width: height, height: depth, aspect: z / y };
  }

  resize() {
    this.ratio = window.devicePixelRatio || 1;
    this.width = this.element.clientWidth;
    this.height = this.element.clientHeight;
    for (const canvas of [this.canvas, this.marks]) {
      canvas.width = Math.max(1, Math.round(this.width * this.ratio));
      canvas.height = Math.max(1, Math.round(this.height * this.ratio));
    }
    this.draw();
  }

  redraw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = null;
      this.draw();
    });
  }

  draw() {
    if (!this.scene || !this.width) return;
    const begun = performance.now();
    const plane = this.plane();
    if (this.transform.fitted) this.transform.fit(plane, this.width, this.height);
    this.painter.begin(this.canvas.width, this.canvas.height);
    this.paint(plane);
    drawMarks(this, plane);
    this.frameTimes.push(performance.now() - begun);
    if (this.frameTimes.length > 120) this.frameTimes.shift();
  }

  paint(plane) {
    const { facts } = this.scene;
    const box = this.box(plane);
    const device = this.transform.zoom * this.ratio;
    const last = facts.levels - 1;
    const level = Math.min(last, Math.max(0, Math.floor(Math.log2(1 / device) + 0.25)));
    const coarse = covering(plane, last, box, facts.tile);
    const fine = level === last ? [] : covering(plane, level, box, facts.tile);
    this.tiles.want([...coarse, ...fine].flatMap((tile) => this.jobs(tile)));
    this.common();
    for (const tile of [...coarse, ...fine]) this.paintTile(tile, plane);
    this.level = level;
  }

  box(plane) {
    const [left, top] = this.transform.toPicture(0, 0, plane, this.width, this.height);
    const [right, bottom] = this.transform.toPicture(this.width, this.height, plane, this.width, this.height);
    return { left, top, right, bottom };
  }

  place(tile) {
    const { frame, index } = this.scene;
    return `axis=${this.axis}&frame=${frame}&index=${index}&level=${tile.level}&x=${tile.x}&y=${tile.y}`;
  }

  keys(tile) {
    const { name, run, channels, layers, sources } = this.scene;
    const place = this.place(tile);
    const where = encodeURIComponent(name);
    const kind = SHOW[layers.show];
    return {
      image: `/tiles/image?name=${where}&channels=${channels}&${place}`,
      leaves: run && `/tiles/leaves?run=${run}&name=${where}&${place}`,
      probability: run && kind === 2 && `/tiles/probability?run=${run}&name=${where}&sources=${sources}&${place}`,
    };
  }

  jobs(tile) {
    const { facts, channels } = this.scene;
    const { width, height } = tile;
    const keys = this.keys(tile);
    const wide = facts.bits === 16;
    const jobs = [
      this.job(keys.image, (raw) => [wide ? new Uint16Array(raw) : new Uint8Array(raw), width, height, channels.length, wide ? "u16" : "u8"]),
    ];
    if (keys.leaves) jobs.push(this.job(keys.leaves, (raw) => [new Uint32Array(raw), width + 2, height + 2, 1, "u32"]));
    if (keys.probability) jobs.push(this.job(keys.probability, (raw) => [new Uint8Array(raw), width, height, 1, "u8"]));
    return jobs;
  }

  job(url, unpack) {
    const make = (raw) => {
      const [data, ...shape] = unpack(raw);
      return { data, texture: this.painter.integers(data, ...shape) };
    };
    return { key: url, url, make };
  }

  // What is the same for all tiles.
  common() {
    const { layers, ranges, channels, tints, seg, swipe, preview } = this.scene;
    const painter = this.painter;
    const chosen = channels.map((channel) => ranges[channel]);
    const four = (values, rest) => [0, 1, 2, 3].map((i) => values[i] ?? rest);
    painter.set("1i", "u_channels", channels.length);
    painter.set("4f", "u_low", ...four(chosen.map(([low]) => low), 0));
    painter.set("4f", "u_gain", ...four(chosen.map(([low, high]) => 1 / Math.max(high - low, 1e-6)), 1));
    painter.set("3fv", "u_tints", new Float32Array(four(channels.map((channel) => tints[channel]), [0, 0, 0]).flat().map((v) => v / 255)));
    painter.set("1f", "u_opacity", layers.opacity);
    painter.set("1f", "u_lines", layers.boundaries && seg ? 1 : 0);
    painter.set("1f", "u_fine", layers.superpixels && seg ? 1 : 0);
    painter.set("1f", "u_grey", layers.grey ? Math.min(1, 2 * layers.opacity) : 0);
    painter.set("1f", "u_swipe", layers.swipe ? swipe * this.canvas.width : -1);
    if (seg && (this.tables.seg !== seg || this.tables.version !== seg.version)) this.upload(seg);
    if (preview && this.preview.key !== preview.key) this.preview = { key: preview.key, texture: painter.picture(preview.image) };
    painter.bind(2, this.tables.groups ?? painter.empty);
    painter.bind(3, this.tables.colours ?? painter.clear);
    painter.bind(5, this.preview.texture);
  }

  upload(seg) {
    const rows = seg.groups.length / TABLE_WIDTH;
    this.tables.colours = this.painter.colours(seg.colours, TABLE_WIDTH, rows, this.tables.colours);
    this.tables.groups = this.painter.integers(seg.groups, TABLE_WIDTH, rows, 1, "u32", this.tables.groups);
    Object.assign(this.tables, { seg, version: seg.version });
  }

  paintTile(tile, plane) {
    const { layers, seg, preview } = this.scene;
    const keys = this.keys(tile);
    const image = this.tiles.get(keys.image);
    if (!image) return;
    const leaves = keys.leaves && this.tiles.get(keys.leaves);
    const probability = keys.probability && this.tiles.get(keys.probability);
    const painter = this.painter;
    let show = leaves && seg ? SHOW[layers.show] : 0;
    if (show === 2 && !probability) show = 0;
    if (!seg && preview && layers.show !== "image" && this.axis === "z") show = 3;
    const [left, top] = this.transform.toScreen(tile.left, tile.top, plane, this.width, this.height);
    const across = this.transform.zoom * tile.step;
    const down = across * plane.aspect;
    painter.set("4f", "u_place", (2 * left) / this.width - 1, 1 - (2 * top) / this.height, (2 * across * tile.width) / this.width, (-2 * down * tile.height) / this.height);
    painter.set("2f", "u_size", tile.width, tile.height);
    painter.set("2f", "u_zoom", across * this.ratio, down * this.ratio);
    painter.set("4f", "u_preview_part", tile.left / plane.width, tile.top / plane.height, (tile.width * tile.step) / plane.width, (tile.height * tile.step) / plane.height);
    painter.set("1i", "u_show", show);
    painter.bind(0, image.texture);
    painter.bind(1, leaves?.texture ?? painter.empty);
    painter.bind(4, probability?.texture ?? painter.empty);
    painter.quad();
  }

  // Leaf under a point of the pane (-1 = none), its pixel, and the values there, as far as the tiles are here.
  probe(left, top) {
    if (!this.scene) return null;
    const plane = this.plane();
    const [x, y] = this.transform.toPicture(left, top, plane, this.width, this.height).map(Math.floor);
    if (x < 0 || y < 0 || x >= plane.width || y >= plane.height) return null;
    const { tile: side, levels } = this.scene.facts;
    for (const level of [this.level, levels - 1]) {
      const step = 2 ** level;
      const [column, row] = [Math.floor(x / step), Math.floor(y / step)];
      const [tile] = covering(plane, level, { left: x, right: x + 1, top: y, bottom: y + 1 }, side);
      const keys = this.keys(tile);
      const image = this.tiles.kept.get(keys.image);
      const leaves = keys.leaves && this.tiles.kept.get(keys.leaves);
      if (!image) continue;
      const [u, v] = [column - tile.x * side, row - tile.y * side];
      const n = this.scene.channels.length;
      const values = level === 0 ? [...image.data.slice(n * (v * tile.width + u), n * (v * tile.width + u) + n)] : null;
      return { x, y, leaf: leaves ? leaves.data[(v + 1) * (tile.width + 2) + u + 1] - 1 : -1, values };
    }
    return { x, y, leaf: -1, values: null };
  }
}
