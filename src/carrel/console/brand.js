// The mark, and the switch of the colours: what the pages and the sign-in have in common.

import { THEMES, setTheme, theme } from "./theme.js";
import { fill, h, icon, svg } from "./ui.js";

const THEME_WORDS = { auto: "as the system", light: "light", dark: "dark" };
const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };

export function logo() {
  const desk = svg("path", { d: "M9 8v16M9 8h13M9 24h13M22 8v5M22 19v5", fill: "none", stroke: "currentColor", "stroke-width": 2.4, "stroke-linecap": "round", "stroke-linejoin": "round" });
  return svg("svg", { viewBox: "6 5 19 22", width: 22, height: 26, "aria-hidden": "true", class: "logo" }, desk, svg("circle", { cx: 17, cy: 16, r: 2.3, fill: "currentColor" }));
}

export function themeButton() {
  const button = h("button.ghost", { type: "button", onclick: next });
  const draw = () => {
    fill(button, icon(THEME_ICONS[theme()]));
    button.setAttribute("aria-label", `Colours: ${THEME_WORDS[theme()]}. Change`);
    button.title = `Colours: ${THEME_WORDS[theme()]}`;
  };
  function next() {
    setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
    draw();
  }
  draw();
  return button;
}
