// Export: files in several formats, another folder, and everything as Python or as commands.

import { button, element } from "../html.js";
import { send } from "../socket.js";
import { currentRun, on, state } from "../store.js";
import { chooseFrom } from "./folders.js";
import { notice } from "./notices.js";

class StudioExport extends HTMLElement {
  connectedCallback() {
    this.formats = element("fieldset", { class: "formats" });
    this.only = element("input", { type: "checkbox" });
    this.one = element("label", { class: "check" }, this.only, "this picture only");
    this.go = button("Export", () => this.export(), { class: "main wide", id: "export" });
    this.folder = element("input", { type: "text", placeholder: "a folder", spellcheck: false, "aria-label": "Folder of pictures" });
    this.browse = button("Browse…", () => chooseFrom({ title: "Folder of pictures", action: "Choose", folderOnly: true, chosen: ([place]) => (this.folder.value = place) }));
    this.apply = button("Segment the folder", () => this.applyTo(), { class: "wide" });
    this.jobs = element("div", { class: "jobs" });
    this.recipe = element("pre", { tabIndex: 0, "aria-label": "Recipe" });
    this.append(
      element("h2", {}, "Export"), this.formats, this.one, this.go, this.jobs,
      element("h2", {}, "More pictures"),
      element("p", { class: "hint" }, "The model and everything you did by hand, on every picture of a folder. It must lie inside the folders that the studio was given."),
      element("div", { class: "buttons" }, this.folder, this.browse), this.apply,
      element("h2", {}, "Do it again without the studio"),
      element("div", { class: "buttons" }, button("Copy as Python", () => this.copy("python")), button("Copy as command line", () => this.copy("command"))),
      this.recipe,
    );
    on("project", () => this.fill());
    on("jobs", () => this.list());
    on(["tab", "run", "runs"], () => this.show());
  }

  fill() {
    const key = JSON.stringify(state.project.formats);
    if (key !== this.key) {
      this.key = key;
      this.formats.replaceChildren(
        ...state.project.formats.map(([name, text]) => {
          const [title, rest] = text.split(/: (.*)/s);
          return element("label", {}, element("input", { type: "checkbox", value: name, checked: ["labels", "overlay"].includes(name) }), element("span", {}, element("b", {}, title), element("small", {}, rest ?? "")));
        }),
      );
    }
    this.one.hidden = state.project.images.length < 2;
  }

  chosen() {
    return [...this.formats.querySelectorAll("input:checked")].map((box) => box.value);
  }

  export() {
    const run = currentRun();
    if (!run?.classes.length) return notice("There is nothing to export yet: wait until a run has found classes.", "error");
    const images = this.only.checked && !this.one.hidden ? [state.image] : null;
    return send("export", { run: run.id, images, formats: this.chosen() });
  }

  applyTo() {
    const run = currentRun();
    if (run && this.folder.value.trim()) send("apply", { run: run.id, folder: this.folder.value.trim(), formats: this.chosen() });
  }

  list() {
    this.jobs.replaceChildren(...[...state.jobs.values()].reverse().map((job) => this.job(job)));
  }

  job(job) {
    const name = job.folder.split(/[/\\]/).at(-1);
    const link = element("a", { href: `/api/export.zip?${new URLSearchParams({ folder: name })}`, download: `${name}.zip`, class: "download" }, "Download as zip");
    const csv = job.formats.includes("objects") && element("a", { href: `/api/export.csv?${new URLSearchParams({ folder: name })}`, download: `${name}.csv`, class: "csv" }, "Download the CSV");
    const words = job.state === "working" ? `${job.title}: ${job.done} of ${job.total}` : `${job.files.length} files in ${job.folder}`;
    const failures = job.failures.map(([, text]) => element("p", { class: "message" }, text));
    return element("article", { dataset: { job: job.id, state: job.state, folder: job.folder } }, element("p", {}, words), job.state === "working" ? element("progress", { max: job.total, value: job.done }) : "", failures, job.state === "done" ? [link, csv ? [" · ", csv] : ""].flat() : "");
  }

  async recipes() {
    const answer = await fetch(`/api/recipe?${new URLSearchParams({ run: state.run })}`);
    return answer.ok ? answer.json() : null;
  }

  async show() {
    if (state.tab !== "export" || !currentRun()) return;
    const asked = state.run;
    const found = await this.recipes();
    if (asked !== state.run) return; // a later question is on its way
    if (found) this.recipe.textContent = `${found.python}\n# or, on the command line:\n# ${found.command.trim().replaceAll("\n", "\n# ")}`;
  }

  async copy(kind) {
    const found = state.run && (await this.recipes());
    if (!found) return;
    try {
      await navigator.clipboard.writeText(found[kind]);
      notice("Copied.");
    } catch {
      this.recipe.textContent = found[kind];
      getSelection().selectAllChildren(this.recipe);
      notice("This browser does not let the page copy: it is selected below, press Ctrl+C.");
    }
  }
}

customElements.define("studio-export", StudioExport);
