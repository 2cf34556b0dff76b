// What is beside the cells, one at a time: a pane for each tab. A pane has an `element`, and is told when somebody sees it and when no more.

import { h } from "../ui.js";

export class Panes {
  /** `panes` by what their tabs say. */
  constructor(panes) {
    this.panes = Object.fromEntries(Object.entries(panes).map(([label, pane]) => [label.toLowerCase(), pane]));
    const tabs = Object.keys(panes).map((label) => this.#tab(label.toLowerCase(), label));
    this.tabs = h("div.tabs", { role: "tablist", ariaLabel: "The session’s" }, tabs);
    this.tabs.addEventListener("keydown", (event) => this.#travel(event, tabs));
    for (const [name, { element }] of Object.entries(this.panes)) {
      element.id = `pane-${name}`;
      element.setAttribute("role", "tabpanel");
      element.setAttribute("aria-labelledby", `tab-${name}`);
    }
  }

  get elements() {
    return [this.tabs, ...Object.values(this.panes).map((each) => each.element)];
  }

  show(chosen) {
    for (const tab of this.tabs.children) {
      const isChosen = tab.id === `tab-${chosen}`;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
    }
    for (const [name, pane] of Object.entries(this.panes)) {
      pane.element.hidden = name !== chosen;
      if (name === chosen) pane.show();
      else pane.hide();
    }
  }

  #tab(name, label) {
    return h("button.tab", { type: "button", role: "tab", id: `tab-${name}`, ariaControls: `pane-${name}`, onclick: () => this.show(name) }, label);
  }

  #travel(event, tabs) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(document.activeElement) + by + tabs.length) % tabs.length];
    next.click();
    next.focus();
  }
}
