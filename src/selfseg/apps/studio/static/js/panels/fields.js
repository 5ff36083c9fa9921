// A form made from a method's options: one field each, with its meaning under it.

import { element } from "../html.js";

const PLACED = new Set(["n_classes"]); // has a field of its own

export function optionFields(method, values, only = null) {
  const fields = method.fields.filter((field) => !PLACED.has(field.name) && (!only || only(field)));
  const made = fields.map((field) => ({ field, input: input(field, values[field.name] ?? field.default) }));
  const rows = made.map(({ field, input: box }) =>
    element("label", { class: "option" }, element("span", { class: "name" }, field.name.replaceAll("_", " ")), box, element("small", {}, field.help)),
  );
  return {
    rows,
    // Options that differ from `values`; throws with the name of a field that cannot be read.
    read() {
      const found = {};
      for (const { field, input: box } of made) {
        const value = parse(field, box);
        const before = values[field.name] ?? field.default;
        if (JSON.stringify(value) !== JSON.stringify(before ?? null)) found[field.name] = value;
      }
      return found;
    },
  };
}

function input(field, value) {
  if (field.kind === "boolean") return element("input", { type: "checkbox", checked: Boolean(value) });
  if (field.kind === "choice") {
    const box = element("select", {}, field.choices.map((choice) => element("option", { value: choice }, choice)));
    box.value = value;
    return box;
  }
  if (field.kind === "number" || field.kind === "integer") {
    const box = element("input", { type: "number", step: field.kind === "integer" ? 1 : "any", placeholder: field.optional ? "empty" : "" });
    if (field.min !== undefined) box.min = field.min;
    if (field.max !== undefined) box.max = field.max;
    box.value = value ?? "";
    return box;
  }
  return element("input", { type: "text", spellcheck: false, value: field.kind === "array" ? (value ?? []).join(",") : (value ?? "") });
}

function parse(field, box) {
  if (field.kind === "boolean") return box.checked;
  const text = box.value.trim();
  if (field.optional && text === "") return null;
  if (field.kind === "array") return text === "" ? [] : text.split(",").map(Number);
  if (field.kind !== "number" && field.kind !== "integer") return text;
  const value = Number(text);
  if (text === "" || !Number.isFinite(value) || !box.checkValidity()) {
    box.focus();
    throw new Error(`${field.name}: expected ${box.validationMessage || "a number"}`);
  }
  return value;
}
