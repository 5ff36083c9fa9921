// One pane: a plane of a picture under the layers of one run. It draws only when something changed.

import { TABLE_WIDTH } from "../segmentation.js";
import { Baked } from "./baked.js";
import { Painter } from "./gl.js";
import { drawMarks } from "./marks.js";
import { SHOW, jobsOf, keysOf } from "./sources.js";
import { Tiles, covering } from "./tiles.js";
import { Transform } from "./transform.js";

const REST = 160; // milliseconds after the last move until all is drawn exactly
const IDLE = 350; // milliseconds of rest until tiles in sight are finished for the next move
const BAKE_EVERY = 90; // milliseconds between two tiles that are finished while the hand moves

export class Pane {
  constructor(host, axis) {
    this.axis = axis;
    this.element = document.createElement("div");
    this.element.className = "pane";
    this.canvas = this.element.appendChild(document.createElement("canvas"));
    this.marks = this.element.appendChild(document.createElement("canvas"));
    this.caption = this.element.appendChild(document.createElement("span"));
    this.caption.className = "caption";
    this.scale = this.element.appendChild(document.createElement("span"));
    this.scale.className = "scale";
    host.append(this.element);
    this.painter = new Painter(this.canvas);
    this.tiles = new Tiles(this.painter, () => {
      this.sharp = false;
      this.redraw();
    });
    this.sharp = false; // whether the canvas shows exactly what there is, so that only the marks need drawing
    this.transform = new Transform();
    this.tables = { seg: null, version: -1, colours: null, groups: null };
    this.preview = { key: null, texture: this.painter.clear };
    this.marked = { objects: null, version: -1, texture: null };
    this.scene = null;
    this.whole = null; // the last scene all of whose tiles were here
    this.look = 0; // grows when anything but the place of the picture changes
    this.finished = new Baked(this.painter);
    this.bakedAt = 0;
    this.visible = [];
    this.drawn = null;
    this.frameTimes = [];
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  // Scene: { facts, name, frame, index, run, seg, layers, ranges, channels, sources, strokes, swipe, preview, label }.
  show(scene) {
    const before = this.scene;
    this.scene = scene;
    const looks = JSON.stringify([scene.layers, scene.gamma, scene.ranges, scene.channels, scene.sources, scene.preview?.key, scene.seg?.version, scene.run, scene.name, scene.frame, scene.index, scene.layers.swipe && scene.swipe, scene.objects?.stamp, scene.objects?.version, scene.corrected, document.documentElement.dataset.theme]);
    if (looks !== this.looks) this.look += 1;
    this.looks = looks;
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
    this.sharp = false;
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
    const moving = this.moves();
    if (moving || !this.sharp) {
      this.painter.begin(this.canvas.width, this.canvas.height);
      this.paint(plane, moving);
    }
    this.sharp = !moving;
    drawMarks(this, plane);
    clearTimeout(this.waiting);
    this.waiting = moving ? setTimeout(() => this.redraw(), REST) : setTimeout(() => this.bakeNext(), IDLE);
    this.frameTimes.push(performance.now() - begun);
    if (this.frameTimes.length > 120) this.frameTimes.shift();
  }

  // True if nothing but the place of the picture changed since the last drawing.
  moves() {
    const { x, y, zoom } = this.transform;
    const { layers } = this.scene;
    const place = [x, y, zoom].join();
    const before = this.drawn;
    this.drawn = { place, look: this.look, size: `${this.width} ${this.height}` };
    const alike = before?.look === this.look && before.size === this.drawn.size;
    this.sharp &&= alike && before.place === place;
    return !layers.swipe && alike && before.place !== place;
  }

  paint(plane, moving) {
    const { facts } = this.scene;
    const box = this.box(plane);
    const device = this.transform.zoom * this.ratio;
    const last = facts.levels - 1;
    this.level = Math.min(last, Math.max(0, Math.floor(Math.log2(1 / device) + 0.25)));
    const coarse = covering(plane, last, box, facts.tile);
    const fine = this.level === last ? [] : covering(plane, this.level, box, facts.tile);
    this.visible = [...fine, ...coarse];
    this.tiles.want([...coarse, ...fine].flatMap((tile) => jobsOf(this.painter, this.keys(tile, this.scene), tile, this.scene)));
    const scene = this.presentable(coarse);
    this.common(scene);
    if (moving) return this.stamp(coarse, fine, plane);
    const whole = fine.length && fine.every((tile) => this.tiles.get(this.keys(tile, scene).image));
    for (const tile of whole ? fine : [...coarse, ...fine]) this.paintTile(tile, scene, this.placed(tile, plane));
  }

  // The scene, or the last one that was whole while a new frame or slice of the same picture is still on its way.
  presentable(coarse) {
    const { name } = this.scene;
    if (coarse.every((tile) => this.complete(tile))) this.whole = this.scene;
    const late = this.whole && this.whole.name === name && this.whole !== this.scene;
    return late && coarse.some((tile) => this.tiles.get(this.keys(tile, this.whole).image)) ? this.whole : this.scene;
  }

  // While the hand moves: finished tiles; what is not finished is made so, one after the other.
  stamp(coarse, fine, plane) {
    const zoom = this.transform.zoom * this.ratio;
    for (const tile of coarse) this.baked(tile) ?? this.bake(tile);
    const next = fine.find((tile) => !this.baked(tile) && this.complete(tile));
    if (next && performance.now() - this.bakedAt > BAKE_EVERY) this.bake(next);
    const whole = fine.length && fine.every((tile) => this.baked(tile));
    for (const [tiles, level] of [[whole ? [] : coarse, this.scene.facts.levels - 1], [fine, this.level]]) {
      const found = tiles.map((tile) => [this.baked(tile), tile]).filter(([made]) => made);
      this.painter.stamp(found.map(([made, tile]) => [made.texture, ...this.placed(tile, plane)]), zoom * 2 ** level < 1);
    }
  }

  // True if all sources of a tile are here.
  complete(tile) {
    return Object.values(this.keys(tile, this.scene)).every((key) => !key || this.tiles.get(key));
  }

  baked(tile) {
    return this.finished.get(this.keys(tile, this.scene).image, this.look);
  }

  bake(tile) {
    const key = this.keys(tile, this.scene).image;
    if (!this.complete(tile)) return;
    this.bakedAt = performance.now();
    // Upside down, since textures are: the first row of the tile is then the first row of the texture.
    this.finished.bake(key, this.look, tile.width, tile.height, () => this.paintTile(tile, this.scene, [-1, -1, 2, 2], 1));
  }

  // At rest: finish the tiles in sight, so that the next move begins at once.
  bakeNext() {
    if (!this.scene || this.scene.layers.swipe || this.presentable(this.visible) !== this.scene) return;
    const next = this.visible.find((tile) => !this.baked(tile) && this.complete(tile));
    if (!next) return;
    this.common(this.scene);
    this.bake(next);
    this.waiting = setTimeout(() => this.bakeNext(), 10);
  }

  box(plane) {
    const [left, top] = this.transform.toPicture(0, 0, plane, this.width, this.height);
    const [right, bottom] = this.transform.toPicture(this.width, this.height, plane, this.width, this.height);
    return { left, top, right, bottom };
  }

  // Left, top, width and height of a tile in clip space.
  placed(tile, plane) {
    const [left, top] = this.transform.toScreen(tile.left, tile.top, plane, this.width, this.height);
    const across = this.transform.zoom * tile.step;
    const down = across * plane.aspect;
    return [(2 * left) / this.width - 1, 1 - (2 * top) / this.height, (2 * across * tile.width) / this.width, (-2 * down * tile.height) / this.height];
  }

  keys(tile, scene) {
    return keysOf(this.axis, tile, scene);
  }

  // Settings that are the same for all tiles.
  common(scene) {
    const { layers, ranges, channels, tints, seg, swipe, preview } = scene;
    const painter = this.painter;
    const chosen = channels.map((channel) => ranges[channel]);
    const four = (values, rest) => [0, 1, 2, 3].map((i) => values[i] ?? rest);
    painter.set("1i", "u_channels", channels.length);
    painter.set("4f", "u_low", ...four(chosen.map(([low]) => low), 0));
    painter.set("4f", "u_gain", ...four(chosen.map(([low, high]) => 1 / Math.max(high - low, 1e-6)), 1));
    painter.set("3fv", "u_tints", new Float32Array(four(channels.map((channel) => tints[channel]), [0, 0, 0]).flat().map((v) => v / 255)));
    painter.set("1f", "u_gamma", 1 / (scene.gamma ?? 1));
    painter.set("1f", "u_opacity", layers.opacity);
    painter.set("1f", "u_lines", layers.boundaries && seg ? 1 : 0);
    painter.set("1f", "u_fine", layers.superpixels && seg ? 1 : 0);
    painter.set("1f", "u_grey", layers.grey ? Math.min(1, 2 * layers.opacity) : 0);
    painter.set("1f", "u_swipe", layers.swipe ? swipe * this.canvas.width : -1);
    if (seg && (this.tables.seg !== seg || this.tables.version !== seg.version)) this.upload(seg);
    if (preview && this.preview.key !== preview.key) this.preview = { key: preview.key, texture: painter.picture(preview.image) };
    const { objects } = scene;
    if (objects && (this.marked.objects !== objects || this.marked.version !== objects.version)) {
      const texture = painter.integers(objects.marks, TABLE_WIDTH, objects.marks.length / TABLE_WIDTH, 1, "u8", this.marked.texture);
      this.marked = { objects, version: objects.version, texture };
    }
    painter.bind(8, this.marked.texture ?? painter.empty);
    painter.bind(2, this.tables.groups ?? painter.empty);
    painter.bind(3, this.tables.colours ?? painter.clear);
    painter.bind(5, this.preview.texture);
  }

  upload(seg) {
    const rows = seg.groups.length / TABLE_WIDTH;
    this.tables.colours = this.painter.colours(seg.colours, TABLE_WIDTH, rows, this.tables.colours);
    this.tables.groups = this.painter.integers(seg.groups, TABLE_WIDTH, rows, 1, "u32", this.tables.groups);
    this.tables.inks = this.painter.colours(seg.inks, TABLE_WIDTH, seg.inks.length / 4 / TABLE_WIDTH, this.tables.inks);
    Object.assign(this.tables, { seg, version: seg.version });
  }

  // Draw a tile at a place in clip space; `zoom` is device pixels for a pixel of the tile, if not that of the pane.
  paintTile(tile, scene, place, zoom = null) {
    const { layers, seg, preview } = scene;
    const keys = this.keys(tile, scene);
    const image = this.tiles.get(keys.image);
    if (!image) return;
    const leaves = keys.leaves && this.tiles.get(keys.leaves);
    const probability = keys.probability && this.tiles.get(keys.probability);
    const objects = keys.objects && this.tiles.get(keys.objects);
    const painter = this.painter;
    let show = leaves && seg ? SHOW[layers.show] : 0;
    if (show === 2 && !probability) show = 0;
    if ((!seg || scene.over) && preview && layers.show !== "image" && this.axis === "z") show = 3;
    const plane = this.plane();
    const across = zoom ?? this.transform.zoom * tile.step * this.ratio;
    painter.set("4f", "u_place", ...place);
    painter.set("2f", "u_size", tile.width, tile.height);
    painter.set("2f", "u_zoom", across, zoom ?? across * plane.aspect);
    const part = preview?.box ?? { left: 0, top: 0, ...plane };
    painter.set("4f", "u_preview_part", (tile.left - part.left) / part.width, (tile.top - part.top) / part.height, (tile.width * tile.step) / part.width, (tile.height * tile.step) / part.height);
    painter.set("1i", "u_show", show);
    painter.bind(0, image.texture);
    painter.bind(1, leaves?.texture ?? painter.empty);
    painter.set("1f", "u_outlines", objects ? 1 : 0);
    const fixed = keys.fixed && this.tiles.get(keys.fixed);
    painter.bind(9, fixed?.texture ?? painter.empty);
    painter.bind(10, this.tables.inks ?? painter.clear);
    painter.bind(6, objects?.texture ?? painter.empty);
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
      const keys = this.keys(tile, this.scene);
      const image = this.tiles.kept.get(keys.image);
      const leaves = keys.leaves && this.tiles.kept.get(keys.leaves);
      const objects = keys.objects && this.tiles.kept.get(keys.objects);
      const fixed = keys.fixed && this.tiles.kept.get(keys.fixed);
      if (!image) continue;
      const [u, v] = [column - tile.x * side, row - tile.y * side];
      const n = this.scene.channels.length;
      const values = level === 0 ? [...image.data.slice(n * (v * tile.width + u), n * (v * tile.width + u) + n)] : null;
      const at = (v + 1) * (tile.width + 2) + u + 1;
      return { x, y, leaf: leaves ? leaves.data[at] - 1 : -1, object: objects ? objects.data[at] : 0, fixed: fixed ? fixed.data[at] : 0, values };
    }
    return { x, y, leaf: -1, object: 0, fixed: 0, values: null };
  }
}
