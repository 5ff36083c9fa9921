// A volume in 3D beside its slices, by niivue, which is loaded when it is first asked for.

import { element } from "../html.js";
import { notice } from "../panels/notices.js";
import { scene } from "../scene.js";
import { change, currentRun, state } from "../store.js";

const NIIVUE = "/static/vendor/niivue-0.69.0.umd.js";
const REST = 200; // milliseconds after the last change until the labels are fetched again

function library() {
  if (window.niivue) return Promise.resolve(window.niivue);
  return new Promise((resolve, reject) => {
    const script = element("script", { src: NIIVUE, onload: () => resolve(window.niivue), onerror: () => reject(new Error("the 3D view could not be loaded")) });
    document.head.append(script);
  });
}

const SETTINGS = { backColor: [0.1, 0.11, 0.12, 1], show3Dcrosshair: false, isOrientationTextVisible: false, logLevel: "error", dragAndDropEnabled: false };

// A cell among the panes. The labels follow the run, its level and its edits; colours follow the classes that are chosen.
export class Solid {
  constructor(host) {
    this.canvas = element("canvas", {});
    this.opacity = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0.55, title: "Opacity of the labels in 3D", "aria-label": "Opacity of the labels in 3D", oninput: () => this.view?.volumes.length > 1 && this.view.setOpacity(1, Number(this.opacity.value)) });
    this.element = element("div", { class: "pane solid", title: "Drag to turn, wheel to zoom. The classes that are chosen are shown, else all but the largest." }, this.canvas, element("span", { class: "caption" }, "3D"), this.opacity);
    for (const kind of ["pointerdown", "pointermove", "pointerup", "wheel", "dblclick"]) this.element.addEventListener(kind, (event) => event.stopPropagation()); // they turn the volume
    host.append(this.element);
    this.shown = { picture: null, labels: null, colours: null };
    this.busy = Promise.resolve();
  }

  // Bring picture, labels and colours up to what is shown; one change after the other.
  show() {
    clearTimeout(this.waiting);
    if (state.level !== null) return; // the slider moves
    this.waiting = setTimeout(() => (this.busy = this.busy.then(() => this.update()).catch((error) => this.fail(error))), REST);
  }

  fail(error) {
    notice(`3D: ${error.message}`, "error");
    change({ solid: false });
  }

  async update() {
    if (!this.element.isConnected) return;
    const run = currentRun();
    const { image: name, frame } = state;
    const picture = `${name}|${frame}`;
    const labels = scene.seg ? `${picture}|${run.id}|${run.level}|${run.revision}|${run.corrected[name] ?? ""}` : null;
    if (!this.view) {
      const { Niivue } = await library();
      this.view = new Niivue(SETTINGS);
      await this.view.attachToCanvas(this.canvas);
    }
    const { view, shown } = this;
    if (picture !== shown.picture || labels !== shown.labels) {
      const volumes = [{ url: address("/api/volume.nii", { name, frame }), name: "picture.nii", colormap: "gray" }];
      if (labels) volumes.push({ url: address("/api/labels.nii", { run: run.id, name, frame }), name: "labels.nii", opacity: Number(this.opacity.value) });
      const turned = shown.picture === picture ? [view.scene.renderAzimuth, view.scene.renderElevation] : null;
      await view.loadVolumes(volumes);
      view.setSliceType(view.sliceTypeRender);
      if (turned) view.setRenderAzimuthElevation(...turned);
      Object.assign(shown, { picture, labels, colours: null });
    }
    if (labels && view.volumes.length > 1) {
      const table = colourTable(run);
      const colours = JSON.stringify(table);
      if (colours !== shown.colours) {
        view.volumes[1].setColormapLabel(table);
        view.updateGLVolume();
        shown.colours = colours;
      }
    }
    this.element.dataset.shown = shown.labels ?? shown.picture;
    window.studio.solid = view;
  }
}

const address = (path, fields) => `${location.origin}${path}?${new URLSearchParams(fields)}`;

// The classes that are chosen; else all but the largest, which would hide the others.
function shownIds(run) {
  if (state.selected.length) return new Set(state.selected);
  const areas = scene.seg.areas();
  const rows = run.classes.filter((row) => !row.ignored).sort((a, b) => (areas.get(b.id) ?? 0) - (areas.get(a.id) ?? 0));
  return new Set((rows.length > 1 ? rows.slice(1) : rows).map((row) => row.id));
}

function colourTable(run) {
  const shown = shownIds(run);
  const rows = [{ id: 0, name: "", rgba: [0, 0, 0, 0] }, ...run.classes];
  const column = (i) => rows.map((row) => row.rgba[i]);
  return { R: column(0), G: column(1), B: column(2), A: rows.map((row) => (shown.has(row.id) ? 255 : 0)), I: rows.map((row) => row.id), labels: rows.map((row) => row.name) };
}
