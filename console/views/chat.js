// A conversation, token by token, with a stop button.

import { Failure, stream } from "../api.js";
import { badge, field, h, short } from "../dom.js";
import { footer, modelChoice, problem } from "../panel.js";

export function chat(wanted) {
  const model = modelChoice("generation.generate", { wanted });
  const number = (name, value, attributes) => h("input", { type: "number", name, value, ...attributes });
  const temperature = number("temperature", 0, { min: 0, max: 2, step: 0.1 });
  const most = number("max_tokens", 256, { min: 1, step: 1 });
  const seed = number("seed", "", { min: 0, step: 1 });
  const system = h("input", { name: "system", placeholder: "none" });
  const log = h("ol", { class: "talk", role: "log", "aria-label": "Conversation" });
  const words = h("textarea", { name: "message", rows: 2, onkeydown: entered });
  const send = h("button", { class: "first" }, "Send");
  const stop = h("button", { type: "button", disabled: true, onclick: () => current?.abort() }, "Stop");
  const fresh = h("button", { type: "button", onclick: forget }, "New conversation");
  const form = h("form", { onsubmit: submitted }, field("Message", words, "Enter sends, Shift and Enter begin a line."),
    h("div", { class: "actions" }, send, stop, fresh));
  let messages = [];
  let current = null;

  function entered(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  }

  function submitted(event) {
    event.preventDefault();
    const content = words.value.trim();
    if (!content || current) return;
    words.value = "";
    say({ role: "user", content });
    answer();
  }

  function forget() {
    current?.abort();
    messages = [];
    log.replaceChildren();
    words.focus();
  }

  function say(message) {
    messages.push(message);
    return line(message.role, h("p", { class: "said" }, message.content));
  }

  function line(role, ...content) {
    const item = h("li", { class: role }, h("span", { class: "who" }, role), content);
    log.append(item);
    item.scrollIntoView({ block: "nearest" });
    return item;
  }

  function request() {
    const first = system.value.trim() ? [{ role: "system", content: system.value.trim() }] : [];
    const sampling = { temperature: Number(temperature.value) || 0, ...(seed.value === "" ? {} : { seed: seed.value }) };
    const stopping = most.value === "" ? {} : { max_tokens: Number(most.value) };
    return { ...model.value(), chat: { messages: [...first, ...messages] }, sampling, stopping };
  }

  async function answer() {
    const mine = (current = new AbortController());
    const asked = messages;
    const text = h("p", { class: "said", "aria-busy": "true" });
    const item = line("assistant", text);
    [send.disabled, stop.disabled] = [true, false];
    const heard = { text: "", last: null, told: null, first: NaN };
    try {
      await listen(mine.signal, heard, text);
      asked.push({ role: "assistant", content: heard.text });
      item.append(summary(heard));
    } catch (error) {
      if (error.name !== "AbortError") item.append(problem(error));
      else item.append(badge("stopped"));
      if (heard.text) asked.push({ role: "assistant", content: heard.text });
      else asked.pop();
    } finally {
      text.removeAttribute("aria-busy");
      [send.disabled, stop.disabled, current] = [false, true, null];
    }
  }

  async function listen(signal, heard, text) {
    for await (const { reply, told } of stream("generation:generateStream", request(), { signal })) {
      if (Number.isNaN(heard.first)) heard.first = told.ms;
      heard.text += reply.text_delta;
      text.textContent = heard.text;
      Object.assign(heard, { last: reply, told });
    }
    if (!heard.last?.usage) throw new Failure("UNAVAILABLE", "the stream broke before its end", [], heard.told ?? {});
  }

  const element = h("div", {},
    h("details", { class: "card" }, h("summary", {}, "Model and settings"),
      h("div", { class: "row" }, model.element, field("Temperature", temperature, "0 = greedy, and cached"),
        field("At most", most, "tokens"), field("Seed", seed, "same seed, same text"), field("System message", system))),
    log, form);
  return { element, stop: () => current?.abort() };
}

/** Why it ended, how many tokens, how fast; then as for every call. */
function summary({ last, told, first }) {
  const { prompt_tokens, completion_tokens, cached_prompt_tokens } = last.usage;
  const seconds = (told.ms - first) / 1000;
  const rate = completion_tokens > 1 && seconds > 0.05 ? ` · ${short((completion_tokens - 1) / seconds)} tokens/s` : "";
  const ended = last.finish_reason.replace("FINISH_REASON_", "").toLowerCase();
  const known = cached_prompt_tokens ? ` (${cached_prompt_tokens} known)` : "";
  return h("div", {},
    h("p", { class: "note" }, `${prompt_tokens}${known} tokens in, ${completion_tokens} out · first after ${short(first)} ms${rate} · ended: ${ended}`),
    footer(told));
}
