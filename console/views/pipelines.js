// The pipelines stored at the gateway, each called by its name with its own inputs; steps are told as they end.

import { base64, Failure, get, stream } from "../api.js";
import { badge, field, h, took } from "../dom.js";
import { footer, panel } from "../panel.js";

export function pipelines() {
  const listed = panel("Pipelines");
  const parts = [];
  listed.run(async (signal) => {
    const { reply } = await get("gateway:listPipelines", {}, { signal });
    if (!reply.pipelines.length) return [h("p", {}, "None is stored at this gateway.")];
    parts.push(...reply.pipelines.map(form));
    return parts.map(({ element }) => element);
  });
  return { element: listed.element, stop: () => [listed, ...parts].forEach((part) => part.stop()) };
}

function form({ name, description, inputs, steps }) {
  const controls = Object.entries(inputs).map(([input, { type, default: standard }]) => control(input, type, standard));
  const shown = panel(`Pipeline ${name}`);

  async function ask(signal, show) {
    const values = Object.fromEntries((await Promise.all(controls.map((one) => one.value()))).filter(([, value]) => value));
    const ended = [];
    let last = {};
    for await (const { reply, told } of stream("gateway:runPipelineStream", { name, inputs: values }, { signal })) {
      ended.push(result(reply.result));
      last = told;
      show(ended);
    }
    return [...ended, footer(last)];
  }

  const submitted = (event) => (event.preventDefault(), shown.run(ask));
  const element = h("form", { class: "pipeline", onsubmit: submitted, "data-name": name },
    h("h3", {}, name), h("p", { class: "lead" }, description),
    h("p", {}, "Steps: ", steps.map((step) => [badge(step.name), " "])),
    controls.map((one) => one.element), h("div", { class: "actions" }, h("button", { class: "first" }, "Run")), shown.element);
  return { element, stop: shown.stop };
}

/** A control for one input; `value()` is [name, Input], without a value where nothing was given. */
function control(name, type, standard) {
  const preset = standard?.[type];
  const [element, read] = {
    image: () => chosen(name),
    text: () => typed(h("textarea", { name, rows: 2 }, preset ?? ""), (text) => text),
    integer: () => typed(h("input", { type: "number", name, step: 1, value: preset ?? "" }), (text) => text),
    number: () => typed(h("input", { type: "number", name, step: "any", value: preset ?? "" }), Number),
    flag: () => ticked(h("input", { type: "checkbox", name, checked: preset === true })),
  }[type]?.() ?? typed(h("textarea", { name, class: "code", rows: 3, placeholder: `JSON of a ${type}` }, preset ? JSON.stringify(preset) : ""), json(name));
  const value = async () => {
    const given = await read();
    return [name, given === undefined ? undefined : { [type]: given }];
  };
  return { element: field(name, element, type), value };
}

function chosen(name) {
  const input = h("input", { type: "file", accept: "image/*", name });
  return [input, async () => (input.files.length ? { encoded: await base64(input.files[0]) } : undefined)];
}

const typed = (element, read) => [element, () => (element.value.trim() ? read(element.value) : undefined)];
const ticked = (element) => [element, () => element.checked];

function json(name) {
  return (text) => {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Failure("INVALID_ARGUMENT", `inputs.${name}: is no JSON: ${error.message}`);
    }
  };
}

/** One step's end: its reply in a line, whole below; or its status. */
function result({ id, cache, elapsed_ms, status, ...reply }) {
  const [kind, told] = Object.entries(reply)[0] ?? ["", {}];
  const line = status ? [badge("failed", "bad"), ` ${status.message}`] : said(told);
  return h("section", { class: "step", "aria-label": `step ${id}` },
    h("p", {}, badge(id), " ", kind && badge(kind), " ", cache && badge(cache, cache.startsWith("hit") ? "good" : ""), ` ${took(elapsed_ms)}`),
    h("p", { class: "said" }, line),
    h("details", {}, h("summary", {}, "Whole"), h("pre", {}, JSON.stringify(status ?? told, null, 2))));
}

/** The gist of a reply, whatever its kind. */
function said(reply) {
  const labels = reply.results?.[0]?.labels;
  if (labels) return labels.slice(0, 3).map((label) => `${label.name || label.index} ${(100 * label.score).toFixed(1)} %`).join(", ");
  const texts = reply.completions ?? reply.results;
  if (texts) return texts.map((one) => one.text).join(" · ");
  return (reply.texts ?? reply.counts ?? []).join(" · ") || reply.text || "";
}
