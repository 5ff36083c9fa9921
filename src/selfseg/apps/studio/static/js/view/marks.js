// What lies over the picture: scribbles, the swipe's line, the crosshair of three planes, a scale bar.

import { state } from "../store.js";

export function drawMarks(pane, plane) {
  const context = pane.marks.getContext("2d");
  context.setTransform(pane.ratio, 0, 0, pane.ratio, 0, 0);
  context.clearRect(0, 0, pane.width, pane.height);
  if (pane.axis === "z") drawStrokes(context, pane, plane);
  if (pane.scene.cross) drawCross(context, pane, plane);
  if (pane.scene.layers.swipe) drawSwipe(context, pane);
  drawScale(context, pane, plane);
}

function drawStrokes(context, pane, plane) {
  const { strokes, index, frame } = pane.scene;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    if (stroke.plane !== index || stroke.frame !== frame) continue;
    const points = stroke.points.map(([y, x]) => pane.transform.toScreen(x, y, plane, pane.width, pane.height));
    const path = new Path2D();
    points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (points.length === 1) path.lineTo(points[0][0] + 0.01, points[0][1]);
    const width = Math.max(2, 2 * stroke.radius * pane.transform.zoom);
    context.strokeStyle = "rgba(255,255,255,.9)";
    context.lineWidth = width + 2.5;
    context.stroke(path);
    context.strokeStyle = stroke.colour;
    context.lineWidth = width;
    context.stroke(path);
  }
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

function drawScale(context, pane, plane) {
  const { facts } = pane.scene;
  const size = facts.spacing.at(-1) ?? 1;
  const wanted = (110 / pane.transform.zoom) * size;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const length = power * [1, 2, 5].filter((step) => step * power <= wanted).at(-1);
  const width = (length / size) * pane.transform.zoom;
  if (!Number.isFinite(width) || width > pane.width / 2 || pane.width < 260) return;
  const unit = facts.unit === "pixel" ? "px" : facts.unit;
  const [left, top] = [pane.width - width - 16, pane.height - 14];
  context.fillStyle = "rgba(0,0,0,.45)";
  context.fillRect(left - 8, top - 19, width + 16, 27);
  context.fillStyle = "#fff";
  context.fillRect(left, top, width, 2);
  context.font = "11px system-ui";
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(`${Number(length.toPrecision(3))} ${unit}`, left + width / 2, top - 2);
}

export const strokeColour = (run, value) => {
  const row = run?.classes.find((item) => item.id === value);
  return row ? `rgb(${row.rgba.slice(0, 3)})` : FIRST[value % FIRST.length];
};

const FIRST = ["#0072b2", "#e69f00", "#56b4e9", "#009e73", "#332288", "#f0e442", "#cc79a7", "#d55e00"];

export const ownStrokes = (run) =>
  (state.project?.strokes ?? [])
    .filter((stroke) => stroke.image === state.image)
    .map((stroke) => ({ ...stroke, colour: strokeColour(run, stroke.value) }));
