// Elements made from plain values. Whatever a server said becomes text or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** h("p", {class: "lead", onclick: f}, "text", child, …): null and false children are left out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function set(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style") Object.assign(element.style, value);
  else if (value === true) element.setAttribute(name, "");
  else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
}

/** `rows` of cells under `heads`; a head that begins with "#" is a column of numbers. */
export function table(caption, heads, rows) {
  const numbers = heads.map((head) => head.startsWith("#"));
  const shown = heads.map((head, i) => h("th", { scope: "col", class: numbers[i] && "number" }, head.replace(/^#/, "")));
  const cell = (value, i) => h("td", { class: numbers[i] && "number" }, value);
  const lines = rows.map((row) => h("tr", {}, row.map(cell)));
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, shown)), h("tbody", {}, lines)),
  );
}

/** A control with its name, and a word on it. */
export function field(name, control, hint = "") {
  return h("label", { class: "field" }, h("span", {}, name), control, hint && h("small", {}, hint));
}

/** A word in a box: the state of something. */
export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}` }, text);
}

/** A number as a person reads it: about three digits. */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  return size >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

/** Milliseconds as a person reads them. */
export function took(ms) {
  if (ms < 0.01) return "< 0.01 ms";
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  return ms < 10_000 ? `${short(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
