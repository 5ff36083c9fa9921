"use strict";
(() => {
  const bar = document.querySelector(".slider");
  if (!bar) return;
  // The middle picture becomes a stack: photo, overlay, labels. The copies share the data of the outer pictures.
  const mixed = [];
  for (const panels of document.querySelectorAll(".panels")) {
    const middle = panels.querySelector(".overlay .stack");
    const photo = panels.querySelector(".photo img");
    const labels = panels.querySelector(".labels img");
    if (!middle || !photo || !labels) continue;
    const overlay = middle.querySelector("img");
    const under = photo.cloneNode(), over = labels.cloneNode();
    over.className = "labels";
    for (const copy of [under, over]) { copy.alt = ""; copy.setAttribute("aria-hidden", "true"); }
    middle.prepend(under);
    middle.append(over);
    over.style.opacity = 0;
    mixed.push({ under, overlay, over });
  }
  const slider = bar.querySelector("input");
  const mix = () => {
    const place = slider.value / 50;
    for (const { under, overlay, over } of mixed) {
      overlay.style.opacity = Math.min(1, place);
      over.style.opacity = Math.max(0, place - 1);
      under.style.visibility = place > 1 ? "hidden" : "visible";
      overlay.style.visibility = place === 2 ? "hidden" : "visible";
    }
  };
  if (mixed.length) { slider.addEventListener("input", mix); mix(); } else { slider.hidden = bar.firstElementChild.hidden = true; }
  bar.hidden = false;

  // Enlarge: a click or Enter on a picture; arrow keys go through all pictures.
  const stacks = [...document.querySelectorAll(".stack")];
  const dialog = document.createElement("dialog");
  const words = document.createElement("span"), image = document.createElement("img"), line = document.createElement("p");
  const button = (text, label, act) => {
    const made = document.createElement("button");
    made.textContent = text;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  };
  let place = 0;
  const show = (next) => {
    place = (next + stacks.length) % stacks.length;
    const source = stacks[place].querySelector("img:not([aria-hidden])");
    image.src = source.src;
    image.alt = words.textContent = source.alt;
    image.style.imageRendering = stacks[place].parentElement.classList.contains("labels") ? "pixelated" : "auto";
  };
  line.append(words, button("←", "previous picture", () => show(place - 1)), button("→", "next picture", () => show(place + 1)),
    button("Close", "close", () => dialog.close()));
  dialog.append(line, image);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(place - 1);
    if (event.key === "ArrowRight") show(place + 1);
  });
  image.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  stacks.forEach((stack, i) => {
    stack.tabIndex = 0;
    stack.setAttribute("role", "button");
    stack.setAttribute("aria-label", "enlarge " + stack.querySelector("img:not([aria-hidden])").alt);
    const open = () => { show(i); dialog.showModal(); };
    stack.addEventListener("click", open);
    stack.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } });
  });
})();
