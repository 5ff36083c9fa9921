// Strokes answered at once: what is in view is asked for after each stroke, and laid over the picture while the brush is in the hand.

import { send } from "./socket.js";
import { change, currentRun, on, state } from "./store.js";
import { ERASE, strokeColour } from "./view/marks.js";

const AGAIN = 350; // milliseconds of rest after the picture was moved until the new part is asked for

let asked = null; // what was asked for last
let begun = 0;
export const answerTimes = []; // milliseconds from a stroke to its first answer on the page

const panes = () => document.querySelector("studio-panes");

export const answerHere = () => {
  const { answer } = state;
  const here = answer && state.tool === "scribble" && state.answering && answer.image === state.image && answer.frame === state.frame && answer.plane === (state.plane ?? 0);
  return here ? answer : null;
};

function view() {
  const pane = panes()?.panes[0];
  if (!pane?.scene || !pane.width || pane.axis !== "z") return null;
  const { left, top, right, bottom } = pane.box(pane.plane());
  const { width, height } = pane.plane();
  const box = [Math.max(0, Math.floor(top)), Math.max(0, Math.floor(left)), Math.min(height, Math.ceil(bottom)), Math.min(width, Math.ceil(right))];
  return box[2] > box[0] && box[3] > box[1] ? box : null;
}

// Ask, if the strokes, the picture or the part in view are others than those of the last question.
export function ask() {
  if (state.tool !== "scribble" || !state.answering || !state.image || panes()?.panes[0]?.scene?.facts.video) return;
  const box = view();
  if (!box) return;
  const strokes = state.project.strokes;
  const place = JSON.stringify([state.image, state.frame, state.plane, box]);
  if (asked?.strokes === strokes.length && asked.last === strokes.at(-1)?.points.length && asked.place === place) return;
  asked = { strokes: strokes.length, last: strokes.at(-1)?.points.length, place };
  begun = performance.now();
  const drawn = new Set(strokes.map((stroke) => stroke.value).filter((value) => value !== ERASE));
  const tag = `answer ${begun}`;
  if (drawn.size > 1) change({ busy: { text: "Answering the strokes", since: begun, tag } });
  send("answer", { tag, image: state.image, frame: state.frame, plane: state.plane ?? 0, box });
}

async function take(news) {
  if (!news || news.stamp <= (state.answer?.stamp ?? -1)) return;
  const raw = await fetch(`/api/answer?stamp=${news.stamp}`);
  if (!raw.ok) return;
  const bytes = new Uint8Array(await raw.arrayBuffer());
  if (news.stamp <= (state.answer?.stamp ?? -1)) return; // a later one was quicker
  const [rows, columns] = news.shape;
  const n = rows * columns;
  if (bytes.length !== 2 * n) return;
  const answer = { ...news, labels: bytes.subarray(0, n), sure: bytes.subarray(n) };
  await paint(answer);
  if (begun) answerTimes.push(performance.now() - begun);
  begun = 0;
  change({ answer });
}

// Two pictures of an answer: its classes in their colours, and its doubt from blue (sure) to yellow.
async function paint(answer) {
  const [rows, columns] = answer.shape;
  const ink = new Uint32Array(256);
  const run = currentRun();
  for (const { id } of state.project.classes) {
    const [r, g, b] = strokeColour(run, id).match(/\d+/g).map(Number);
    ink[id] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  const colours = new Uint32Array(rows * columns);
  for (let i = 0; i < colours.length; i++) colours[i] = ink[answer.labels[i]];
  const heat = new Uint32Array(256).map((_, p) => {
    const doubt = Math.min(1, (255 - p) / 128);
    return (255 << 24) | (Math.round(90 * (1 - doubt) + 40 * doubt) << 16) | (Math.round(30 + 200 * doubt) << 8) | Math.round(20 + 235 * doubt);
  });
  const doubts = new Uint32Array(rows * columns);
  for (let i = 0; i < doubts.length; i++) doubts[i] = heat[answer.sure[i]];
  const bitmap = (data) => createImageBitmap(new ImageData(new Uint8ClampedArray(data.buffer), columns, rows));
  [answer.picture, answer.doubt] = await Promise.all([bitmap(colours), bitmap(doubts)]);
  answer.key = `${answer.stamp}`;
}

// Show where the next stroke would help most.
export function goToDoubt() {
  const answer = answerHere();
  if (answer) panes().centre(answer.spot[1], answer.spot[0]);
}

let waiting = null;
export function askSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(ask, AGAIN);
}

on(["project", "tool", "answering"], () => ask());
on(["image", "frame", "plane"], askSoon);
on("answered", () => take(state.answered));
