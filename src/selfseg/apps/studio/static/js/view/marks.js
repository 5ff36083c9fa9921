// Marks over the picture: scribbles, the swipe's line, the crosshair of three planes, a scale bar.

import { unit } from "../html.js";
import { state } from "../store.js";

export const ERASE = 255; // value of strokes that erase others

export function drawMarks(pane, plane) {
  drawScale(pane);
  const strokes = pane.axis === "z" ? strokesHere(pane.scene) : [];
  const { cross, layers } = pane.scene;
  // A layer that is as large as the picture costs time in every frame: it is there while there is something on it.
  pane.marks.hidden = !strokes.length && !cross && !layers.swipe;
  if (pane.marks.hidden) return;
  const context = pane.marks.getContext("2d");
  context.setTransform(pane.ratio, 0, 0, pane.ratio, 0, 0);
  context.clearRect(0, 0, pane.width, pane.height);
  drawStrokes(context, pane, plane, strokes);
  if (cross) drawCross(context, pane, plane);
  if (layers.swipe) drawSwipe(context, pane);
}

const strokesHere = ({ strokes, index, frame }) => strokes.filter((stroke) => stroke.plane === index && stroke.frame === frame);

function drawStrokes(context, pane, plane, strokes) {
  context.save();
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    const points = stroke.points.map(([y, x]) => pane.transform.toScreen(x, y, plane, pane.width, pane.height));
    const path = new Path2D();
    points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (points.length === 1) path.lineTo(points[0][0] + 0.01, points[0][1]);
    const width = Math.max(2, 2 * stroke.radius * pane.transform.zoom);
    const erases = stroke.value === ERASE;
    context.globalCompositeOperation = erases ? "destination-out" : "source-over";
    context.strokeStyle = "rgba(255,255,255,.9)";
    context.lineWidth = width + (erases ? 0 : 2.5);
    context.stroke(path);
    if (erases) continue;
    context.strokeStyle = stroke.colour;
    context.lineWidth = width;
    context.stroke(path);
  }
  context.restore();
}

function drawCross(context, pane, plane) {
  const { x, y } = pane.scene.cross;
  const [left, top] = pane.transform.toScreen(x + 0.5, y + 0.5, plane, pane.width, pane.height);
  context.strokeStyle = "rgba(255,220,120,.6)";
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(left, 0);
  context.lineTo(left, pane.height);
  context.moveTo(0, top);
  context.lineTo(pane.width, top);
  context.stroke();
}

function drawSwipe(context, pane) {
  const left = pane.scene.swipe * pane.width;
  context.strokeStyle = "#fff";
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(left, 0);
  context.lineTo(left, pane.height);
  context.stroke();
  context.fillStyle = "#fff";
  context.beginPath();
  context.arc(left, pane.height / 2, 11, 0, 7);
  context.fill();
  context.fillStyle = "#23272c";
  context.font = "12px system-ui";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText("‹ ›", left, pane.height / 2);
}

// A bar of a round length in the picture's own unit.
function drawScale(pane) {
  const { facts } = pane.scene;
  const size = facts.spacing.at(-1) ?? 1;
  const wanted = (110 / pane.transform.zoom) * size;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const length = power * [1, 2, 5].filter((step) => step * power <= wanted).at(-1);
  const width = (length / size) * pane.transform.zoom;
  pane.scale.hidden = !Number.isFinite(width) || width > pane.width / 2 || pane.width < 260;
  const text = `${Number(length.toPrecision(3))} ${unit(facts.unit)}`;
  if (pane.scale.textContent !== text) pane.scale.textContent = text;
  const style = `${width.toFixed(1)}px`;
  if (pane.scale.style.width !== style) pane.scale.style.width = style;
}

// A stroke has the colour of its class in the run that is shown, else the one that the class has in the project.
export const strokeColour = (run, value) => {
  const row = run?.classes.find((item) => item.id === run.links[value]) ?? state.project.classes.find((item) => item.id === value);
  return row ? `rgb(${row.rgba.slice(0, 3)})` : "#888";
};

export const ownStrokes = (run) =>
  (state.project?.strokes ?? [])
    .filter((stroke) => stroke.image === state.image)
    .map((stroke) => ({ ...stroke, colour: strokeColour(run, stroke.value) }));
