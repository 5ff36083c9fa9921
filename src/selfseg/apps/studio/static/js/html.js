// Small help for building parts of the page: no text ever becomes markup.

export function element(tag, fields = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name === "dataset") Object.assign(made.dataset, value);
    else if (name === "style") made.style.cssText = value;
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const button = (text, onclick, fields = {}) => element("button", { type: "button", onclick, ...fields }, text);

// Units as they are written beside numbers.
export const unit = (text) => (text ?? "").replace("pixel", "px").replace("micrometer", "µm").replace("nanometer", "nm").replace("millimeter", "mm");

export const percent = (share) =>
  share >= 0.0995 ? `${Math.round(100 * share)} %` : share > 0 ? `${(100 * share).toFixed(share < 0.0095 ? 2 : 1)} %` : "0 %";

export const hex = (rgba) => `#${rgba.slice(0, 3).map((value) => value.toString(16).padStart(2, "0")).join("")}`;

export const fromHex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)).concat(255);

export const clock = (seconds) =>
  seconds < 60 ? `${Math.round(seconds)} s` : `${Math.floor(seconds / 60)} min ${String(Math.round(seconds % 60)).padStart(2, "0")} s`;
