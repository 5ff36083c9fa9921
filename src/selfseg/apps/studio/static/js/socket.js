// The websocket: what the page wants goes out, what is comes in and lands in the store.

import { change, restore, state, touch } from "./store.js";
import { notice } from "./panels/notices.js";

let socket = null;
let pause = 500;

const KEPT = new Set(["edit", "scribble", "correct", "undo", "redo", "add_class", "name_run"]); // work of the hand: not to be lost
const waiting = new Map(); // tag -> message that the server has not confirmed yet
const home = () => `selfseg waits ${location.host}`;

// Send a message. What the hand did is kept until the server confirms that it is stored; other things need the server at once.
export function send(type, fields = {}) {
  const message = { type, ...fields };
  if (KEPT.has(type)) {
    message.tag = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 12)}`;
    waiting.set(message.tag, message);
    remember();
  }
  if (socket?.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify(message));
    return true;
  }
  if (!KEPT.has(type)) notice("Not connected: the studio's server does not answer.", "error");
  return KEPT.has(type);
}

function remember() {
  change({ unstored: waiting.size });
  try {
    sessionStorage.setItem(home(), JSON.stringify([...waiting]));
  } catch {
    // A browser that keeps nothing loses them with the tab only.
  }
}

function recall() {
  try {
    for (const [tag, message] of JSON.parse(sessionStorage.getItem(home())) ?? []) waiting.set(tag, message);
  } catch {
    // Nothing was kept, or it cannot be read.
  }
}
recall();

export const edit = (run, operation) => send("edit", { run, operation });

export function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.onopen = () => {
    pause = 500;
    change({ connected: true, refused: false });
    for (const message of waiting.values()) socket.send(JSON.stringify(message));
  };
  socket.onmessage = (event) => {
    const news = JSON.parse(event.data);
    heard[news.type]?.(news);
  };
  socket.onclose = () => {
    change({ connected: false });
    askWhy();
    setTimeout(connect, pause);
    pause = Math.min(pause * 1.6, 8000);
  };
}

// A server that answers, but not to this tab, was started anew with another secret.
async function askWhy() {
  try {
    const answer = await fetch("/api/schema");
    change({ refused: answer.status === 401 || answer.status === 403 });
  } catch {
    change({ refused: false });
  }
}

const heard = {
  stored(news) {
    if (waiting.delete(news.tag)) remember();
    if (state.busy?.tag === news.tag) change({ busy: null });
  },
  project(news) {
    const first = state.project === null;
    change({ project: news });
    if (first) restore();
    if (!news.images.includes(state.image)) change({ image: news.images[0] ?? null, frame: 0, plane: null });
  },
  methods(news) {
    change({ methods: news.methods });
  },
  run(news) {
    if (state.busy?.run === news.id) change({ busy: null });
    const known = state.runs.has(news.id);
    const before = state.runs.get(news.id);
    state.runs.set(news.id, news);
    touch("runs");
    const began = !known && news.state === "starting";
    if (!state.runs.has(state.run) || began || news.id === state.wantedRun) {
      const wantedRun = news.id === state.wantedRun ? null : state.wantedRun;
      change({ run: news.id, wantedRun, selected: [], level: null, tool: "select" });
    }
    if (news.id === state.run && before?.level !== news.level) change({ level: null });
  },
  look(news) {
    change({ look: news });
  },
  removed(news) {
    state.runs.delete(news.run);
    touch("runs");
    if (state.run === news.run) change({ run: [...state.runs.keys()].at(-1) ?? null, selected: [] });
  },
  figures(news) {
    const rows = news.whole ? [] : (state.figures.get(news.run) ?? []);
    state.figures.set(news.run, rows.concat(news.rows));
    touch("figures");
  },
  preview(news) {
    state.previews.set(news.run, news);
    touch("previews");
  },
  answered(news) {
    change({ answered: news });
  },
  job(news) {
    state.jobs.set(news.id, news);
    touch("jobs");
  },
  notice(news) {
    if (news.kind === "error" && state.busy) change({ busy: null });
    notice(news.text, news.kind);
  },
};
