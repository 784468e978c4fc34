// The pages by their names in the address, the key, and the theme.

import { credential } from "./api.js";
import { h } from "./dom.js";
import { chat } from "./views/chat.js";
import { models } from "./views/models.js";
import { pictures } from "./views/pictures.js";
import { pipelines } from "./views/pipelines.js";
import { series } from "./views/series.js";
import { speech } from "./views/speech.js";
import { status } from "./views/status.js";
import { text } from "./views/text.js";
import { tokens } from "./views/tokens.js";

// Each makes its content, and tells by `stop` how to leave it.
const PAGES = {
  status: ["Status", status],
  models: ["Models", models],
  chat: ["Chat", chat],
  pictures: ["Pictures", pictures],
  speech: ["Speech", speech],
  tokens: ["Tokens", tokens],
  text: ["Text", text],
  series: ["Series", series],
  pipelines: ["Pipelines", pipelines],
};
const THEMES = ["light dark", "light", "dark"];
const main = document.querySelector("main");
let shown = { stop() {} };

function open() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  if (name === "content") return main.focus();
  const [title, page] = PAGES[name] ?? PAGES.status;
  shown.stop?.();
  shown = page(rest.map(decodeURIComponent));
  document.title = `${title} · MaaS console`;
  for (const link of document.querySelectorAll("nav a"))
    link.toggleAttribute("aria-current", link.textContent === title);
  main.replaceChildren(h("h2", {}, title), shown.element);
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function chooseTheme(theme) {
  document.documentElement.style.colorScheme = theme;
  localStorage.setItem("maas-theme", theme);
  const button = document.querySelector("#theme");
  button.textContent = `Theme: ${THEMES[0] === theme ? "auto" : theme}`;
  button.onclick = () => chooseTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
}

function askForKey() {
  const dialog = document.querySelector("#credential");
  const [button, input] = [document.querySelector("#key"), dialog.querySelector("input")];
  const tell = () => (button.textContent = credential.get() ? "Key ✓" : "Key");
  button.onclick = () => {
    input.value = credential.get();
    dialog.showModal();
  };
  dialog.onclose = () => {
    if (dialog.returnValue === "keep") credential.set(input.value.trim());
    dialog.returnValue = "";
    tell();
  };
  tell();
}

document.querySelector("nav").append(...Object.entries(PAGES).map(([name, [title]]) => h("a", { href: `#${name}` }, title)));
chooseTheme(THEMES.includes(localStorage.getItem("maas-theme")) ? localStorage.getItem("maas-theme") : THEMES[0]);
askForKey();
addEventListener("hashchange", open);
open();
