// Where the outcome of a call is shown: busy, the answer and how it came about, or the server's own words.

import { Failure, get } from "./api.js";
import { badge, field, h, short } from "./dom.js";

/** A region that tells screen readers what came. `run(work)` shows what `await work(signal, show)` makes, or its error. */
export function panel(name) {
  const body = h("div", { class: "answer" });
  const element = h("section", { class: "panel", "aria-live": "polite", "aria-label": name }, body);
  let current = null;

  async function run(work) {
    current?.abort();
    const mine = (current = new AbortController());
    const show = (...nodes) => mine === current && body.replaceChildren(...nodes.flat(Infinity).filter(Boolean));
    element.setAttribute("aria-busy", "true");
    try {
      const nodes = await work(mine.signal, show);
      if (nodes) show(nodes);
    } catch (error) {
      if (error.name !== "AbortError") show(problem(error));
    } finally {
      if (mine === current) element.removeAttribute("aria-busy");
    }
  }

  return { element, run, stop: () => current?.abort() };
}

/** An error as the server says it: code, text, each field with what is wrong, and its request. */
export function problem(error) {
  if (!(error instanceof Failure)) return h("div", { class: "problem", role: "alert" }, h("p", {}, error.message));
  const rows = error.violations.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]);
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, badge(error.code, "bad"), " ", error.reason && badge(error.reason)),
    h("p", {}, error.message),
    rows.length > 0 && h("dl", {}, rows),
    footer(error.told),
  );
}

/** How a call went: who answered, the cache, the times, and the ids by which logs and traces know it. */
export function footer(told) {
  const item = (name, value) => value && h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const { by, timing } = told;
  return h(
    "dl",
    { class: "told" },
    item("model", by && `${by.model}/${by.version}`),
    item("cache", told.cache && badge(told.cache, told.cache.startsWith("hit") ? "good" : "")),
    item("age", told.age && `${told.age} s`),
    item("here", told.ms !== undefined && `${short(told.ms)} ms`),
    item("queue", timing && `${short(timing.queue_ms)} ms`),
    item("compute", timing && `${short(timing.compute_ms)} ms`),
    item("batch", timing && timing.batch_size > 0 && String(timing.batch_size)),
    item("request", told.request && h("code", {}, told.request)),
    item("trace", told.trace && h("code", {}, told.trace)),
  );
}

/** A choice among the models that serve a task; `value()` is what goes into a request. */
export function modelChoice(task, name = "Model") {
  const select = h("select", { name: "model" }, h("option", { value: "" }, "default"));
  const note = h("p", { class: "note", hidden: true });
  get("model:listModels", { task }).then(({ reply }) => fill(reply.models), (error) => say(error.message));

  function fill(models) {
    const serving = models.filter((model) => model.state === "MODEL_STATE_SERVING");
    const standard = serving.some((model) => model.default_for?.includes(task));
    if (!standard && serving.length) select.replaceChildren();
    for (const model of serving) {
      const precision = model.precision && ` · ${model.precision}`;
      select.append(h("option", { value: `${model.name}\n${model.version}` }, `${model.name}/${model.version}${precision}`));
    }
    if (!serving.length) say(`No model here serves ${task}: see “Training” in the README.`);
  }

  function say(text) {
    note.textContent = text;
    note.hidden = false;
  }

  function value() {
    const [model, version] = select.value.split("\n");
    return model ? { model, version } : {};
  }

  return { element: h("div", { class: "choice" }, field(name, select), note), select, value };
}

/** Labels, best first, each with a bar as long as its score. */
export function bars(labels, most = 10) {
  const row = ({ name, index, score }) => [
    h("span", { class: "name" }, name || `class ${index}`),
    h("meter", { min: 0, max: 1, value: score, "aria-label": name || `class ${index}` }),
    h("span", { class: "number" }, `${(100 * score).toFixed(1)} %`),
  ];
  return h("div", { class: "bars" }, labels.slice(0, most).map(row));
}
