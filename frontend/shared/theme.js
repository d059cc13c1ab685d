// Dark or light: as the system has it, or as chosen here. Runs before the page is first drawn.

import { visits } from "./store.js";

const KEY = "orfeas.theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const NAMES = { system: "System theme", light: "Light theme", dark: "Dark theme" };

let theme = NEXT[visits.get(KEY)] ? visits.get(KEY) : "system";

function apply() {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

apply();

/** Let the button go through system, light and dark. */
export function setUpTheme(button, label) {
  const show = () => {
    label.textContent = NAMES[theme];
    button.setAttribute("aria-label", `${NAMES[theme]}. Press for: ${NAMES[NEXT[theme]]}`);
  };
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    visits.set(KEY, theme);
    apply();
    show();
  });
  show();
}
