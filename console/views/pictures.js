// A picture → its labels, and the heat map of what decided.

import { base64, post } from "../api.js";
import { field, h } from "../dom.js";
import { bars, footer, modelChoice, panel } from "../panel.js";
import { dropZone } from "../files.js";

const METHODS = { "": "integrated gradients", EXPLAIN_METHOD_GRAD_CAM: "Grad-CAM" };

export function pictures(wanted) {
  const model = modelChoice("vision.classify", { wanted });
  const method = h("select", { name: "method" }, Object.entries(METHODS).map(([value, name]) => h("option", { value }, name)));
  const [labels, reasons] = [panel("Labels"), panel("What decided")];
  const preview = h("img", { class: "preview", alt: "the picture chosen", hidden: true });
  const again = h("button", { type: "button", onclick: look }, "Classify again");
  const explain = h("button", { type: "button", class: "first", onclick: () => explained() }, "Explain the best label");
  const buttons = h("div", { class: "actions", hidden: true }, explain, again);
  const zone = dropZone("Drop a picture here, paste one, or choose a file", "image/*", take);
  let encoded = "";

  async function take(file) {
    encoded = await base64(file);
    URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(file);
    preview.hidden = buttons.hidden = false;
    reasons.run(() => [h("p", { class: "note" }, "Ask for an explanation, of the best label or of one in the list.")]);
    look();
  }

  function look() {
    labels.run(async (signal) => {
      const request = { ...model.value(), images: [{ encoded }], top_k: 10 };
      const { reply, told } = await post("vision:classify", request, { signal });
      const found = reply.results[0].labels;
      const ask = found.map((label) => h("button", { type: "button", onclick: () => explained(label.index) }, `Why ${label.name || label.index}?`));
      return [bars(found), h("details", {}, h("summary", {}, "Explain another"), h("div", { class: "actions" }, ask)), footer(told)];
    });
  }

  function explained(target_index) {
    reasons.run(async (signal) => {
      const request = { ...model.value(), image: { encoded }, overlay: true };
      if (method.value) request.method = method.value;
      if (target_index !== undefined) request.target_index = target_index;
      const { reply, told } = await post("vision:explain", request, { signal });
      const name = reply.target.name || `class ${reply.target.index}`;
      return [
        h("img", { class: "heat", src: `data:image/png;base64,${reply.overlay_png}`, alt: `heat map of what spoke for ${name}` }),
        h("p", {}, `Red spoke for “${name}” (${(100 * reply.target.score).toFixed(1)} %)${request.method ? "" : ", blue against it"}.`),
        footer(told),
      ];
    });
  }

  const element = h("div", {},
    h("p", { class: "lead" }, "JPEG, PNG, WebP, BMP or GIF, up to 20 MiB. The picture goes to the suite and nowhere else."),
    h("div", { class: "row" }, model.element, field("Explained by", method)),
    h("div", { class: "columns" }, h("div", {}, zone.element, preview, buttons), h("div", {}, labels.element, reasons.element)));
  return { element, stop: () => [labels, reasons, zone].forEach((part) => part.stop()) };
}
