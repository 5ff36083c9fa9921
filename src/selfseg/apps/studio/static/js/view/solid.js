// A volume in 3D, by niivue, which is loaded when it is first asked for.

import { button, element } from "../html.js";
import { notice } from "../panels/notices.js";
import { scene } from "../scene.js";
import { currentRun, state } from "../store.js";

const NIIVUE = "/static/vendor/niivue-0.69.0.umd.js";

function library() {
  if (window.niivue) return Promise.resolve(window.niivue);
  return new Promise((resolve, reject) => {
    const script = element("script", { src: NIIVUE, onload: () => resolve(window.niivue), onerror: () => reject(new Error("the 3D view could not be loaded")) });
    document.head.append(script);
  });
}

export async function openSolid() {
  const canvas = element("canvas", {});
  const opacity = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0.55, "aria-label": "Opacity of the labels" });
  const views = element("select", { "aria-label": "View" }, [["4", "3D"], ["3", "all planes and 3D"]].map(([value, text]) => element("option", { value }, text)));
  const dialogue = element("dialog", { class: "solid", onclose: () => dialogue.remove() });
  const bar = element("div", { class: "bar" }, views, element("label", {}, "Labels ", opacity), element("span", { class: "hint" }, "drag to turn, wheel to zoom; the classes chosen, else all but the largest"), element("span", { class: "grow" }), button("Close", () => dialogue.close()));
  dialogue.append(bar, element("div", { class: "room" }, canvas));
  document.body.append(dialogue);
  dialogue.showModal();
  try {
    const view = await draw(canvas);
    opacity.oninput = () => view.volumes.length > 1 && view.setOpacity(1, Number(opacity.value));
    views.onchange = () => view.setSliceType(Number(views.value));
    window.studio.solid = view;
  } catch (error) {
    notice(error.message, "error");
    dialogue.close();
  }
}

async function draw(canvas) {
  const { Niivue } = await library();
  const view = new Niivue({ backColor: [0.1, 0.11, 0.12, 1], show3Dcrosshair: false, isOrientationTextVisible: false, logLevel: "error", dragAndDropEnabled: false });
  await view.attachToCanvas(canvas);
  const { image: name, frame } = state;
  const volumes = [{ url: address("/api/volume.nii", { name, frame }), name: "picture.nii", colormap: "gray" }];
  const run = currentRun();
  if (scene.seg) volumes.push({ url: address("/api/labels.nii", { run: run.id, name, frame }), name: "labels.nii", opacity: 0.55 });
  await view.loadVolumes(volumes);
  if (view.volumes.length > 1) {
    view.volumes[1].setColormapLabel(colourTable(run));
    view.updateGLVolume();
  }
  view.setSliceType(view.sliceTypeRender);
  return view;
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
