// The pictures of the project, down the left side; files can be dropped anywhere on the page.

import { element } from "../html.js";
import { change, currentRun, hasResult, on, state } from "../store.js";
import { send } from "../socket.js";
import { chooseFrom } from "./folders.js";
import { notice } from "./notices.js";

class StudioImages extends HTMLElement {
  connectedCallback() {
    this.list = element("div", { class: "list", role: "listbox", "aria-label": "Pictures" });
    const pick = element("input", { type: "file", multiple: true, hidden: true, onchange: () => upload(pick.files) });
    const places = () => chooseFrom({
      title: "Add pictures",
      action: "Add",
      extra: [["From this computer…", () => pick.click()]],
      chosen: (found) => send("add", { places: found }),
    });
    const add = element("button", { type: "button", class: "add", title: "Add pictures", onclick: places }, "+ Add");
    this.append(this.list, add, pick);
    on("project", () => this.fill());
    on(["image", "run", "runs"], () => this.mark());
    addEventListener("dragover", (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      upload(event.dataTransfer.files);
    });
  }

  fill() {
    const names = state.project.images;
    if (names.join("\n") === this.names) return;
    this.names = names.join("\n");
    this.list.replaceChildren(...names.map((name) => this.entry(name)));
    this.mark();
  }

  entry(name) {
    const picture = element("img", { alt: "", loading: "lazy", src: `/api/thumbnail?${new URLSearchParams({ name })}` });
    const choose = () => change({ image: name, frame: 0, hovered: null });
    const label = element("span", {}, name);
    return element("button", { type: "button", role: "option", title: name, dataset: { name }, onclick: choose }, picture, label);
  }

  mark() {
    const run = currentRun();
    for (const entry of this.list.children) {
      const chosen = entry.dataset.name === state.image;
      entry.setAttribute("aria-selected", chosen);
      entry.classList.toggle("segmented", hasResult(run, entry.dataset.name, 0));
      if (chosen) entry.scrollIntoView({ block: "nearest" });
    }
  }
}

async function upload(files) {
  for (const file of files) {
    notice(`Adding ${file.name}…`);
    const answer = await fetch(`/api/upload?${new URLSearchParams({ name: file.name })}`, { method: "POST", body: file });
    const value = await answer.json().catch(() => ({ error: answer.statusText }));
    if (!answer.ok) notice(value.error, "error");
  }
}

customElements.define("studio-images", StudioImages);
