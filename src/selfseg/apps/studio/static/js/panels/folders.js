// A dialogue over the folders that the studio was given: pictures or a folder are chosen there.

import { button, element } from "../html.js";

// Show the folders; call `chosen` with the places that were ticked, or with the one folder that is shown.
export function chooseFrom({ title, action, folderOnly = false, extra = [], chosen }) {
  const list = element("ul", { class: "folders", "aria-label": "Folder" });
  const path = element("nav", { class: "path", "aria-label": "Where" });
  const hint = element("p", { class: "hint" });
  const ticked = new Set();
  let here = "";
  let asked = null; // the place that was asked for last
  const go = button(action, () => finish(), { class: "main" });
  const close = () => dialogue.close();
  const others = extra.map(([text, act]) => button(text, () => (close(), act())));
  const foot = element("div", { class: "buttons" }, others, element("span", { class: "grow" }), button("Cancel", close), go);
  const dialogue = element("dialog", { class: "browse", onclose: () => dialogue.remove() }, element("h2", {}, title), path, list, hint, foot);

  function finish() {
    close();
    chosen(ticked.size ? [...ticked] : [here]);
  }

  function mark() {
    go.textContent = ticked.size ? `${action} ${ticked.size}` : here ? `${action} this folder` : action;
    go.disabled = !ticked.size && !here;
  }

  function tick(place, on) {
    if (on) ticked.add(place);
    else ticked.delete(place);
    mark();
  }

  function row(found, isFolder) {
    const box = !folderOnly && element("input", { type: "checkbox", checked: ticked.has(found.place), onchange: () => tick(found.place, box.checked) });
    if (isFolder) return element("li", {}, box, button(`${found.name}/`, () => show(found.place), { class: "open", title: "Open" }));
    return element("li", {}, element("label", {}, box, found.name));
  }

  async function show(place) {
    asked = place;
    go.disabled = true; // until the list is that of the folder that was asked for
    const answer = await fetch(`/api/folder?${new URLSearchParams({ place })}`);
    const found = await answer.json();
    if (asked !== place) return;
    if (!answer.ok) {
      hint.textContent = found.error;
      mark();
      return;
    }
    here = found.place;
    const parts = here ? here.split("/") : [];
    const steps = parts.map((part, i) => [" / ", button(part, () => show(parts.slice(0, i + 1).join("/")), { class: "open" })]);
    path.replaceChildren(button("Folders", () => show(""), { class: "open" }), ...steps.flat());
    const pictures = folderOnly ? [] : found.pictures;
    list.replaceChildren(...found.folders.map((each) => row(each, true)), ...pictures.map((each) => row(each, false)));
    const more = found.more ? `; ${found.more} further entries are not listed` : "";
    hint.textContent = here ? `${found.pictures.length} ${found.pictures.length === 1 ? "picture" : "pictures"} here${more}` : "The folders that the studio was given. Start it with --allow DIR for more.";
    mark();
  }

  document.body.append(dialogue);
  dialogue.showModal();
  show("");
}
