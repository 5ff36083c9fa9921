// Short lines at the foot of the page: what was done, what could not be done.

import { element } from "../html.js";

const STAYS = { info: 4500, error: 14000 };

class StudioNotices extends HTMLElement {}

customElements.define("studio-notices", StudioNotices);

export function notice(text, kind = "info") {
  const home = document.querySelector("studio-notices");
  if ([...home.children].some((other) => other.firstChild.textContent === text)) return;
  const line = element("p", { class: kind, role: kind === "error" ? "alert" : "status" }, element("span", {}, text));
  line.append(element("button", { type: "button", title: "Close", "aria-label": "Close", onclick: () => line.remove() }, "×"));
  home.append(line);
  setTimeout(() => line.remove(), STAYS[kind] ?? 5000);
}
