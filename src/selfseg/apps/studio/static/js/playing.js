// Going through the frames of a video or a series, and the slices of a volume: step by step, or playing.

import { scene } from "./scene.js";
import { change, on, state } from "./store.js";

const USUAL_RATE = 8; // frames a second of what has no rate of its own
const MOST_RATE = 30;

const SIZES = { plane: "depth", frame: "frames" };

let timer = null;

// Axis that the keys step through and play: frames where there are some, else slices.
export const mainKey = () => (scene.facts?.frames > 1 ? "frame" : scene.facts?.depth > 1 ? "plane" : null);

export function step(key, by) {
  if (!key) return;
  const last = (scene.facts?.[SIZES[key]] ?? 1) - 1;
  change({ [key]: Math.min(Math.max((state[key] ?? 0) + by, 0), last) });
}

export function play(key) {
  clearInterval(timer);
  timer = null;
  const playing = key && state.playing !== key ? key : null;
  change({ playing });
  if (playing) timer = setInterval(() => advance(playing), 1000 / Math.min(scene.facts.fps ?? USUAL_RATE, MOST_RATE));
}

// The next frame, once the one before is on the screen: a slow machine plays slowly, and leaves nothing out.
function advance(key) {
  const late = ({ axis, scene: shown, whole }) => axis === "z" && (whole !== shown || shown[key === "plane" ? "index" : key] !== (state[key] ?? 0));
  if (document.querySelector("studio-panes").panes.some(late)) return;
  change({ [key]: ((state[key] ?? 0) + 1) % scene.facts[SIZES[key]] });
}

on("image", () => state.playing && play(null));
