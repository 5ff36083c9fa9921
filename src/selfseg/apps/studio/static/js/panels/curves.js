// Loss curves: every term in its own colour, the number of classes as a step line; drawn as the figures arrive.

import { element } from "../html.js";

const COLOURS = ["#56b4e9", "#e69f00", "#cc79a7", "#f0e442", "#d55e00", "#9ad0f5"];
const COUNTED = "#8d98a3";
const PASSED = new Set(["step", "seconds"]);

export function drawCurves(canvas, legend, rows) {
  canvas.hidden = legend.hidden = rows.length < 2;
  if (canvas.hidden) return;
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => !PASSED.has(name));
  const counted = names.filter((name) => rows.every((row) => row[name] === undefined || Number.isInteger(row[name])));
  const losses = names.filter((name) => !counted.includes(name));
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const most = Math.max(...losses.flatMap((name) => rows.map((row) => row[name] ?? 0)), 1e-9);
  grid(context, canvas);
  for (const name of counted) {
    const top = Math.max(...rows.map((row) => row[name] ?? 0), 1);
    line(context, canvas, rows, name, top, COUNTED, true);
  }
  losses.forEach((name, i) => line(context, canvas, rows, name, most, COLOURS[i % COLOURS.length], false));
  const last = rows.at(-1);
  legend.replaceChildren(
    ...losses.map((name, i) => entry(name, last[name], COLOURS[i % COLOURS.length])),
    ...counted.map((name) => entry(name, last[name], COUNTED)),
  );
}

const entry = (name, value, colour) =>
  element("span", {}, element("i", { style: `background: ${colour}` }), `${name.replaceAll("_", " ")} ${value === undefined ? "" : Number(value.toPrecision(3))}`);

function grid(context, { width, height }) {
  context.strokeStyle = "rgba(255,255,255,.07)";
  context.lineWidth = 1;
  for (const part of [0.02, 0.34, 0.66, 0.98]) {
    context.beginPath();
    context.moveTo(0, part * height);
    context.lineTo(width, part * height);
    context.stroke();
  }
}

function line(context, { width, height }, rows, name, most, colour, steps) {
  const [first, last] = [rows[0].step, Math.max(rows.at(-1).step, rows[0].step + 1)];
  context.strokeStyle = colour;
  context.lineWidth = steps ? 1.5 : 2.5;
  context.beginPath();
  let begun = false;
  let before = 0;
  for (const row of rows) {
    if (row[name] === undefined) continue;
    const x = ((row.step - first) / (last - first)) * width;
    const y = height * (0.98 - 0.96 * (row[name] / most));
    if (begun && steps) context.lineTo(x, before);
    if (begun) context.lineTo(x, y);
    else context.moveTo(x, y);
    begun = true;
    before = y;
  }
  context.stroke();
}
