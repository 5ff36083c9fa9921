// Between the tools and the picture: what is at work with its step and the time left, and what is worth knowing of run and picture.

import { clock, element } from "../html.js";
import { onScene, scene } from "../scene.js";
import { currentRun, hasResult, on, state } from "../store.js";

const WORDS = { starting: "starting", learning: "learning", segmenting: "segmenting", paused: "paused" };
const LOOK_AGAIN = 500; // milliseconds between two looks at the time

class StudioStatus extends HTMLElement {
  connectedCallback() {
    this.begun = new Map(); // "run state" -> { at, step }: where the estimate of the time left begins
    this.bar = element("progress", {});
    this.words = element("span", { role: "status" });
    this.work = element("div", {}, this.bar, this.words);
    this.summary = element("summary", {});
    this.list = element("ul", {});
    this.notes = element("div", {}, element("details", {}, this.summary, this.list));
    this.append(this.work, this.notes);
    on(["runs", "run", "busy", "image"], () => this.fill());
    onScene(() => this.fill());
    setInterval(() => !this.work.hidden && this.fill(), LOOK_AGAIN);
    this.fill();
  }

  fill() {
    this.progress();
    const lines = this.lines();
    this.notes.hidden = !lines.length;
    const key = lines.join("\n");
    if (key === this.key) return;
    this.key = key;
    this.summary.textContent = lines.length > 1 ? `${lines[0]}  (and ${lines.length - 1} more)` : (lines[0] ?? "");
    this.summary.classList.toggle("warn", lines.some((line) => line.startsWith("One class only") || line.includes("takes")));
    this.list.replaceChildren(...lines.slice(1).map((line) => element("li", {}, line)));
  }

  progress() {
    const run = currentRun();
    const works = run && run.state in WORDS && !(run.state === "segmenting" && hasResult(run));
    const busy = state.busy && performance.now() - state.busy.since > 300 ? state.busy : null;
    this.work.hidden = !works && !busy;
    if (busy) {
      this.bar.removeAttribute("value");
      this.words.textContent = `${busy.text} · ${clock((performance.now() - busy.since) / 1000)}`;
    } else if (works) this.tell(run);
  }

  tell(run) {
    const key = `${run.id} ${run.state}`;
    if (!this.begun.has(key)) this.begun.set(key, { at: performance.now(), step: run.step });
    const { at, step } = this.begun.get(key);
    const seconds = (performance.now() - at) / 1000;
    const done = run.step - step;
    if (run.total > 1) {
      this.bar.max = run.total;
      this.bar.value = run.step;
    } else this.bar.removeAttribute("value");
    const steps = run.total > 1 && run.state !== "starting" ? ` · ${run.state === "segmenting" ? "picture" : "step"} ${Math.min(run.step + 1, run.total)} of ${run.total}` : "";
    const left = run.state === "learning" && done > 1 && seconds > 2 ? ` · at most ${clock((seconds / done) * (run.total - run.step))} left` : ` · ${clock(seconds)}`;
    this.words.textContent = `${run.name}: ${WORDS[run.state]}${steps}${run.state === "paused" ? "" : left}`;
  }

  lines() {
    const run = currentRun();
    const of = scene.facts?.notes ?? [];
    const kept = (run?.classes ?? []).filter((row) => !row.ignored);
    const one = run?.state === "done" && kept.length === 1 && !run.can_undo ? ["One class only: choose another tile under Look, ask for 2 or more classes under Learn, or scribble what you mean."] : [];
    return [...one, ...[...(run?.notes ?? [])].filter((line) => !line.startsWith("learning with ")).reverse(), ...of, ...(run?.failures ?? []).map(([name, text]) => (text.startsWith(name) ? text : `${name}: ${text}`))];
  }
}

customElements.define("studio-status", StudioStatus);
