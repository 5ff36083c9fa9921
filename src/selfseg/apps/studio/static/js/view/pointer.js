// Hand and wheel over the panes: move, zoom, choose classes, merge two, scribble, pull the swipe.

import { unit } from "../html.js";
import { send } from "../socket.js";
import { className, currentRun, change, state } from "../store.js";
import { scene } from "../scene.js";
import { mergeClasses, select } from "../actions.js";
import { correctClick, correctStroke } from "../correcting.js";
import { askSoon } from "../answers.js";
import { chooseObject, countedHere } from "../objects.js";

export function listen(panes) {
  const hand = new Hand(panes);
  panes.addEventListener("wheel", (event) => hand.wheel(event), { passive: false });
  panes.addEventListener("pointerdown", (event) => hand.down(event));
  panes.addEventListener("pointermove", (event) => hand.move(event));
  panes.addEventListener("pointerup", (event) => hand.up(event));
  panes.addEventListener("pointercancel", () => (hand.drag = null));
  panes.addEventListener("pointerleave", () => hand.leave());
  panes.addEventListener("dblclick", () => state.tool !== "scribble" && panes.fit());
}

class Hand {
  constructor(panes) {
    this.panes = panes;
    this.drag = null;
    this.tip = panes.appendChild(document.createElement("div"));
    this.tip.className = "tip";
    this.tip.hidden = true;
  }

  at(pane, event) {
    const box = pane.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    const pane = this.panes.paneOf(event);
    if (!pane?.scene) return;
    event.preventDefault();
    if (event.shiftKey && scene.facts.depth > 1) {
      const to = (state.plane ?? 0) + Math.sign(event.deltaY || event.deltaX);
      change({ plane: Math.min(Math.max(to, 0), scene.facts.depth - 1) });
      return;
    }
    const [left, top] = this.at(pane, event);
    const lines = event.deltaMode === 1 ? 30 : 1;
    pane.transform.zoomAt(Math.exp(-event.deltaY * lines * 0.0015), left, top, pane.plane(), pane.width, pane.height);
    this.panes.redraw();
    askSoon();
  }

  down(event) {
    const pane = this.panes.paneOf(event);
    if (!pane?.scene || event.button > 1) return;
    this.panes.setPointerCapture(event.pointerId);
    const [left, top] = this.at(pane, event);
    const swiping = state.layers.swipe && Math.abs(left - (state.swipe ?? 0.5) * pane.width) < 14;
    const tool = state.tool === "scribble" || (state.tool === "correct" && ["paint", "cut", "draw"].includes(state.correct.do));
    const drawing = tool && event.button === 0 && pane.axis === "z" && !event.altKey;
    this.drag = { pane, left, top, moved: false, kind: swiping ? "swipe" : drawing ? "draw" : "move", points: [] };
    if (this.drag.kind === "draw") this.point(left, top);
  }

  move(event) {
    const pane = this.drag?.pane ?? this.panes.paneOf(event);
    if (!pane?.scene) return;
    const [left, top] = this.at(pane, event);
    const drag = this.drag;
    if (!drag) return this.hover(pane, left, top);
    if (drag.kind === "swipe") return change({ swipe: Math.min(Math.max(left / pane.width, 0), 1) });
    if (drag.kind === "draw") return this.point(left, top);
    if (drag.moved || Math.hypot(left - drag.left, top - drag.top) > 4) {
      pane.transform.move(left - drag.left, top - drag.top, pane.plane());
      Object.assign(drag, { left, top, moved: true });
      this.panes.redraw();
    }
  }

  up(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    if (drag.kind === "draw") return this.stroke(drag);
    askSoon();
    if (drag.kind === "move" && !drag.moved) this.click(drag.pane, ...this.at(drag.pane, event), event);
  }

  leave() {
    this.tip.hidden = true;
    if (state.hovered !== null) change({ hovered: null });
  }

  label(pane, found) {
    const seg = pane.scene.seg;
    if (seg?.labels && found?.fixed) return found.fixed - 1;
    return seg?.labels && found && found.leaf >= 0 ? seg.labels[found.leaf] : null;
  }

  click(pane, left, top, event) {
    const found = pane.probe(left, top);
    if (!found) return change({ selected: [] });
    this.panes.point(pane, found.x, found.y);
    if (state.tool === "correct") return correctClick(pane, found);
    const more = event.shiftKey || event.ctrlKey || event.metaKey;
    if (state.tab === "objects" && state.tool === "select" && countedHere()) return chooseObject(countedHere().marks[found.object] ? found.object : 0, more);
    const id = this.label(pane, found);
    if (!id) return change({ selected: [] });
    if (state.tool === "merge" && state.selected.length && state.selected[0] !== id) {
      mergeClasses(currentRun(), id, state.selected[0]);
      return;
    }
    select(id, more);
  }

  hover(pane, left, top) {
    const found = pane.probe(left, top);
    const id = this.label(pane, found);
    this.tip.hidden = !found;
    if (!found) return;
    const box = pane.element.getBoundingClientRect();
    const home = this.panes.getBoundingClientRect();
    this.tip.textContent = this.describe(pane, found, id);
    const right = Math.min(left + box.left - home.left + 16, home.width - this.tip.offsetWidth - 6);
    const under = top + box.top - home.top + 18;
    const down = under + this.tip.offsetHeight > home.height ? under - this.tip.offsetHeight - 30 : under;
    this.tip.style.left = `${right}px`;
    this.tip.style.top = `${down}px`;
  }

  describe(pane, found, id) {
    const run = state.runs.get(pane.scene.run);
    const { facts, channels } = pane.scene;
    const lines = [];
    if (id) lines.push(className(run, id));
    else if (pane.scene.seg) lines.push("ignored");
    if (state.tool === "merge" && state.selected.length && id && id !== state.selected[0]) {
      lines[0] = `click: merge ${lines[0]} into ${className(run, state.selected[0])}`;
    }
    const counted = pane.scene.objects;
    if (counted?.marks[found.object]) {
      const i = counted.row.get(found.object);
      lines.push(`object ${counted.rows.indexOf(i) + 1}: ${Number(counted.columns.size[i].toPrecision(4))} ${unit(counted.sizeUnit)}`);
    }
    const real = (found.values ?? []).map((value) => Number((facts.offset + facts.scale * value).toPrecision(5)));
    lines.push(`x ${found.x}  y ${found.y}${real.length ? `   ${channels.length > 1 ? real.join(" ") : real[0]}` : ""}`);
    return lines.join("\n");
  }

  point(left, top) {
    const { pane, points } = this.drag;
    const [x, y] = pane.transform.toPicture(left, top, pane.plane(), pane.width, pane.height);
    const last = points.at(-1);
    if (last && Math.hypot(last[1] - x, last[0] - y) < 0.75) return;
    points.push([Number(y.toFixed(2)), Number(x.toFixed(2))]);
    const { value, radius } = state.tool === "correct" ? { value: -1, radius: state.correct.do === "cut" ? 0.5 : state.correct.radius } : state.scribble;
    const stroke = { value, radius, points, plane: pane.scene.index, frame: state.frame, colour: "#ffffffcc" };
    pane.scene.strokes = [...pane.scene.strokes.filter((each) => each.points !== points), stroke];
    pane.redraw();
  }

  stroke({ pane, points }) {
    if (state.tool === "correct") return correctStroke(pane, points);
    const { value, label, radius } = state.scribble;
    if (value === null && label === null) return;
    const where = { image: state.image, frame: state.frame, plane: pane.scene.index };
    send("scribble", { operation: { op: "stroke", ...where, value, run: state.run, label, radius, points: points.slice(0, 20000) } });
  }
}
