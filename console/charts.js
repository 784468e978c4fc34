// Small charts as SVG, drawn by hand. They know numbers and names, no services.

import { h, s, short } from "./dom.js";

const [WIDTH, HEIGHT] = [320, 96];

/** A chart over time of several lines: `push({name: value, …})` adds a point to each. `share`: the scale ends at 1. */
export function liveChart(title, unit, names, { points = 60, share = false } = {}) {
  const past = names.map(() => []);
  const now = h("span", { class: "now" }, "–");
  const figure = h("figure", { class: "chart" }, h("figcaption", {}, h("span", {}, title), now));
  const lines = names.map((_, i) => s("polyline", { class: `line c${i}`, points: "" }));
  const ends = names.map((_, i) => s("circle", { class: `end c${i}`, r: 0 }));
  const top = s("text", { class: "tick", x: WIDTH - 2, y: 10, "text-anchor": "end" });
  const drawing = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title }, grid(), lines, ends, top);
  const legend = h("ul", { class: "legend" }, names.map((name, i) => h("li", { class: `c${i}` }, name)));
  figure.append(drawing, ...(names.length > 1 ? [legend] : []));

  function push(values) {
    names.forEach((name, i) => past[i].splice(0, Math.max(0, past[i].push(values[name]) - points)));
    const most = share ? 1 : rounded(Math.max(0, ...past.flat().filter(Number.isFinite)));
    const x = (i) => WIDTH - 3 - (past[0].length - 1 - i) * ((WIDTH - 3) / (points - 1));
    const y = (value) => HEIGHT - 4 - (value / most) * (HEIGHT - 18);
    lines.forEach((line, l) => line.setAttribute("points", places(past[l], x, y)));
    ends.forEach((end, l) => mark(end, past[l].at(-1), y));
    top.textContent = share ? "100 %" : `${short(most)} ${unit}`;
    const said = names.map((name) => shown(values[name]));
    now.textContent = said.join(" · ");
    drawing.setAttribute("aria-label", `${title}: ${names.map((name, i) => `${name} ${said[i]}`).join(", ")}`);
  }

  const shown = (value) => (!Number.isFinite(value) ? "–" : share ? `${(100 * value).toFixed(0)} %` : `${short(value)} ${unit}`);
  return { element: figure, push };
}

/** Lines over steps: `[{name, values, start, kind}]`; `band`: {low, high, start} lies beneath them. */
export function plot(title, lines, { band = null, range = null, height = 260 } = {}) {
  const all = [...lines.flatMap((line) => line.values), ...(band ? [...band.low, ...band.high] : [])];
  const [low, high] = range ?? spread(all);
  const last = Math.max(1, ...lines.map(({ start = 0, values }) => start + values.length - 1));
  const [left, wide, tall] = [48, 1000, height];
  const x = (i) => left + (i / last) * (wide - left - 8);
  const y = (value) => tall - 20 - ((value - low) / (high - low)) * (tall - 32);
  const drawn = lines.map(({ values, start = 0, kind }) =>
    s("polyline", { class: `line ${kind}`, points: places(values, (i) => x(i + start), y) }));
  const area = band && s("polygon", {
    class: "band",
    points: `${places(band.low, (i) => x(i + band.start), y)} ${places(band.high, (i) => x(i + band.start), y).split(" ").reverse().join(" ")}`,
  });
  const ticks = scale(low, high).map((value) => [
    s("line", { class: "grid", x1: left, x2: wide - 8, y1: y(value), y2: y(value) }),
    s("text", { class: "tick", x: left - 6, y: y(value) + 3, "text-anchor": "end" }, short(value)),
  ]);
  const steps = [0, last].map((i) =>
    s("text", { class: "tick", x: x(i), y: tall - 4, "text-anchor": i ? "end" : "start" }, i ? `step ${i}` : "0"));
  const drawing = s("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": title }, ticks, steps, area ?? [], drawn);
  const legend = h("ul", { class: "legend" }, lines.map(({ name, kind }) => h("li", { class: kind }, name)));
  return h("figure", { class: "plot" }, h("figcaption", {}, title), drawing, lines.length > 1 && legend);
}

function grid() {
  return s("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT - 4, y2: HEIGHT - 4 });
}

function places(values, x, y) {
  return values.map((value, i) => (Number.isFinite(value) ? `${x(i).toFixed(1)},${y(value).toFixed(1)}` : "")).filter(Boolean).join(" ");
}

function spread(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low) * 0.05 || 1;
  return [low - room, high + room];
}

/** Round numbers within these bounds, five at most. */
function scale(low, high) {
  const step = rounded((high - low) / 5);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

/** A dot where a line is now, which alone shows a line of one point. */
function mark(end, value, y) {
  const known = Number.isFinite(value);
  const place = known ? { cx: WIDTH - 3, cy: y(value).toFixed(1), r: 2.5 } : { r: 0 };
  for (const [name, one] of Object.entries(place)) end.setAttribute(name, one);
}

function rounded(value) {
  const unit = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= value) ?? 1;
}
