// A cell: an editor, what can be done with it, and what its last run gave.

import { Away, Fault } from "../api.js";
import { bytes, milliseconds } from "../words.js";
import { fill, h, icon, say, unique } from "../ui.js";
import { editor } from "./editor.js";
import { told } from "./events.js";
import { Outputs } from "./outputs.js";

const OUTCOMES = {
  ok: "Done",
  error: "Failed",
  timeout: "Stopped at its time limit",
  canceled: "Interrupted",
  interrupted: "Interrupted",
  memory: "Out of memory",
  processes: "Could start no further process",
  disk: "No space left",
  killed: "Killed, and its interpreter with it",
  exited: "Ended its interpreter: variables are gone",
};
const GONE = ["NoSessionFoundError", "ExecutionNotFound", "SessionEnded", "SessionLost"];
const OUTPUT_LIMIT = 1_048_576; // characters of each stream, the most that the server keeps

export class Cell {
  state = "idle"; // waiting, running
  last = null; // {id, etag}: the execution whose output is here
  #ends = null;
  #began = 0;
  #timer = 0;

  /** `actions` has what concerns the whole page: run, interrupt, add, move, remove, kind and changed. */
  constructor({ live, language, kind = "code", text = "", last = null, hint, actions }) {
    Object.assign(this, { live, language, kind, last, actions, id: unique("cell") });
    this.outputs = new Outputs(language);
    this.editor = editor({ text, language: this.#language(), label: "Cell", hint, oninput: () => actions.changed() });
    this.editor.area.addEventListener("keydown", (event) => this.#press(event));
    this.#build();
    this.#show();
  }

  get text() {
    return this.editor.text;
  }

  get isBusy() {
    return this.state !== "idle";
  }

  setNumber(number, of) {
    this.number = number;
    this.element.setAttribute("aria-label", `Cell ${number}`);
    this.editor.setLabel(`Code of cell ${number}`);
    say(this.mark, String(number));
    this.up.disabled = number === 1;
    this.down.disabled = number === of;
    this.#show();
  }

  wait() {
    this.state = "waiting";
    this.#show();
  }

  idle() {
    this.state = "idle";
    this.#show();
  }

  /** Run it. Returns whether it succeeded; what went wrong stands below it. */
  async run(limit) {
    const id = operationId();
    const program = this.kind === "shell" ? { shellCommand: this.text } : { code: this.text };
    this.last = { id, etag: "" };
    this.outputs.clear();
    return this.#tell({ id, body: { ...program, timeoutInSeconds: limit, outputStreamsMaxLength: OUTPUT_LIMIT } });
  }

  /** Show again what its last run gave, and follow that where it still goes on. */
  async recall() {
    if (!this.last) return;
    this.outputs.clear();
    try {
      await this.#tell({ id: this.last.id }, true);
    } finally {
      this.actions.changed();
    }
  }

  /** Cancel what runs. The server answers when it is over. */
  async interrupt() {
    if (this.state !== "running" || !this.last) return;
    this.#status("Interrupting…");
    await this.live.ask("POST", `executions/${encodeURIComponent(this.last.id)}/cancel`);
  }

  /** Take away what is shown below it. */
  forget() {
    this.outputs.clear();
    [this.last, this.#said] = [null, ""];
    this.element.dataset.how = "";
    this.#show();
    this.actions.changed();
  }

  leave() {
    this.#ends?.abort();
    clearInterval(this.#timer);
    this.outputs.clear();
  }

  focus() {
    this.editor.focus();
  }

  async #tell(what, isRecalled = false) {
    const ends = (this.#ends = new AbortController());
    this.state = "running";
    this.#began = performance.now();
    this.#show();
    this.#timer = setInterval(() => this.#show(), 1000);
    let result = null;
    try {
      const { pool, identifier } = this.live;
      await told({ ...what, path: pool.path, identifier, signal: ends.signal, onLost: () => this.#status("Carrel does not answer. Trying again…"), onEvent: (kind, data) => (result = this.#take(kind, data) ?? result) });
      return this.#over(result);
    } catch (error) {
      if (ends.signal.aborted) return false;
      this.#wrong(error, isRecalled);
      return false;
    } finally {
      clearInterval(this.#timer);
      this.state = "idle";
      this.#show();
    }
  }

  #take(kind, data) {
    if (kind === "stdout" || kind === "stderr") this.outputs.write(kind, data.text);
    else if (kind === "display") this.outputs.display(data.data ?? {}, data.metadata);
    else if (kind === "result") return data;
    return null;
  }

  #over(result) {
    const { outcome, executionResult, executionTimeInMilliseconds: took, usage, droppedOutputs } = result?.result ?? {};
    this.outputs.value(executionResult);
    if (droppedOutputs) this.outputs.note(`${droppedOutputs} more displays were over the limits.`);
    const isGood = result?.status === "Succeeded" || result?.status === "0";
    const how = this.kind === "shell" && outcome === "error" ? `Exit status ${result.status}` : (OUTCOMES[outcome] ?? result?.status ?? "Over");
    const peak = usage?.peakMemoryBytes ? `, ${bytes(usage.peakMemoryBytes)} at most` : "";
    this.element.dataset.how = isGood ? "good" : outcome === "canceled" || outcome === "interrupted" ? "stopped" : "bad";
    this.#said = `${how} · ${milliseconds(took)}${peak}`;
    this.live.dispatchEvent(new Event("used"));
    return isGood;
  }

  #wrong(error, isRecalled) {
    this.element.dataset.how = isRecalled ? "" : "bad";
    this.#said = "";
    const isGone = error instanceof Fault && GONE.includes(error.code);
    if (isRecalled && isGone) {
      this.last = null;
      return;
    }
    if (isGone) this.live.gone();
    if (!(error instanceof Fault) && !(error instanceof Away)) this.outputs.note(`This page failed to show it: ${error.message}`, "wrong");
    else this.outputs.note(isGone ? "The session ended while this ran." : `${error.message}${error.trace ? ` (${error.trace})` : ""}`, "wrong");
  }

  // What it looks like

  #said = "";

  #language() {
    return this.kind === "shell" ? "bash" : this.language;
  }

  #build() {
    const { actions } = this;
    const button = (label, name, onclick, kind = "ghost") => h(`button.${kind}`, { type: "button", ariaLabel: label, title: label, onclick }, icon(name));
    this.mark = h("span.number", { ariaHidden: "true" });
    this.runButton = h("button.run", { type: "button" });
    this.runButton.addEventListener("click", () => (this.isBusy ? actions.interrupt(this) : actions.run(this)));
    this.status = h("p.status");
    this.up = button("Move up", "up", () => actions.move(this, -1));
    this.down = button("Move down", "below", () => actions.move(this, 1));
    this.kindButton = h("button.ghost.kind", { type: "button", onclick: () => this.#turn() });
    const tools = h("div.cell-tools", { role: "toolbar", ariaLabel: "Cell" },
      this.kindButton, this.up, this.down, button("Add a cell below", "plus", () => actions.add(this)), button("Delete this cell", "bin", () => actions.remove(this)));
    this.element = h("section.cell", { id: this.id }, h("div.gutter", {}, this.runButton, this.mark), h("div.work", {}, tools, this.editor.element, this.outputs.element, this.status));
  }

  #turn() {
    this.kind = this.kind === "shell" ? "code" : "shell";
    this.editor.setLanguage(this.#language());
    this.#show();
    this.actions.changed();
  }

  #show() {
    const isBusy = this.isBusy;
    const label = this.state === "waiting" ? "Do not run" : isBusy ? "Interrupt" : "Run";
    if (this.runButton.dataset.label !== label) {
      this.runButton.dataset.label = label;
      fill(this.runButton, icon(isBusy ? "stop" : "play"));
    }
    this.runButton.setAttribute("aria-label", `${label} cell ${this.number ?? ""}`.trim());
    this.runButton.title = isBusy ? label : "Run (Shift+Enter)";
    this.element.dataset.state = this.state;
    this.element.setAttribute("aria-busy", String(isBusy));
    const names = { python: "Python", javascript: "JavaScript", bash: "Shell" };
    say(this.kindButton, this.kind === "shell" ? "Shell" : names[this.language]);
    this.kindButton.hidden = this.language === "bash";
    this.kindButton.title = `Make it ${this.kind === "shell" ? names[this.language] : "a shell command"}`;
    const spent = Math.floor((performance.now() - this.#began) / 1000);
    if (this.state === "running") this.#status(spent ? `Running · ${spent} s` : "Running");
    else this.#status(this.state === "waiting" ? "Waiting for its turn" : this.#said);
  }

  #status(text) {
    say(this.status, text);
    this.status.hidden = !text;
  }

  #press(event) {
    if (event.key !== "Enter" || event.isComposing) return;
    if (event.shiftKey || event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.actions.run(this, { goOn: event.shiftKey });
    }
  }
}

/** A name that nobody else has, also where the page is not a secure one and `randomUUID` is missing. */
function operationId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
}
