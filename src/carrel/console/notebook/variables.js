// What variables the session has. Looked at after each run, where somebody sees it: it takes its turn behind what runs.

import { Fault } from "../api.js";
import { bytes, plural } from "../words.js";
import { fill, h } from "../ui.js";

export class Variables {
  isShown = false;
  #isDue = true;

  constructor(live) {
    this.live = live;
    this.body = h("div.body");
    this.element = h("div.variables", {}, this.body);
    this.#empty("Variables come with the first code that makes some.");
  }

  show() {
    this.isShown = true;
    if (this.#isDue) this.refresh();
  }

  hide() {
    this.isShown = false;
  }

  /** What runs has ended, or the interpreter is another one. */
  async refresh() {
    this.#isDue = true;
    if (this.live.state !== "live") return this.#empty("There is no session: nothing has been made yet.");
    if (!this.isShown) return undefined;
    this.#isDue = false;
    try {
      this.#draw(await this.live.ask("GET", "session/variables", { query: { summary: true } }));
    } catch (error) {
      this.#isDue = true;
      if (error instanceof Fault && error.status === 404) return this.#empty("There is no session: nothing has been made yet.");
      this.#empty(error.message);
    }
    return undefined;
  }

  #draw({ value, total }) {
    if (!value.length) return this.#empty("No variables yet.");
    const items = value.map((each) =>
      h("li", {},
        h("p", {}, h("code.name", {}, h("bdi", {}, each.name)), h("span.type", {}, brief(each.type)), h("span.size", {}, size(each))),
        each.preview && h("code.preview", {}, h("bdi", {}, each.preview)),
      ),
    );
    const rest = total > value.length ? h("p.hint", {}, `The first ${value.length} of ${plural(total, "variable")}, by name.`) : null;
    return fill(this.body, h("ul", { ariaLabel: "Variables" }, items), rest);
  }

  #empty(text) {
    fill(this.body, h("p.none", {}, text));
  }
}

/** A type without the modules that it is in. */
const brief = (type) => type.split(".").at(-1);

function size({ shape, size: taken }) {
  const long = shape === null ? "" : shape.length === 1 ? plural(shape[0], "item") : shape.join(" × ");
  return [long, taken === null ? "" : bytes(taken)].filter(Boolean).join(", ");
}
