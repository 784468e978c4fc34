// Files from the person: dropped, pasted or chosen.

import { h } from "./dom.js";

/** A place to drop a file of a kind (`image/*`); `take(file)` gets each. */
export function dropZone(text, kind, take) {
  const input = h("input", { type: "file", accept: kind, onchange: () => input.files.length && take(input.files[0]) });
  const element = h("label", { class: "drop" }, h("span", {}, text), input);
  const wanted = (files) => [...(files ?? [])].find((file) => file.type.startsWith(kind.split("*")[0]));

  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    const file = wanted(event.dataTransfer.files);
    if (file) take(file);
  });

  function pasted(event) {
    const file = wanted(event.clipboardData?.files);
    if (file) take(file);
  }
  addEventListener("paste", pasted);
  return { element, stop: () => removeEventListener("paste", pasted) };
}
