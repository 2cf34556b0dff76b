// Light, dark, or as the system has it. The choice is no secret, so it is kept for longer than a tab lives.

const KEY = "carrel.theme";
export const THEMES = ["auto", "light", "dark"];

export function theme() {
  try {
    const kept = localStorage.getItem(KEY);
    return THEMES.includes(kept) ? kept : "auto";
  } catch {
    return "auto";
  }
}

export function setTheme(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // Storage is off: the choice lasts as long as the page.
  }
  document.documentElement.dataset.theme = name;
}

setTheme(theme());
