// The top line: the project's name, which run is shown, undo and redo, whether the server answers.

import { turn } from "../actions.js";
import { element } from "../html.js";
import { change, currentRun, on, state } from "../store.js";

const find = (id) => document.getElementById(id);

export function listenToHeader() {
  find("undo").onclick = () => turn("undo");
  find("redo").onclick = () => turn("redo");
  find("help").onclick = () => document.querySelector("studio-help").open();
  find("run-choice").onchange = (event) => change({ run: event.target.value, selected: [], hovered: null, level: null });
  on(["runs", "run", "project", "tool"], fill);
  on("connected", () => (find("link-state").textContent = state.connected ? "" : "connecting…"));
  for (const tab of document.querySelectorAll("nav [data-tab]")) tab.onclick = () => change({ tab: tab.dataset.tab });
  on("tab", tabs);
  tabs();
}

function fill() {
  find("project-name").textContent = state.project?.name ?? "";
  document.title = `${state.project?.name ?? "selfseg"} · selfseg studio`;
  const run = currentRun();
  const own = state.tool === "scribble" ? state.project : run;
  find("undo").disabled = !own?.can_undo;
  find("redo").disabled = !own?.can_redo;
  const choice = find("run-choice");
  const key = JSON.stringify([...state.runs.values()].map((each) => [each.id, each.name]));
  if (choice.dataset.key !== key) {
    choice.dataset.key = key;
    choice.replaceChildren(...[...state.runs.values()].map((each) => element("option", { value: each.id }, `${Number(each.id)} · ${each.name}`)));
  }
  choice.value = state.run ?? "";
}

function tabs() {
  for (const each of document.querySelectorAll("[data-tab]")) {
    const shown = each.dataset.tab === state.tab;
    if (each.role === "tab") each.setAttribute("aria-selected", shown);
    else each.hidden = !shown;
  }
}
