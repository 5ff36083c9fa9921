// The merge slider: from the labels as they were learned to one region, the same level in all pictures of the model.

import { onScene, scene } from "../scene.js";
import { setLevel } from "../actions.js";
import { element } from "../html.js";
import { change, currentRun, on, state } from "../store.js";
import { levelAt, levelFor, positionOf, regionsAt } from "../tree.js";

class StudioLevel extends HTMLElement {
  connectedCallback() {
    this.slider = element("input", {
      type: "range", min: 0, max: 1, step: 0.0005, id: "level", "aria-label": "Merge regions: from fine to coarse",
      oninput: () => this.move(), onchange: () => this.release(),
    });
    this.count = element("input", { type: "number", min: 1, step: 1, "aria-label": "Number of regions", onchange: () => this.type() });
    this.words = element("span", { class: "words" });
    const title = element("h2", {}, "Detail", element("span", { class: "count" }, this.count, this.words));
    const ends = element("p", { class: "ends" }, element("span", {}, "as learned"), element("span", {}, "coarse"));
    this.append(title, this.slider, ends);
    onScene(() => this.fill());
    on(["run", "runs", "level"], () => this.fill());
  }

  level() {
    return state.level ?? currentRun()?.level ?? -1;
  }

  move() {
    if (scene.seg) change({ level: levelAt(scene.seg.tree, Number(this.slider.value)) });
  }

  release() {
    if (scene.seg) setLevel(currentRun(), levelAt(scene.seg.tree, Number(this.slider.value)));
  }

  type() {
    if (scene.seg) setLevel(currentRun(), levelFor(scene.seg.tree, Number(this.count.value)));
  }

  fill() {
    const tree = scene.seg?.tree;
    this.classList.toggle("waiting", !tree);
    this.slider.disabled = this.count.disabled = !tree;
    if (!tree) return;
    const level = this.level();
    if (document.activeElement !== this.slider || state.level === null) this.slider.value = positionOf(tree, level);
    const regions = level < 0 ? tree.leaves : regionsAt(tree, level);
    this.count.max = tree.leaves;
    if (document.activeElement !== this.count) this.count.value = regions;
    this.words.textContent = regions === 1 ? "region" : "regions";
  }
}

customElements.define("studio-level", StudioLevel);
