// What has run in the session, by whomever: the list that the server keeps, and what each gave.

import { Fault } from "../api.js";
import { dialog, fill, h } from "../ui.js";
import { count, milliseconds } from "../words.js";
import { told } from "./events.js";
import { Outputs } from "./outputs.js";

const PAGE = 300; // the server's
const SHOWN = 100;

export class History {
  isShown = false;

  constructor(live, language) {
    Object.assign(this, { live, language });
    this.element = h("div.history");
    this.#empty();
  }

  show() {
    this.isShown = true;
    this.refresh();
  }

  hide() {
    this.isShown = false;
  }

  async refresh() {
    if (!this.isShown) return;
    if (this.live.state !== "live") return this.#empty();
    try {
      const found = [];
      for (let skip = 0; ; skip += PAGE) {
        const page = await this.live.ask("GET", "executions", { query: { skip } });
        found.push(...page.value);
        if (!page.nextLink) break;
      }
      this.#draw(found.reverse());
    } catch (error) {
      if (error instanceof Fault && error.status === 404) return this.#empty();
      fill(this.element, h("p.none", {}, error.message));
    }
    return undefined;
  }

  #draw(found) {
    if (!found.length) return this.#empty();
    const items = found.slice(0, SHOWN).map((each, at) => this.#item(each, found.length - at));
    const rest = found.length > SHOWN ? h("p.hint", {}, `The last ${SHOWN} of ${count(found.length)}.`) : null;
    return fill(this.element, h("ol", { ariaLabel: "Executions, newest first" }, items), rest);
  }

  #item({ id, status, outcome, executionTimeInMilliseconds: took }, number) {
    const isOver = !["Running", "NotStarted"].includes(status);
    const open = h("button.quiet.small", { type: "button", onclick: () => this.#open(id, number) }, isOver ? "Output" : "Follow");
    open.setAttribute("aria-label", `${isOver ? "Output of" : "Follow"} execution ${number}`);
    const how = isOver ? `${words(status, outcome)} · ${milliseconds(took)}` : status === "Running" ? "Running" : "Waiting";
    return h("li", { dataset: { how: !isOver ? "running" : status === "Succeeded" || status === "0" ? "good" : "bad" } },
      h("span.number", {}, `${number}`), h("span.how", {}, how), h("code.id", { title: id }, id.slice(0, 8)), open);
  }

  /** In a dialog: followed from its beginning, to its end. */
  #open(id, number) {
    const ends = new AbortController();
    const outputs = new Outputs(this.language);
    const state = h("p.hint", { role: "status" }, "Asking…");
    const { pool, identifier } = this.live;
    const onEvent = (kind, data) => {
      if (kind === "stdout" || kind === "stderr") outputs.write(kind, data.text);
      else if (kind === "display") outputs.display(data.data ?? {}, data.metadata);
      else if (kind === "started") state.textContent = "Running";
      else if (kind === "result") {
        outputs.value(data.result?.executionResult);
        state.textContent = `${words(data.status, data.result?.outcome)} · ${milliseconds(data.result?.executionTimeInMilliseconds)}`;
        if (outputs.isEmpty) outputs.note("It gave no output.");
      }
    };
    const failed = (error) => {
      if (!ends.signal.aborted) outputs.note(error instanceof Fault && error.status === 404 ? "It is no longer kept." : error.message, "wrong");
    };
    told({ path: pool.path, identifier, id, signal: ends.signal, onEvent }).catch(failed);
    return dialog(`Execution ${number}`, () => h("div.body.execution", {}, state, outputs.element), { kind: "large" }).then(() => {
      ends.abort();
      outputs.clear();
    });
  }

  #empty() {
    fill(this.element, h("p.none", {}, this.live.state === "ended" ? "The session has ended, and what it ran with it." : "Nothing has run in this session yet."));
  }
}

function words(status, outcome) {
  if (status === "Succeeded" || status === "0") return "Done";
  if (status === "Canceled") return "Canceled";
  return outcome === "timeout" ? "Time limit" : outcome === "memory" ? "Out of memory" : /^-?\d+$/.test(status) ? `Exit status ${status}` : "Failed";
}
