// The websocket: what the page wants goes out, what is comes in and lands in the store.

import { change, restore, state, touch } from "./store.js";
import { notice } from "./panels/notices.js";

let socket = null;
let pause = 500;

export function send(type, fields = {}) {
  if (socket?.readyState !== WebSocket.OPEN) {
    notice("Not connected: the studio's server does not answer.", "error");
    return false;
  }
  socket.send(JSON.stringify({ type, ...fields }));
  return true;
}

export const edit = (run, operation) => send("edit", { run, operation });

export function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.onopen = () => {
    pause = 500;
    change({ connected: true });
  };
  socket.onmessage = (event) => {
    const news = JSON.parse(event.data);
    heard[news.type]?.(news);
  };
  socket.onclose = () => {
    change({ connected: false });
    setTimeout(connect, pause);
    pause = Math.min(pause * 1.6, 8000);
  };
}

const heard = {
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
    change({ told: news });
  },
  job(news) {
    state.jobs.set(news.id, news);
    touch("jobs");
  },
  notice(news) {
    notice(news.text, news.kind);
  },
};
