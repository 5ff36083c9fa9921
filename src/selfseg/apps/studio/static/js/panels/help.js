// How to, and the keys.

import { button, element } from "../html.js";

const HOW = [
  ["Merge two classes", "Choose Merge above the picture, click the region that stays, then the other. Or drag one row of the class table onto another."],
  ["Fewer, larger regions", "Pull the Detail slider. It moves all pictures of the model alike."],
  ["Name a class", "Click a region, then Rename; or click its name in the table."],
  ["Better classes", "Learn: choose a method and start. Scribble on the picture first to say what you mean."],
  ["Get the labels", "Export: choose formats, then press Export."],
];

const KEYS = [
  ["wheel, + −", "zoom"], ["drag, arrows", "move"], ["0, double click", "whole picture"], ["9", "one pixel to one"],
  ["V M B C", "select, merge, scribble, correct"], ["N", "go to where the answer to the strokes is least certain"], ["1 … 5", "classes, regions, probability, confidence, picture alone"],
  ["O, Shift+O", "more, less opacity"], ["L P H S", "boundaries, superpixels, scribbles, swipe"], ["[ ]", "finer, coarser"], ["J K", "next, previous class; with Shift beside those chosen"], ["Enter", "merge the classes chosen into the first"],
  ["Page up, Page down", "previous, next picture"], [", .", "previous, next frame or slice"], ["Space", "play, pause"], ["< >", "slices of a series of volumes"], ["T D", "three planes of a volume, 3D beside them"],
  ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"], ["Esc", "choose nothing"], ["?", "this page"],
];

class StudioHelp extends HTMLElement {
  connectedCallback() {
    const row = ([key, text]) => [element("dt", {}, key), element("dd", {}, text)];
    this.dialogue = element(
      "dialog", { class: "help" },
      element("h2", {}, "How to"), element("dl", { class: "how" }, HOW.flatMap(row)),
      element("h2", {}, "Keys"), element("dl", { class: "keys" }, KEYS.flatMap(row)),
      element("p", { class: "hint" }, "Everything is kept in the project's folder as you go. Closing the page stops no run."),
      element("div", { class: "buttons" }, button("Close", () => this.dialogue.close(), { class: "main" })),
    );
    this.append(this.dialogue);
  }

  open() {
    if (!this.dialogue.open) this.dialogue.showModal();
  }
}

customElements.define("studio-help", StudioHelp);
