// Series: forecasts with their quantile band, and the class of a whole series.

import { Failure, post } from "../api.js";
import { plot } from "../charts.js";
import { field, h, table } from "../dom.js";
import { bars, footer, modelChoice, panel } from "../panel.js";

export function series(wanted) {
  const parts = [forecasts(wanted), classes(wanted)];
  return { element: h("div", {}, parts.map(({ element }) => element)), stop: () => parts.forEach(({ stop }) => stop()) };
}

/** Rows of numbers, a step a row; a single row is a series of one value a step. */
function numbers(area) {
  const rows = area.value.trim().split(/\n+/).map((row) => row.trim().split(/[\s,;]+/).filter(Boolean));
  const steps = rows.length === 1 ? rows[0].map((one) => [one]) : rows;
  const features = steps[0]?.length ?? 0;
  const odd = steps.findIndex((step) => step.length !== features || step.some((one) => Number.isNaN(Number(one))));
  if (!features || odd >= 0) throw new Error(`row ${odd + 1}: give numbers, and as many as in the first row`);
  return { values: steps.flat().map(Number), features };
}

/** An eleven-year cycle, higher and lower in turn, for a first look. */
function example() {
  const value = (year) => 55 * (1 - Math.cos((2 * Math.PI * year) / 11)) * (1 + 0.35 * Math.sin(year / 7));
  return Array.from({ length: 66 }, (_, year) => value(year).toFixed(1)).join(" ");
}

function forecasts(wanted) {
  const model = modelChoice("sequence.forecast", { wanted });
  const area = h("textarea", { name: "series", class: "code", rows: 5 }, example());
  const horizon = h("input", { type: "number", name: "horizon", min: 1, value: 11 });
  const spread = h("select", { name: "band" }, h("option", { value: "0.1 0.5 0.9" }, "10 to 90 %"),
    h("option", { value: "0.25 0.5 0.75" }, "25 to 75 %"), h("option", { value: "" }, "none"));
  const shown = panel("Forecast");

  async function ask(signal) {
    const given = numbers(area);
    const quantiles = spread.value.split(" ").filter(Boolean).map(Number);
    const request = { ...model.value(), series: given, horizon_steps: Number(horizon.value), quantiles };
    const { reply, told } = await post("sequence:forecast", request, { signal });
    return [drawn(given, reply), told_numbers(given.features, reply), footer(told)];
  }

  const form = h("form", { onsubmit: (event) => (event.preventDefault(), shown.run(ask)) },
    field("Series", area, "Numbers; for several values a step, a row a step. The first is drawn."),
    h("div", { class: "row" }, model.element, field("Steps ahead", horizon), field("Band", spread), h("button", { class: "first" }, "Forecast")));
  return { element: h("div", { class: "card" }, h("h3", {}, "Forecast"), form, shown.element), stop: shown.stop };
}

/** The first value of each step: what was given, then what is expected, from the last known step on. */
function drawn({ values, features }, reply) {
  const first = (all) => all.filter((_, i) => i % features === 0);
  const past = first(values);
  const start = past.length - 1;
  const on = (all) => [past.at(-1), ...first(all)];
  const band = reply.quantiles.length && { low: on(reply.quantiles[0].values), high: on(reply.quantiles.at(-1).values), start };
  const lines = [{ name: "given", values: past, kind: "given" }, { name: "forecast", values: on(reply.values), start, kind: "forecast" }];
  return plot("Given, and expected", lines, { band });
}

function told_numbers(features, { values, quantiles }) {
  const heads = ["#step", "#forecast", ...quantiles.map(({ quantile }) => `#${(100 * quantile).toFixed(0)} %`)];
  const steps = values.filter((_, i) => i % features === 0);
  const rows = steps.map((value, i) => [`+${i + 1}`, value.toPrecision(5), ...quantiles.map((one) => one.values[i * features].toPrecision(5))]);
  return h("details", {}, h("summary", {}, "Numbers"), table("", heads, rows));
}

function classes(wanted) {
  const model = modelChoice("sequence.classify", { reads: "series", wanted });
  const area = h("textarea", { name: "whole", class: "code", rows: 5, placeholder: "0.1 0.2 0.3\n0.2 0.1 0.4\n…" });
  const shown = panel("Class of the series");

  async function ask(signal) {
    if (!area.value.trim()) throw new Failure("INVALID_ARGUMENT", "series: give a row of numbers for each step");
    const given = numbers(area);
    const { reply, told } = await post("sequence:classify", { ...model.value(), series: { values: [given] } }, { signal });
    return [bars(reply.results[0].labels), footer(told)];
  }

  const form = h("form", { onsubmit: (event) => (event.preventDefault(), shown.run(ask)) },
    field("Series", area, "A row a step, as many numbers in each as the model reads (its card says)."),
    h("div", { class: "row" }, model.element, h("button", { class: "first" }, "Classify")));
  const lead = h("p", { class: "lead" }, "With a model of yours that reads whole series, as of ", h("code", {}, "maas train lstm-classify"), ".");
  return { element: h("div", { class: "card" }, h("h3", {}, "Classify"), lead, form, shown.element), stop: shown.stop };
}
