// Texts into other things: sounds, likeness, classes and the words that decided.

import { post } from "../api.js";
import { field, h, short, table } from "../dom.js";
import { bars, footer, modelChoice, panel } from "../panel.js";

export function text(wanted) {
  const parts = [pronounced(wanted), alike(wanted), classified(wanted)];
  return { element: h("div", { class: "columns" }, parts.map(({ element }) => element)), stop: () => parts.forEach(({ stop }) => stop()) };
}

/** A card with its controls; `ask(signal)` makes what is shown. */
function card(title, lead, controls, button, ask) {
  const shown = panel(title);
  const submitted = (event) => {
    event.preventDefault();
    shown.run(ask);
  };
  const form = h("form", { onsubmit: submitted }, controls, h("div", { class: "actions" }, h("button", { class: "first" }, button)));
  const element = h("div", { class: "card" }, h("h3", {}, title), h("p", { class: "lead" }, lead), form, shown.element);
  return { element, stop: shown.stop };
}

function lines(area) {
  return area.value.split("\n").map((line) => line.trim()).filter(Boolean);
}

function pronounced(wanted) {
  const model = modelChoice("sequence.transduce", { wanted });
  const words = h("textarea", { name: "transduce", rows: 3 }, "computer\nknowledge");
  const ask = async (signal) => {
    const texts = lines(words);
    const { reply, told } = await post("sequence:transduce", { ...model.value(), texts }, { signal });
    return [table("Phonemes", ["text", "said"], reply.results.map((one, i) => [texts[i], h("code", {}, one.text)])), footer(told)];
  };
  return card("Pronounce", "Letters to phonemes, a word a line.", [field("Words", words), model.element], "Transduce", ask);
}

function alike(wanted) {
  const model = modelChoice("sequence.embed", { reads: "input_ids", wanted });
  const words = h("textarea", { name: "embed", rows: 4 }, "A cat sleeps on the sofa.\nA kitten naps on the couch.\nShares fell sharply today.");
  const ask = async (signal) => {
    const values = lines(words);
    const request = { ...model.value(), texts: { values }, readable: true, truncate: true };
    const { reply, told } = await post("sequence:embed", request, { signal });
    const width = Number(reply.embeddings.shape[1]);
    const vectors = values.map((_, i) => reply.embeddings.float_values.slice(i * width, (i + 1) * width));
    const rows = vectors.map((one, i) => [`${i + 1}`, values[i], ...vectors.map((other) => likeness(one, other))]);
    return [table(`Cosine of each pair, ${width} dimensions`, ["line", "text", ...values.map((_, i) => `#${i + 1}`)], rows), footer(told)];
  };
  return card("Compare", "How alike texts are, a text a line.", [field("Texts", words), model.element], "Embed", ask);
}

function likeness(one, other) {
  const cosine = one.reduce((sum, value, i) => sum + value * other[i], 0); // both of length 1
  const share = Math.max(0, Math.round(100 * cosine));
  return h("span", { class: "heatcell", style: { backgroundColor: `color-mix(in srgb, var(--warm) ${share * 0.5}%, transparent)` } }, cosine.toFixed(2));
}

function classified(wanted) {
  const model = modelChoice("sequence.classify", { reads: "input_ids", wanted });
  const words = h("textarea", { name: "classify", rows: 4 }, "Dear winner, send your bank details now to claim the prize!");
  const reasons = h("input", { type: "checkbox", name: "reasons" });
  const ask = async (signal) => {
    const request = { ...model.value(), texts: { values: [words.value] } };
    const { reply, told } = await post("sequence:classify", request, { signal });
    const why = reasons.checked ? await decided(model.value(), words.value, signal) : [];
    return [bars(reply.results[0].labels), footer(told), ...why];
  };
  const check = h("label", { class: "field check" }, reasons, h("span", {}, "with the words that decided"));
  return card("Classify", ["With a model of yours that reads text, as of ", h("code", {}, "maas train bert-classify"), "."], [field("Text", words), model.element, check], "Classify", ask);
}

async function decided(model, text, signal) {
  const { reply, told } = await post("sequence:explain", { ...model, text }, { signal });
  const most = Math.max(...reply.attributions.map(Math.abs)) || 1;
  const words = reply.tokens.map((token, i) => {
    const value = reply.attributions[i];
    const colour = value > 0 ? "var(--bad)" : "var(--accent)";
    const share = (45 * Math.abs(value)) / most;
    return h("span", { class: "word", title: short(value), style: { backgroundColor: `color-mix(in srgb, ${colour} ${share}%, transparent)` } }, token);
  });
  return [h("h3", {}, `What spoke for “${reply.target.name || reply.target.index}”`), h("p", { class: "tokens" }, words),
    h("p", { class: "note" }, "Red spoke for it, blue against; the stronger, the more."), footer(told)];
}
