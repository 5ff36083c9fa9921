// The runs: what each is doing, its curves, and what can be done with it.

import { button, clock, element, percent } from "../html.js";
import { send } from "../socket.js";
import { change, on, state } from "../store.js";
import { drawCurves } from "./curves.js";
import { openChange } from "./changing.js";
import { notice } from "./notices.js";

const WORDS = {
  starting: "starting", learning: "learning", segmenting: "segmenting", paused: "paused",
  done: "done", failed: "failed", crashed: "stopped unexpectedly",
};

class StudioRuns extends HTMLElement {
  connectedCallback() {
    this.cards = new Map();
    this.list = element("div", { class: "runs" });
    this.append(element("h2", {}, "Runs"), this.list);
    on(["runs", "run", "compare"], () => this.fill());
    on(["figures", "tab"], () => this.curves());
    on("previews", () => this.areas());
  }

  fill() {
    const runs = [...state.runs.values()].reverse();
    for (const [id, card] of this.cards) {
      if (state.runs.has(id)) continue;
      card.root.remove();
      this.cards.delete(id);
    }
    for (const run of runs) {
      if (!this.cards.has(run.id)) this.cards.set(run.id, this.card(run));
      this.update(this.cards.get(run.id), run);
    }
    const order = runs.map((run) => this.cards.get(run.id).root);
    if (order.some((root, i) => this.list.children[i] !== root)) this.list.replaceChildren(...order);
    this.curves();
    this.areas();
  }

  card(run) {
    const card = {
      name: element("input", { type: "text", maxLength: 200, title: "Click to rename", "aria-label": "Name of the run", onchange: () => card.name.value.trim() && send("name_run", { run: run.id, name: card.name.value.trim() }) }),
      badge: element("span", { class: "badge" }),
      bar: element("progress", { max: 1, value: 0 }),
      facts: element("p", { class: "facts" }),
      message: element("p", { class: "message" }),
      areas: element("div", { class: "areas", title: "Share of each cluster" }),
      curves: element("canvas", { class: "curves", width: 560, height: 150 }),
      legend: element("p", { class: "legend" }),
      buttons: element("div", { class: "buttons" }),
    };
    const show = (event) => !event.target.closest("button, input, select") && change({ run: run.id, selected: [], hovered: null, level: null });
    const head = element("div", { class: "head" }, card.name, card.badge);
    card.root = element("article", { dataset: { run: run.id }, onclick: show }, head, card.bar, card.facts, card.message, card.areas, card.curves, card.legend, card.buttons);
    return card;
  }

  update(card, run) {
    card.root.classList.toggle("shown", run.id === state.run);
    if (document.activeElement !== card.name) card.name.value = run.name;
    card.badge.textContent = WORDS[run.state];
    card.badge.dataset.state = run.state;
    card.bar.hidden = !["learning", "segmenting", "paused"].includes(run.state) || run.total < 2;
    card.bar.max = run.total || 1;
    card.bar.value = run.step;
    card.facts.textContent = this.facts(run);
    card.message.textContent = [run.message, ...run.failures.map(([, text]) => text)].filter(Boolean).join("\n");
    card.message.hidden = !card.message.textContent;
    const key = JSON.stringify([run.state, run.checkpoints, state.compare.includes(run.id), run.id === state.run, state.methods.length]);
    if (card.key === key) return;
    card.key = key;
    card.buttons.replaceChildren(...this.buttons(run));
  }

  facts(run) {
    const parts = [run.method.replaceAll("_", " "), run.preset, `${run.images} picture${run.images === 1 ? "" : "s"}`];
    if (run.state === "learning" || run.state === "paused") parts.push(`step ${run.step} of ${run.total}`);
    if (run.classes.length) parts.push(`${run.classes.filter((row) => !row.ignored).length} classes`);
    const last = state.figures.get(run.id)?.at(-1);
    if (last?.seconds > 1) parts.push(clock(last.seconds));
    if (run.origin) parts.push(`from run ${Number(run.origin.run)}, step ${run.origin.step}`);
    for (const { step, options, classes } of run.changes.slice(-3)) {
      const words = Object.entries(options).map(([name, value]) => `${name} ${value}`);
      if (classes) words.push(`${classes} classes`);
      parts.push(`at step ${step}: ${words.join(", ")}`);
    }
    return parts.join(" · ");
  }

  buttons(run) {
    const order = (what) => () => send("order", { run: run.id, what });
    const learns = run.state === "learning" || run.state === "starting";
    const made = [];
    if (run.state === "learning") made.push(button("Pause", order("pause")), button("Finish now", order("finish"), { title: "End here and use what it has learned" }));
    if (["paused", "crashed"].includes(run.state)) made.push(button("Resume", order("resume"), { class: "main" }));
    if (run.state === "failed") made.push(button("Try again", order("resume")));
    if (state.methods.length && run.checkpoints.length) {
      if (learns || run.state === "paused") made.push(button("Change options…", () => openChange(run.id, "change")));
      made.push(button("Fork…", () => openChange(run.id, "fork"), { title: "Begin another run from a checkpoint of this one" }));
    }
    if (run.results.length && run.classes.length > 1) made.push(button("Teach a U-Net", () => this.teach(run), { title: "Another run learns from these labels, with all that you corrected" }));
    if (run.id !== state.run) {
      const beside = state.compare.includes(run.id);
      made.push(button(beside ? "Hide" : "Compare", () => this.compare(run.id, beside), { title: "Show it beside the run that is shown" }));
    }
    if (learns || run.state === "segmenting") made.push(button("Stop", order("kill"), { title: "End the process at once; the last checkpoint stays" }));
    else made.push(button("Remove", () => this.remove(run), { title: "Put it away (into the project's folder “removed”)" }));
    return made;
  }

  compare(id, beside) {
    const next = beside ? state.compare.filter((each) => each !== id) : [...state.compare, id].slice(-3);
    change({ compare: next, planes: false });
  }

  teach(run) {
    if (send("start", { name: `U-Net from ${run.name}`, method: "unet", preset: "fast", teacher: run.id, like: run.id })) notice("Teaching a U-Net…");
  }

  remove(run) {
    change({ compare: state.compare.filter((each) => each !== run.id) });
    if (send("remove", { run: run.id })) notice(`${run.name} is put away in the project's folder “removed”.`);
  }

  curves() {
    if (state.tab !== "learn") return;
    for (const [id, card] of this.cards) drawCurves(card.curves, card.legend, state.figures.get(id) ?? []);
  }

  areas() {
    for (const [id, card] of this.cards) {
      const run = state.runs.get(id);
      const preview = state.previews.get(id);
      card.areas.hidden = !preview || run?.state === "done";
      if (card.areas.hidden) continue;
      card.areas.replaceChildren(
        ...preview.areas.map(({ share, rgba }) => element("i", { title: percent(share), style: `flex-grow: ${Math.max(share, 0.004)}; background: rgb(${rgba.slice(0, 3)})` })),
      );
    }
  }
}

customElements.define("studio-runs", StudioRuns);
