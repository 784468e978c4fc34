// Where the outcome of a call is shown: busy, the answer and how it came about, or the server's own words.

import { Failure, get } from "./api.js";
import { badge, field, h, took } from "./dom.js";

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
    item("age", told.cache?.startsWith("hit") && `${told.age} s`),
    item("here", told.ms !== undefined && took(told.ms)),
    item("queue", timing && took(timing.queue_ms)),
    item("compute", timing && took(timing.compute_ms)),
    item("batch", timing && timing.batch_size > 0 && String(timing.batch_size)),
    item("request", told.request && h("code", {}, told.request)),
    item("trace", told.trace && h("code", {}, told.trace)),
  );
}

/** A choice among the models that serve a task and, if said, whose first input is `reads`; `wanted`, a name and a version,
 * is chosen where it is among them; `value()` goes into a request. */
export function modelChoice(task, { reads = "", wanted = [] } = {}) {
  const select = h("select", { name: "model" }, h("option", { value: "" }, "default"));
  const note = h("p", { class: "note", hidden: true });
  const fits = (model) => model.state === "MODEL_STATE_SERVING" && task.startsWith(model.service)
    && (!reads || model.inputs[0]?.name === reads);
  get("model:listModels", { task }).then(({ reply }) => fill(reply.models.filter(fits)), (error) => say(error.message));

  function fill(models) {
    const standard = models.find((model) => model.default_for.includes(task));
    const first = standard && h("option", { value: "" }, `default: ${standard.name}`);
    const option = ({ name, version, precision }) => h("option", { value: `${name}\n${version}` }, `${name}/${version} · ${precision}`);
    select.replaceChildren(...(first ? [first] : []), ...models.map(option));
    const chosen = models.find(({ name, version }) => name === wanted[0] && (!wanted[1] || version === wanted[1]));
    if (chosen) select.value = `${chosen.name}\n${chosen.version}`;
    if (!models.length) select.append(h("option", { value: "" }, "none"));
    if (!models.length) say(`No model here serves ${task} of this kind: see “Training” in the README.`);
  }

  function say(text) {
    note.textContent = text;
    note.hidden = false;
  }

  function value() {
    const [model, version] = select.value.split("\n");
    return model ? { model, version } : {};
  }

  return { element: h("div", { class: "choice" }, field("Model", select), note), select, value };
}

/** Labels, best first, each with a bar as long as its score. */
export function bars(labels, most = 10) {
  const row = ({ name, index, score }) => {
    const [said, share] = [name || `class ${index}`, `${(100 * score).toFixed(1)} %`];
    const length = h("div", { style: { width: `${100 * score}%` } });
    const meter = { role: "meter", "aria-label": said, "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": score.toFixed(4), "aria-valuetext": share };
    return [h("span", { class: "name" }, said), h("div", { class: "meter", ...meter }, length), h("span", { class: "number" }, share)];
  };
  return h("div", { class: "bars" }, labels.slice(0, most).map(row));
}
