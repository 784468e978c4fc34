// Every model, and its card: what it is, how it was judged, what it takes and gives.

import { get } from "../api.js";
import { badge, h, short, table } from "../dom.js";
import { footer, panel } from "../panel.js";

const TRY = {
  "generation.generate": "chat",
  "vision.classify": "pictures",
  "sequence.session": "speech",
  "tokenization.tokenize": "tokens",
  "sequence.transduce": "text",
  "sequence.embed": "text",
  "sequence.classify": "text",
  "sequence.forecast": "series",
};

export function models([name, version]) {
  const shown = panel(name ? `Model ${name}` : "Models");
  shown.run(name ? () => card(name, version ?? "") : list);
  return { element: shown.element, stop: shown.stop };
}

async function list() {
  const { reply, told } = await get("model:listModels");
  const cards = [...versions(reply.models).values()].map((served) => {
    const [model] = served;
    return h("li", {},
      h("a", { href: `#models/${placed(model)}` }, `${model.name}/${model.version}`),
      h("p", {}, model.description || model.architecture),
      h("p", {}, served.map(state), model.tasks.map((task) => [badge(task), " "])));
  });
  return [h("ul", { class: "cards" }, cards), footer(told)];
}

/** Each version once, with every service that has it. */
function versions(models) {
  const found = new Map();
  for (const model of models) found.set(placed(model), [...(found.get(placed(model)) ?? []), model]);
  return found;
}

const placed = ({ name, version }) => `${encodeURIComponent(name)}/${encodeURIComponent(version)}`;
const KINDS = { MODEL_STATE_SERVING: "good", MODEL_STATE_AVAILABLE: "" };

/** At which service, and how it is there unless it serves. */
function state({ service, state }) {
  const word = state === "MODEL_STATE_SERVING" ? service : `${service}: ${state.replace("MODEL_STATE_", "").toLowerCase()}`;
  return [badge(word, KINDS[state] ?? "bad"), " "];
}

async function card(name, version) {
  const { reply: { model }, told } = await get("model:getModel", version ? { model: name, version } : { model: name });
  const pages = [...new Set(model.tasks.map((task) => TRY[task]).filter(Boolean))];
  return [
    h("p", {}, h("a", { href: "#models" }, "All models")),
    h("h3", {}, `${model.name}/${model.version}`),
    h("p", { class: "lead" }, model.description),
    h("p", {}, pages.map((page) => [h("a", { class: "button", href: `#${page}/${placed(model)}` }, `Try it: ${page}`), " "])),
    facts(model),
    table("Inputs and outputs", ["side", "name", "type", "shape"], [
      ...model.inputs.map((one) => ["in", one.name, one.datatype, shape(one)]),
      ...model.outputs.map((one) => ["out", one.name, one.datatype, shape(one)]),
    ]),
    part("Card", model.card, true),
    part("Preprocessing", model.preprocessing),
    part("Limits", model.limits),
    model.class_names.length > 0 && h("details", {}, h("summary", {}, `${model.class_names.length} classes`),
      h("ol", { class: "classes", start: 0 }, model.class_names.map((one) => h("li", {}, one)))),
    footer(told),
  ].filter(Boolean);
}

const shape = (one) => one.shape.map((size) => (Number(size) < 0 ? "any" : size)).join(" × ");

function facts(model) {
  const rows = {
    state: badge(model.state.replace("MODEL_STATE_", ""), KINDS[model.state] ?? "bad"),
    service: model.service, tasks: model.tasks.join(", "), architecture: model.architecture,
    runner: [model.runner, model.precision].join(" "), labels: model.version_labels.join(", "),
    "default for": model.default_for.join(", "), licence: model.licence, source: model.source,
    digest: h("code", {}, model.digest),
  };
  const told = Object.entries(rows).filter(([, value]) => value && value !== " ");
  return h("dl", { class: "facts" }, told.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function part(title, value, open = false) {
  if (!value || Object.keys(value).length === 0) return false;
  return h("details", { open }, h("summary", {}, title), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, tree(value)));
}

/** JSON as nested lists; lists of alike objects as tables. */
function tree(value) {
  if (Array.isArray(value)) return value.every(isPlain) ? h("span", {}, value.map(plain).join(", ")) : rows(value);
  if (isPlain(value)) return h("span", {}, plain(value));
  const lines = Object.entries(value).map(([name, inner]) => h("div", {}, h("dt", {}, name), h("dd", {}, tree(inner))));
  return h("dl", { class: "tree" }, lines);
}

function rows(values) {
  const names = [...new Set(values.flatMap((one) => (isPlain(one) ? [] : Object.keys(one))))];
  return table("", names, values.map((one) => names.map((name) => (one?.[name] === undefined ? "" : tree(one[name])))));
}

const isPlain = (value) => value === null || typeof value !== "object";
const plain = (value) => (typeof value === "number" && !Number.isInteger(value) ? short(value) : String(value ?? "–"));
