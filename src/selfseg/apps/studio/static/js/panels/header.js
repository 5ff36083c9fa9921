// The top line: the project's name, which run is shown, undo and redo, whether the server answers.

import { turn } from "../actions.js";
import { element } from "../html.js";
import { change, currentRun, on, state } from "../store.js";

const find = (id) => document.getElementById(id);

export function listenToHeader() {
  find("undo").onclick = () => turn("undo");
  find("redo").onclick = () => turn("redo");
  find("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light");
  setTheme(localStorage.getItem("selfseg theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
  find("help").onclick = () => document.querySelector("studio-help").open();
  find("run-choice").onchange = (event) => change({ run: event.target.value, selected: [], hovered: null, level: null });
  on(["runs", "run", "project", "tool"], fill);
  on(["connected", "refused", "unstored"], link);
  for (const tab of document.querySelectorAll("nav [data-tab]")) tab.onclick = () => change({ tab: tab.dataset.tab });
  on("tab", tabs);
  tabs();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("selfseg theme", theme);
  find("theme").textContent = theme === "light" ? "Dark" : "Light";
  change({ theme });
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

// Shows if all work is stored; a change that waits for some time is shown, one on its way is not.
let late = null;
function link() {
  clearTimeout(late);
  const words = state.refused ? "The studio was started anew: open the address that it printed." : state.connected ? "" : "connecting…";
  const left = state.unstored ? `${state.unstored} change${state.unstored === 1 ? "" : "s"} not stored yet` : "";
  const show = () => (find("link-state").textContent = [words, left].filter(Boolean).join(" · "));
  if (state.connected && left) late = setTimeout(show, 1500);
  else show();
}

function tabs() {
  for (const each of document.querySelectorAll("[data-tab]")) {
    const shown = each.dataset.tab === state.tab;
    if (each.role === "tab") each.setAttribute("aria-selected", shown);
    else each.hidden = !shown;
  }
}
