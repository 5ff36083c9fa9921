// From the state to what the panes draw: the picture, the run's segmentation of it, tables for the level and the classes.

import { facts } from "./facts.js";
import { segmentation } from "./segmentation.js";
import { send } from "./socket.js";
import { change, currentRun, hasResult, on, state } from "./store.js";
import { ownStrokes } from "./view/marks.js";
import { answerHere } from "./answers.js";
import { countedHere, loadObjects } from "./objects.js";
import { notice } from "./panels/notices.js";

export const scene = { facts: null, seg: null, name: null, failed: null, slideTimes: [] };

const segs = new Map(); // run id -> Segmentation now shown
const previews = new Map(); // "run/step" -> { key, image }
const asked = { run: null, image: null, frame: 0, at: 0 }; // the frame that is being segmented
const tried = new Set();
const watchers = new Set();
const ANSWER_WITHIN = 15000; // milliseconds after which a frame that was asked for no longer keeps others waiting

export const onScene = (watcher) => watchers.add(watcher);
const tell = () => watchers.forEach((watcher) => watcher(scene));

export const shownRuns = () =>
  [...new Set([state.run, ...state.compare])].map((id) => state.runs.get(id)).filter(Boolean);

export const levelOf = (run) => (run.id === state.run && state.level !== null ? state.level : run.level);

// Facts of the picture and segmentations of the runs shown are brought here when they change.
async function load() {
  const { image, frame } = state;
  if (!image) return tell();
  try {
    const opening = { text: `Opening ${image}`, since: performance.now() };
    if (scene.name !== image) change({ busy: opening });
    const found = await facts(image);
    if (state.busy === opening) change({ busy: null });
    if (image !== state.image) return;
    if (scene.name !== image) {
      Object.assign(scene, { facts: found, name: image, failed: null });
      segs.clear();
      if (state.plane === null || state.plane >= found.depth) change({ plane: Math.floor(found.depth / 2) });
      if (frame >= found.frames) change({ frame: 0 });
    }
    await Promise.all(shownRuns().map((run) => loadRun(run, image, frame)));
    loadObjects();
  } catch (error) {
    Object.assign(scene, { failed: error.message, name: image, facts: null });
    notice(error.message, "error");
  }
  paint();
}

async function loadRun(run, image, frame) {
  const known = segs.get(run.id);
  if (known && (known.name !== image || known.frame !== frame)) segs.delete(run.id);
  if (!hasResult(run, image, frame)) {
    segs.delete(run.id);
    if (run.classes.length && ["done", "paused", "failed"].includes(run.state)) want(run, image, frame);
    return loadPreview(run);
  }
  const seg = await segmentation(run, image, frame);
  await seg.refresh(state.runs.get(run.id)?.revision ?? 0);
  await seg.correct(`${state.runs.get(run.id)?.corrected[image] ?? ""}${run.level}`.replace(/^-1$/, ""));
  if (image === state.image && frame === state.frame) segs.set(run.id, seg);
}

// One frame at a time is asked for; once it is there, the one that is looked at by then: who scrubs does not wait for all between.
function want(run, image, frame) {
  const key = `${run.id}|${image}|${frame}`;
  if (tried.has(key)) return;
  const waits = asked.run && !hasResult(state.runs.get(asked.run), asked.image, asked.frame);
  if (waits && performance.now() - asked.at < ANSWER_WITHIN) return;
  tried.add(key);
  Object.assign(asked, { run: run.id, image, frame, at: performance.now() });
  if (send("want", { run: run.id, image, frame })) change({ busy: { text: "Segmenting what is shown", since: asked.at, run: run.id } });
}

async function loadPreview(run) {
  const news = state.previews.get(run.id);
  if (!news) return;
  const key = `${run.id}/${news.step}`;
  if (previews.get(run.id)?.key === key) return;
  const answer = await fetch(`/api/preview?run=${run.id}&step=${news.step}`);
  if (answer.ok) previews.set(run.id, { key, image: await createImageBitmap(await answer.blob()) });
}

// The preview of a run, where it is of the picture and frame that are shown: a run shows the first that it learns from.
function previewOf(run) {
  const of = state.previews.get(run.id)?.image ?? "";
  const [, video, number] = of.match(/^(.*)_f(\d+)$/) ?? [];
  const [image, frame] = video === state.image ? [video, Number(number)] : [of, 0];
  return image === state.image && frame === state.frame ? previews.get(run.id) : null;
}

// Tables anew, then all panes: the way from the slider to the picture.
export function paint() {
  const begun = performance.now();
  for (const run of shownRuns()) {
    const seg = segs.get(run.id);
    if (!seg?.classes) continue;
    const own = run.id === state.run;
    seg.paint({
      level: levelOf(run),
      rows: run.classes,
      show: state.layers.show,
      selected: own ? state.selected : [],
      hovered: own ? state.hovered : null,
      sliding: own && state.level !== null,
    });
  }
  scene.seg = segs.get(state.run) ?? null;
  tell();
  scene.slideTimes.push(performance.now() - begun);
  if (scene.slideTimes.length > 60) scene.slideTimes.shift();
}

// The scene that one pane draws.
export function paneScene(run, axis, planes) {
  const found = scene.facts;
  const { layers } = state;
  const seg = run ? (segs.get(run.id) ?? null) : null;
  const display = displayOf(state.image, found);
  return {
    facts: found,
    name: scene.name,
    frame: state.frame,
    index: planes[axis],
    run: seg ? run.id : null,
    seg,
    layers: { ...layers, ...(state.layers.swipe ? {} : { swipe: false }) },
    ranges: display.ranges,
    channels: display.channels,
    gamma: display.gamma,
    tints: found.channel_colours,
    objects: run && run.id === state.run ? countedHere() : null,
    corrected: run && seg ? (run.corrected[state.image] ?? null) : null,
    sources: layers.show === "probability" ? sourcesOf(run) : "",
    strokes: layers.strokes || state.tool === "scribble" ? ownStrokes(run ?? currentRun()) : [],
    swipe: state.swipe ?? 0.5,
    ...overlaid(run, axis, seg),
  };
}

// A picture of classes that is no segmentation: the answer to strokes over the run that is shown, else the preview of a run at work.
function overlaid(run, axis, seg) {
  const answer = axis === "z" && (!run || run.id === state.run) ? answerHere() : null;
  if (answer) {
    const doubt = state.layers.show === "confidence";
    const [top, left, bottom, right] = answer.box;
    return { preview: { key: `${answer.key}${doubt}`, image: doubt ? answer.doubt : answer.picture, box: { left, top, width: right - left, height: bottom - top } }, over: true };
  }
  return { preview: run && !seg ? previewOf(run) : null, over: false };
}

// Channels of the class whose probability is shown: the one chosen, else the first.
function sourcesOf(run) {
  const row = run?.classes.find((each) => each.id === state.selected[0]) ?? run?.classes[0];
  return (row?.channels ?? [0]).join(",");
}

export function displayOf(name, found) {
  const own = state.display[name] ?? {};
  const visible = own.channels ?? found.ranges.map((_, i) => i).slice(0, 4);
  return { ranges: own.ranges ?? found.ranges, channels: visible, gamma: own.gamma ?? 1 };
}

on(["image", "frame", "run", "runs", "compare", "previews"], load);
on(["level", "layers", "selected", "hovered"], paint);
on(["plane", "display", "swipe", "tool", "project", "objects", "chosenObjects", "layers", "answer", "answering", "theme"], tell);
on(["tab", "runs"], loadObjects);
