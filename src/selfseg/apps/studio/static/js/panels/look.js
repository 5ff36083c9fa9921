// The first page: quick segmentations side by side. A click makes one of them the method.

import { button, element } from "../html.js";
import { send } from "../socket.js";
import { change, on, state } from "../store.js";
import { notice } from "./notices.js";

class StudioLook extends HTMLElement {
  connectedCallback() {
    this.text = element("p", { class: "hint" });
    this.tiles = element("div", { class: "tiles" });
    this.command = element("pre", { hidden: true });
    this.again = button("Look again", () => send("look"));
    this.append(element("h2", {}, "Choose by eye"), this.text, this.tiles, this.command, this.again);
    on(["look", "project"], () => this.fill());
    this.fill();
  }

  fill() {
    const { tiles, total, working, error } = state.look;
    this.hidden = !state.project?.images.length;
    this.again.hidden = working;
    const left = working ? ` Making ${tiles.length + 1} of ${total || "…"}.` : "";
    this.text.textContent = error || `Click the picture that comes nearest to what you want: its method segments all pictures.${left}`;
    this.tiles.replaceChildren(...tiles.map((tile) => this.tile(tile)));
  }

  tile(tile) {
    const pictures = tile.pictures.map((uri) => element("img", { src: uri, alt: tile.title }));
    const mark = tile.suggested ? element("b", { class: "badge", title: tile.suggested }, "suggested") : null;
    return element(
      "button",
      { type: "button", class: "tile", title: tile.suggested || tile.command, disabled: Boolean(tile.error), onclick: () => this.choose(tile), dataset: { method: tile.method, preset: tile.preset } },
      element("span", { class: "name" }, tile.title, mark),
      element("small", {}, tile.purpose),
      element("span", { class: "row" }, ...pictures),
      element("small", {}, tile.error || tile.facts),
    );
  }

  choose(tile) {
    this.command.textContent = tile.command;
    this.command.hidden = false;
    const { title, method, preset, options } = tile;
    if (send("start", { name: title, method, preset, options, like: state.run })) {
      notice(`${title}: segmenting all pictures.`);
      change({ tab: "classes" });
    }
  }
}

customElements.define("studio-look", StudioLook);
