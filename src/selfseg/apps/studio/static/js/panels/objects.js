// Objects: counted in a click; number, sizes, a table that goes both ways with the picture, and files.

import { button, element, unit } from "../html.js";
import { allObjects, chooseObject, isCounting, leastSize, slideLeast } from "../objects.js";
import { edit, send } from "../socket.js";
import { currentRun, on, setLayer, state } from "../store.js";
import { notice } from "./notices.js";

const ROW = 24; // height of a row of the table, in pixels
const BINS = 40;

const KINDS = [
  ["own", "by the method"],
  ["watershed", "touching apart"],
  ["components", "connected parts"],
];

class StudioObjects extends HTMLElement {
  connectedCallback() {
    this.of = element("select", { "aria-label": "Class that is counted", id: "count-of", onchange: () => this.kind.disabled || this.count() });
    this.kind = element("select", { "aria-label": "How objects are found", id: "count-kind", onchange: () => currentRun()?.counting && this.count() });
    this.go = button("Count objects", () => this.count(), { class: "main wide", id: "count" });
    this.number = element("p", { class: "number", role: "status" });
    this.bars = element("canvas", { class: "bars", width: 600, height: 150, title: "Sizes: number of objects of each; what is left of the line does not count" });
    this.least = element("input", { type: "range", min: 0, max: 1, step: 0.001, id: "least", "aria-label": "Smallest object that counts", oninput: () => slideLeast(this.value()), onchange: () => this.keep() });
    this.words = element("output", { class: "hint" });
    this.head = element("div", { class: "objects-head" });
    this.body = element("div", { class: "objects-body" });
    this.view = element("div", { class: "objects", tabIndex: 0, "aria-label": "Objects", onscroll: () => this.rows(), onkeydown: (event) => this.key(event) }, this.body);
    this.csv = element("div", { class: "buttons" },
      button("Save CSV and outlines of all pictures", () => this.write(["objects"]), { class: "main", id: "write-objects" }),
      button("ImageJ ROIs", () => this.write(["objects", "imagej-roi"]), { title: "With selfseg[roi]: a zip a picture for the ROI manager" }));
    this.jobs = element("div", { class: "jobs" });
    this.outlines = element("input", { type: "checkbox", checked: true, onchange: () => setLayer({ objects: this.outlines.checked }) });
    this.result = element("div", {},
      this.number, this.bars, element("label", { class: "least" }, "smallest", this.least, this.words),
      element("label", { class: "check" }, this.outlines, "outlines in the picture"),
      this.head, this.view, this.csv, this.jobs);
    this.hint = element("p", { class: "hint" });
    this.append(
      element("h2", {}, "Objects"), this.hint,
      element("div", { class: "grid" }, element("label", {}, element("span", {}, "Count"), this.of), element("label", {}, element("span", {}, "How"), this.kind)),
      this.go, this.result,
    );
    on(["run", "runs", "image"], () => this.fill());
    on(["objects", "chosenObjects"], () => this.show());
    on("jobs", () => this.list());
    on("tab", () => this.show());
  }

  fill() {
    const run = currentRun();
    const rows = (run?.classes ?? []).filter((row) => !row.ignored);
    this.go.disabled = !rows.length;
    this.hint.textContent = rows.length ? "" : "Objects can be counted as soon as a run has found classes.";
    const key = JSON.stringify([run?.id, rows.map(({ id, name }) => [id, name]), run?.own_objects, run?.counting]);
    if (key !== this.filled) {
      this.filled = key;
      const ground = rows.reduce((most, row) => (row.share > (most?.share ?? -1) ? row : most), null);
      const others = rows.filter((row) => row !== ground).map((row) => row.id);
      this.of.replaceChildren(
        ...(others.length > 1 || run?.own_objects ? [element("option", { value: "" }, ground ? `all but ${ground.name}` : "all")] : []),
        ...rows.map((row) => element("option", { value: row.id }, row.name)),
      );
      this.kind.replaceChildren(...KINDS.filter(([kind]) => kind !== "own" || run?.own_objects).map(([kind, text]) => element("option", { value: kind }, text)));
      const { of, kind } = run?.counting ?? { of: others.length === 1 && !run?.own_objects ? others : [], kind: run?.own_objects ? "own" : "watershed" };
      this.of.value = of.length === 1 ? String(of[0]) : "";
      if (this.of.selectedIndex < 0) this.of.selectedIndex = 0;
      this.kind.value = kind;
    }
    this.go.hidden = Boolean(run?.counting);
    this.result.hidden = !run?.counting;
    this.show();
  }

  count() {
    const run = currentRun();
    const of = this.of.value ? [Number(this.of.value)] : [];
    edit(run.id, { op: "count", kind: this.kind.value || "watershed", of, min_size: run.counting?.min_size ?? 1 });
  }

  keep() {
    const run = currentRun();
    if (run?.counting) edit(run.id, { op: "count", ...run.counting, min_size: this.value() });
  }

  // The slider goes over the logarithm of sizes.
  value() {
    const [low, high] = this.range();
    const at = Number(this.least.value);
    return at === 0 ? 1 : Math.max(1, Math.round(Math.exp(low + at * (high - low))));
  }

  // Logarithms of the sizes at both ends of the slider and of the histogram, in pixels.
  range() {
    const pixels = allObjects()?.columns.pixels ?? [];
    const low = Math.log(pixels.reduce((least, size) => Math.min(least, size), Infinity)) - 0.05;
    return pixels.length ? [low, Math.log(this.most()) + 0.05] : [0, 1];
  }

  // Where a size lies on the slider, 0-1.
  at(size) {
    const [low, high] = this.range();
    return Math.min(1, Math.max(0, (Math.log(size) - low) / (high - low)));
  }

  most() {
    return (allObjects()?.columns.pixels ?? []).reduce((most, size) => Math.max(most, size), 1);
  }

  show() {
    if (state.tab !== "objects") return;
    const found = allObjects();
    if (!found) {
      this.number.textContent = isCounting() ? "Counting…" : currentRun()?.counting ? "This picture is not segmented yet." : "";
      this.bars.hidden = true;
      this.body.replaceChildren();
      return;
    }
    const { columns, rows, n } = found;
    const sizes = rows.map((i) => columns.size[i]).sort((a, b) => a - b);
    const median = sizes.length ? (sizes[Math.floor((sizes.length - 1) / 2)] + sizes[Math.ceil((sizes.length - 1) / 2)]) / 2 : 0;
    const left = n - rows.length ? `, ${n - rows.length} too small` : "";
    this.number.replaceChildren(element("b", {}, `${rows.length} object${rows.length === 1 ? "" : "s"}`), `${isCounting() ? " · counting again…" : ""} · median ${number(median)} ${unit(found.sizeUnit)}${left}`);
    this.words.textContent = `${leastSize()} px`;
    if (document.activeElement !== this.least) this.least.value = this.at(leastSize());
    this.histogram(found);
    this.columns = columnsOf(found);
    this.head.replaceChildren(...this.columns.map(({ title, key, hint }) => element("button", { type: "button", title: hint, "aria-pressed": this.sorted === key, onclick: () => this.sort(key) }, title)));
    this.order = this.sorted ? [...rows].sort((a, b) => columns[this.sorted][b] - columns[this.sorted][a]) : rows;
    this.place = new Map(rows.map((i, at) => [i, at + 1])); // numbers as in the files: those that count, in their order
    this.body.style.height = `${ROW * this.order.length}px`;
    const chosen = found.row.get(state.chosenObjects.at(-1));
    if (chosen !== undefined && chosen !== this.chosen) this.reveal(chosen);
    this.chosen = chosen;
    this.rows();
  }

  sort(key) {
    this.sorted = this.sorted === key ? null : key;
    this.show();
  }

  reveal(row) {
    const at = this.order.indexOf(row) * ROW;
    if (at >= 0 && (at < this.view.scrollTop || at > this.view.scrollTop + this.view.clientHeight - ROW)) this.view.scrollTop = at - this.view.clientHeight / 2;
  }

  // Only the rows in sight are made: thousands of objects cost no more than thirty.
  rows() {
    const found = allObjects();
    if (!found || !this.order) return;
    const first = Math.max(0, Math.floor(this.view.scrollTop / ROW) - 4);
    const shown = this.order.slice(first, first + Math.ceil((this.view.clientHeight || 240) / ROW) + 8);
    this.body.replaceChildren(
      ...shown.map((i, k) => {
        const id = found.ids[i];
        const cells = this.columns.map(({ text }) => element("span", {}, text(i, this.place.get(i))));
        const chosen = state.chosenObjects.includes(id);
        return element("div", { class: `row${chosen ? " chosen" : ""}`, style: `top: ${ROW * (first + k)}px`, dataset: { object: id }, onclick: (event) => this.choose(id, event.shiftKey || event.ctrlKey) }, cells);
      }),
    );
  }

  choose(id, more) {
    chooseObject(id, more);
    if (!more) this.look(id);
  }

  // Bring an object into the middle of the picture, and its slice into view.
  look(id) {
    const found = allObjects();
    const i = found.row.get(id);
    const { columns } = found;
    const middle = (letter) => (columns[`${letter}_min`][i] + columns[`${letter}_max`][i]) / 2;
    document.querySelector("studio-panes").centre(middle("x"), middle("y"), columns.z_min ? Math.floor(middle("z")) : null);
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const found = allObjects();
    if (!step || !found || !this.order?.length) return;
    event.preventDefault();
    event.stopPropagation();
    const now = this.order.indexOf(found.row.get(state.chosenObjects.at(-1)));
    const next = this.order[Math.min(Math.max(now + step, 0), this.order.length - 1)];
    if (found.ids[next] !== state.chosenObjects.at(-1)) this.choose(found.ids[next], false);
  }

  histogram({ columns, n }) {
    this.bars.hidden = n < 2;
    if (this.bars.hidden) return;
    const context = this.bars.getContext("2d");
    const { width, height } = this.bars;
    const [low, high] = this.range();
    const counts = new Array(BINS).fill(0);
    for (const size of columns.pixels) counts[Math.min(BINS - 1, Math.floor(this.at(size) * BINS))]++;
    const most = Math.max(...counts);
    const style = getComputedStyle(this);
    context.clearRect(0, 0, width, height);
    const least = this.at(leastSize());
    counts.forEach((count, bin) => {
      context.fillStyle = style.getPropertyValue((bin + 1) / BINS <= least ? "--line" : "--accent");
      const tall = (height - 26) * (count / most);
      context.fillRect((bin * width) / BINS + 1, height - 24 - tall, width / BINS - 2, tall);
    });
    context.fillStyle = style.getPropertyValue("--text");
    context.fillRect(least * width - 1, 0, 2, height - 22);
    context.font = "20px system-ui";
    context.fillStyle = style.getPropertyValue("--soft");
    const scale = columns.size[0] / columns.pixels[0];
    [0, 0.5, 1].forEach((at) => {
      context.textAlign = at === 0 ? "left" : at === 1 ? "right" : "center";
      context.fillText(number(Math.exp(low + at * (high - low)) * scale), at * width, height - 3);
    });
  }

  write(formats) {
    const run = currentRun();
    if (!run?.counting) return;
    if (formats.includes("imagej-roi") && !state.project.formats.some(([name]) => name === "imagej-roi")) {
      notice("ImageJ ROIs need one more package: pip install 'selfseg[roi]'", "error");
      return;
    }
    send("export", { run: run.id, images: null, formats });
  }

  list() {
    const jobs = [...state.jobs.values()].filter((job) => job.formats.includes("objects")).reverse().slice(0, 2);
    this.jobs.replaceChildren(...jobs.map((job) => document.querySelector("studio-export").job(job)));
  }
}

const number = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(3)).toString());

function columnsOf({ columns, unit: length, sizeUnit }) {
  const of = (key) => (i) => number(columns[key][i]);
  const mean = Object.keys(columns).filter((key) => key.startsWith("mean_"));
  const place = ["z", "y", "x"].filter((letter) => columns[`centroid_${letter}`]);
  return [
    { title: "#", key: "id", hint: "Number, as in the files", text: (i, at) => at },
    { title: place.length === 3 ? "volume" : "area", key: "size", hint: `in ${unit(sizeUnit)}`, text: of("size") },
    { title: "diameter", key: "equivalent_diameter", hint: `of a disc or ball of the same size, in ${unit(length)}`, text: of("equivalent_diameter") },
    ...mean.slice(0, 1).map((key) => ({ title: "mean", key, hint: `${key.replace("mean_", "mean of ")}; the file has all channels`, text: of(key) })),
    ...place.slice(-2).map((letter) => ({ title: letter, key: `centroid_${letter}`, hint: `centre along ${letter}, in ${unit(length)}`, text: of(`centroid_${letter}`) })),
  ];
}

customElements.define("studio-objects", StudioObjects);
