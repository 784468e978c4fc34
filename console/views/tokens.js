// A text in the colours of its tokens.

import { post } from "../api.js";
import { field, h, table } from "../dom.js";
import { footer, modelChoice, panel } from "../panel.js";

const EXAMPLE = "Tokens are pieces of text: naïve café, 東京, 🦊 and unbelievable words.";
const COLOURS = 6;

export function tokens(wanted) {
  const model = modelChoice("tokenization.tokenize", { wanted });
  const text = h("textarea", { name: "text", rows: 4 }, EXAMPLE);
  const special = h("input", { type: "checkbox", name: "special", checked: true });
  const shown = panel("Tokens");
  const form = h("form", { class: "card", onsubmit: asked },
    field("Text", text),
    h("div", { class: "row" }, model.element, h("label", { class: "field check" }, special, h("span", {}, "special tokens")),
      h("button", { class: "first" }, "Tokenize")));

  function asked(event) {
    event.preventDefault();
    shown.run(async (signal) => {
      const request = {
        ...model.value(), texts: [text.value], add_special_tokens: special.checked,
        include: { offsets: true, tokens: true, masks: true },
      };
      const { reply, told } = await post("tokenization:tokenize", request, { signal });
      return told_of(reply.encodings[0], text.value, told);
    });
  }

  return { element: h("div", {}, form, shown.element), stop: shown.stop };
}

function told_of(encoding, text, told) {
  const characters = Array.from(text); // offsets count code points
  const rows = encoding.ids.map((id, i) => [i, id, h("code", {}, encoding.tokens[i]), place(encoding.offsets[i])]);
  return [
    h("p", {}, `${encoding.ids.length} tokens of ${characters.length} characters`),
    h("p", { class: "tokens" }, coloured(encoding, characters)),
    h("details", {}, h("summary", {}, "Every token"), table("", ["#number", "#id", "token", "characters"], rows)),
    footer(told),
  ];
}

function place({ start, end }) {
  return end > start ? `${start}–${end}` : "";
}

/** The text, each token in its colour; special tokens and further bytes of a character stand for themselves. */
function coloured({ ids, tokens, offsets, special_tokens_mask: special }, characters) {
  const nodes = [];
  let at = 0;
  ids.forEach((id, i) => {
    const { start, end } = offsets[i];
    if (start > at) nodes.push(characters.slice(at, start).join(""));
    const own = special[i] || end <= at;
    const text = own ? tokens[i] : characters.slice(Math.max(at, start), end).join("");
    nodes.push(h("mark", { class: own ? "special" : `t${i % COLOURS}`, title: `${id}  ${tokens[i]}` }, text));
    at = Math.max(at, end);
  });
  return [...nodes, characters.slice(at).join("")];
}
