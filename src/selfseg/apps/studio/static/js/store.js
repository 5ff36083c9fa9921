// The page's one place for state. Parts read `state`, call `change`, and listen with `on`.

const SAVED = ["run", "image", "frame", "plane", "tab", "layers", "compare"];

export const state = {
  project: null, // ProjectState
  methods: [], // forms of the methods
  runs: new Map(), // id -> RunState
  figures: new Map(), // id -> rows of the journal
  previews: new Map(), // id -> Preview
  jobs: new Map(), // id -> Job
  look: { tiles: [], total: 0, working: false, error: "" }, // Look
  connected: false,
  refused: false, // a server answers, but it has another secret than this tab
  unstored: 0, // changes by hand that the server has not confirmed
  // The part that this page shows.
  run: null,
  wantedRun: null, // the run that was shown when the page was left, until the server has sent it
  image: null,
  frame: 0,
  plane: null,
  busy: null, // what the server was asked for and has not answered: { text, since }
  playing: null, // frame | plane, while it plays
  solid: false, // whether a volume is shown in 3D beside its slices
  tab: "look",
  tool: "select", // select | merge | scribble | correct
  selected: [], // class ids, in the order in which they were clicked
  hovered: null, // class id
  objects: 0, // grows when other objects are here to be shown
  chosenObjects: [], // numbers, in the order in which they were clicked
  level: null, // while the slider moves; else the run's own
  compare: [], // further runs shown beside the first
  display: {}, // by image: ranges and visible channels
  correct: { do: "paint", value: null, radius: 6, first: null }, // what the hand corrects; first: the object that others join
  answer: null, // Answer: what the strokes say of the picture, with `picture` and `doubt`, once they are here
  answering: true, // whether strokes are answered at once
  scribble: { key: "", value: null, label: null, radius: 4 }, // value: class of the project; label: class of the run
  layers: {
    show: "classes", // classes | regions | probability | confidence | image
    opacity: 0.55,
    boundaries: true,
    superpixels: false,
    swipe: false,
    grey: true,
    objects: true,
    strokes: true, // scribbles
  },
};

const listeners = new Map();

export function on(keys, listener) {
  for (const key of [keys].flat()) {
    if (!listeners.has(key)) listeners.set(key, new Set());
    listeners.get(key).add(listener);
  }
}

let waiting = new Set();

// Merge `values` into the state and tell those who listen to any of the keys, once, before the next frame is drawn.
export function change(values) {
  Object.assign(state, values);
  touch(...Object.keys(values));
}

export function touch(...keys) {
  if (!waiting.size) queueMicrotask(tell);
  for (const key of keys) waiting.add(key);
}

function tell() {
  const keys = waiting;
  waiting = new Set();
  const called = new Set();
  for (const key of keys) for (const listener of listeners.get(key) ?? []) called.add(listener);
  for (const listener of called) listener(state);
  if ([...keys].some((key) => SAVED.includes(key))) save();
}

export function setLayer(values) {
  change({ layers: { ...state.layers, ...values } });
}

function save() {
  if (!state.project) return;
  const kept = Object.fromEntries(SAVED.map((key) => [key, state[key]]));
  try {
    localStorage.setItem(`selfseg ${state.project.folder}`, JSON.stringify(kept));
  } catch {
    // A browser that keeps nothing still shows everything.
  }
}

export function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(`selfseg ${state.project.folder}`)) ?? {};
    if (kept.tab === "take") kept.tab = "export"; // the tab's name until 0.1
    change({ ...kept, run: null, wantedRun: kept.run, layers: { ...state.layers, ...kept.layers } });
  } catch {
    // The stored state cannot be read: begin as new.
  }
}

export const currentRun = () => state.runs.get(state.run) ?? null;

export function resultKey(image = state.image, frame = state.frame) {
  return frame ? `${image}#${frame}` : image;
}

export const hasResult = (run, image = state.image, frame = state.frame) =>
  Boolean(run?.results.includes(resultKey(image, frame)));

export const className = (run, id) => run?.classes.find((row) => row.id === id)?.name ?? `class ${id}`;
