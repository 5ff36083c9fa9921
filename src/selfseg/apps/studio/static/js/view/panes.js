// The panes: one for a picture, three for the planes of a volume, one for each run when runs are compared.

import { onScene, paneScene, scene, shownRuns } from "../scene.js";
import { change, currentRun, on, state } from "../store.js";
import { listen } from "./pointer.js";
import { Pane } from "./pane.js";
import { Solid } from "./solid.js";

class StudioPanes extends HTMLElement {
  connectedCallback() {
    this.panes = [];
    this.cross = null;
    onScene(() => this.update());
    on(["compare", "planes", "solid", "selected"], () => this.update());
    this.empty = document.createElement("p");
    this.empty.className = "empty";
    this.append(this.empty);
    listen(this);
  }

  update() {
    const waiting = scene.facts === null;
    this.empty.hidden = !waiting;
    this.empty.textContent = scene.failed ?? (state.project?.images.length ? "Reading the picture…" : "Drop pictures here to begin.");
    if (waiting) return this.arrange([], false);
    const wanted = this.wanted();
    this.arrange(wanted, state.solid && scene.facts.depth > 1);
    const planes = this.planes();
    wanted.forEach(({ run, axis }, i) => {
      const shown = paneScene(run, axis, planes);
      this.panes[i].caption.textContent = wanted.length > 1 ? (state.planes ? { z: "XY", y: "XZ", x: "YZ" }[axis] : run.name) : "";
      shown.cross = state.planes ? this.crossOf(axis, planes) : null;
      this.panes[i].show(shown);
    });
    this.solid?.show();
  }

  wanted() {
    const run = currentRun();
    if (scene.facts.depth > 1 && state.planes) return ["z", "y", "x"].map((axis) => ({ run, axis }));
    const runs = shownRuns();
    return runs.length ? runs.map((each) => ({ run: each, axis: "z" })) : [{ run: null, axis: "z" }];
  }

  planes() {
    const { width, height } = scene.facts;
    const cross = this.cross ?? { x: Math.floor(width / 2), y: Math.floor(height / 2) };
    return { z: Math.min(state.plane ?? 0, scene.facts.depth - 1), y: Math.min(cross.y, height - 1), x: Math.min(cross.x, width - 1) };
  }

  crossOf(axis, planes) {
    if (axis === "z") return { x: planes.x, y: planes.y };
    if (axis === "y") return { x: planes.x, y: planes.z };
    return { x: planes.y, y: planes.z };
  }

  // Move the other planes to a point of one pane.
  point(pane, x, y) {
    if (!state.planes) return;
    const planes = this.planes();
    const [across, down] = { z: ["x", "y"], y: ["x", "z"], x: ["y", "z"] }[pane.axis];
    planes[across] = x;
    planes[down] = y;
    this.cross = { x: planes.x, y: planes.y };
    change({ plane: planes.z });
    this.update();
  }

  arrange(wanted, solid) {
    const key = wanted.map(({ axis }) => axis).join("");
    this.dataset.count = wanted.length + Number(solid);
    if (solid !== Boolean(this.solid)) {
      this.solid?.element.remove();
      this.solid = solid ? new Solid(this) : null;
    }
    if (key === this.key) return;
    this.key = key;
    for (const pane of this.panes.splice(0)) pane.element.remove();
    this.panes = wanted.map(({ axis }) => new Pane(this, axis));
    if (this.solid) this.append(this.solid.element); // last
    // Runs side by side are looked at together; the planes of a volume each by itself.
    if (new Set(key).size < key.length) for (const pane of this.panes) pane.transform = this.panes[0].transform;
  }

  paneOf(event) {
    return this.panes.find((pane) => pane.element.contains(event.target)) ?? null;
  }

  redraw() {
    for (const pane of this.panes) pane.redraw();
  }

  // Move a point of the picture into the middle of the panes, without another zoom.
  centre(x, y, plane = null) {
    for (const pane of this.panes) {
      const [across, down] = { z: [x, y], y: [x, plane ?? 0], x: [y, plane ?? 0] }[pane.axis];
      Object.assign(pane.transform, { x: across, y: down, fitted: false });
    }
    if (plane !== null) change({ plane });
    this.redraw();
  }

  fit() {
    for (const pane of this.panes) pane.transform.fitted = true;
    this.redraw();
  }

  zoom(factor) {
    for (const pane of new Set(this.panes.map((each) => each.transform))) {
      const own = this.panes.find((each) => each.transform === pane);
      pane.zoomAt(factor, own.width / 2, own.height / 2, own.plane(), own.width, own.height);
    }
    this.redraw();
  }
}

customElements.define("studio-panes", StudioPanes);
