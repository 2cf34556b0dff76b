// One session as a notebook: cells that run in it, and beside them its files, variables and history.
//
// Cells are this tab's (notebook/kept.js), everything else is the session's and asked for. Runs go one after the other, as the session itself
// takes them: a second cell waits here, where it can still be called back.

import { Away, Fault, serverNow } from "../api.js";
import { pools, runtime, sessionsHref } from "../model.js";
import { poll } from "../poll.js";
import { confirm, fill, h, icon, say, toast } from "../ui.js";
import { ago, moment, until } from "../words.js";
import { Cell } from "../notebook/cell.js";
import { Files } from "../notebook/files.js";
import { History } from "../notebook/history.js";
import * as kept from "../notebook/kept.js";
import { Live, STATES } from "../notebook/live.js";
import { Panes } from "../notebook/panes.js";
import { Variables } from "../notebook/variables.js";

const LANGUAGES = { PythonLTS: "python", NodeLTS: "javascript", Shell: "bash" };
const LIMITS = [10, 30, 60, 120, 220];
const LOOK_MS = 4000;
const KEEP_MS = 400;

export const title = ({ identifier }) => identifier;

export function mount(root, params) {
  const ends = new AbortController();
  let page = null;
  root.className = "notebook";
  fill(root, h("p.hint.busy", { role: "status" }, "Looking for the session…"));
  find(params, ends.signal).then(
    (pool) => {
      if (!ends.signal.aborted) page = new Notebook(root, pool, params.identifier);
    },
    (error) => ends.signal.aborted || fill(root, h("h1", {}, params.identifier), h("p.wrong", { role: "alert" }, error.message), h("p", {}, h("a", { href: "#/sessions" }, "To the sessions"))),
  );
  return () => {
    ends.abort();
    page?.leave();
  };
}

async function find({ group, pool }, signal) {
  const found = (await pools(signal)).find((each) => same(each.name, pool) && same(each.group, group));
  if (!found) throw new Error(`There is no pool ${pool} in ${group} that you may see.`);
  return found;
}

const same = (one, other) => one.toLowerCase() === other.toLowerCase();

class Notebook {
  cells = [];
  #queue = [];
  #isRunning = false;
  #timer = 0;

  constructor(root, pool, identifier) {
    this.root = root;
    this.pool = pool;
    this.language = LANGUAGES[pool.type] ?? "python";
    this.live = new Live(pool, identifier);
    this.files = new Files(this.live);
    this.variables = new Variables(this.live);
    this.history = new History(this.live, this.language);
    this.limit = LIMITS[2];
    this.#build(identifier);
    this.#open(kept.read(pool, identifier));
    this.live.addEventListener("change", () => this.#changed());
    this.live.addEventListener("used", () => this.#used());
    this.live.addEventListener("restart", () => this.variables.refresh());
    this.files.takeDrops(root);
    this.panes.show("files");
    this.stopLooking = poll((signal) => this.live.look(signal), { every: LOOK_MS, failed: (error) => say(this.state, error.message) });
    this.ticks = setInterval(() => this.#clock(), 1000);
    this.onHide = () => this.#keep();
    window.addEventListener("pagehide", this.onHide);
    this.#recall();
  }

  leave() {
    window.removeEventListener("pagehide", this.onHide);
    this.stopLooking();
    clearInterval(this.ticks);
    this.#keep();
    clearTimeout(this.#timer);
    this.#queue = [];
    for (const cell of this.cells) cell.leave();
  }

  // Cells

  #open(notebook) {
    this.limit = LIMITS.includes(notebook?.limit) ? notebook.limit : this.limit;
    this.limits.value = String(this.limit);
    for (const each of notebook?.cells ?? [{}]) this.#insert(this.cells.length, each);
  }

  #insert(at, { kind = this.language === "bash" ? "shell" : "code", text = "", last = null } = {}) {
    const actions = {
      run: (cell, options) => this.run(cell, options),
      interrupt: (cell) => this.#interrupt(cell),
      add: (cell) => this.#add(this.cells.indexOf(cell) + 1),
      move: (cell, by) => this.#move(cell, by),
      remove: (cell) => this.#remove(cell),
      changed: () => this.#keepSoon(),
    };
    const cell = new Cell({ live: this.live, language: this.language, kind, text, last, hint: "keys", actions });
    cell.element.addEventListener("keydown", (event) => this.#travel(event, cell));
    this.cells.splice(at, 0, cell);
    this.list.insertBefore(cell.element, this.list.children[at] ?? null);
    this.#number();
    return cell;
  }

  #add(at = this.cells.length) {
    const kind = this.cells[at - 1]?.kind;
    this.#insert(at, { kind }).focus();
    this.#keepSoon();
  }

  #move(cell, by) {
    const at = this.cells.indexOf(cell);
    const to = at + by;
    if (to < 0 || to >= this.cells.length) return;
    this.cells.splice(to, 0, ...this.cells.splice(at, 1));
    const other = this.list.children[to];
    if (by < 0) cell.element.after(other); // the cell itself stays where it is on the page, and keeps the focus
    else cell.element.before(other);
    this.#number();
    this.#keepSoon();
  }

  #remove(cell) {
    const at = this.cells.indexOf(cell);
    const { kind, text, last } = cell;
    this.#queue = this.#queue.filter((each) => each !== cell);
    if (cell.state === "running") this.#interrupt(cell);
    cell.leave();
    cell.element.remove();
    this.cells.splice(at, 1);
    if (!this.cells.length) this.#insert(0);
    this.#number();
    (this.cells[at] ?? this.cells.at(-1)).focus();
    this.#keepSoon();
    if (text.trim()) this.#offerBack(at, { kind, text, last });
  }

  #offerBack(at, what) {
    const line = h("p.toast", {}, "The cell is deleted. ");
    const back = h("button.quiet.small", { type: "button" }, "Undo");
    back.addEventListener("click", () => {
      line.remove();
      const cell = this.#insert(Math.min(at, this.cells.length), what);
      cell.focus();
      cell.recall();
      this.#keepSoon();
    });
    line.append(back);
    document.getElementById("toasts").append(line);
    setTimeout(() => line.remove(), 9000);
  }

  #number() {
    this.cells.forEach((cell, at) => cell.setNumber(at + 1, this.cells.length));
  }

  /** With Alt, from a cell to the next one. */
  #travel(event, cell) {
    if (!event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    this.cells[this.cells.indexOf(cell) + (event.key === "ArrowUp" ? -1 : 1)]?.focus();
  }

  async #recall() {
    for (const cell of [...this.cells]) {
      if (cell.last && this.cells.includes(cell)) await this.#turn(cell, () => cell.recall());
    }
  }

  #keepSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#keep(), KEEP_MS);
  }

  #keep() {
    const cells = this.cells.map(({ kind, text, last }) => ({ kind, text, last }));
    if (!kept.write(this.pool, this.live.identifier, { cells, limit: this.limit }) && !this.wasTold) {
      this.wasTold = true;
      toast("These cells are too large for this tab to keep: leaving the page loses them.", { kind: "wrong" });
    }
  }

  // Running

  run(cell, { goOn = false } = {}) {
    if (goOn) this.#goOn(cell);
    if (cell.isBusy || !cell.text.trim()) return;
    cell.wait();
    this.#queue.push(cell);
    this.#work();
  }

  #goOn(cell) {
    const at = this.cells.indexOf(cell);
    if (at === this.cells.length - 1) this.#add();
    else this.cells[at + 1].focus();
  }

  runAll() {
    for (const cell of this.cells) this.run(cell);
  }

  async #work() {
    if (this.#isRunning) return;
    while (this.#queue.length) {
      const cell = this.#queue.shift();
      const isGood = await this.#turn(cell, () => cell.run(this.limit));
      if (!isGood) this.#callBack();
      say(this.told, `Cell ${cell.number}: ${cell.status.textContent || "over"}`);
    }
  }

  async #turn(cell, work) {
    while (this.#isRunning) await this.turnOver;
    this.#isRunning = true;
    this.interrupter.disabled = false;
    say(this.told, `Cell ${cell.number} runs`);
    let over;
    this.turnOver = new Promise((resolve) => (over = resolve));
    try {
      const done = work();
      this.#keepSoon();
      return await done;
    } finally {
      this.#isRunning = false;
      this.interrupter.disabled = true;
      this.#keepSoon();
      over();
    }
  }

  /** Nothing that waits is run any more. */
  #callBack() {
    for (const cell of this.#queue) cell.idle();
    this.#queue = [];
  }

  async #interrupt(cell) {
    if (cell?.state === "waiting") {
      this.#queue = this.#queue.filter((each) => each !== cell);
      return cell.idle();
    }
    this.#callBack();
    const running = this.cells.find((each) => each.state === "running");
    return running && this.#tried(() => running.interrupt());
  }

  async #restart() {
    const isSure = await confirm("Restart the interpreter?", "Variables are lost and what runs is canceled. Files and environment stay.", "Restart");
    if (!isSure) return;
    this.#callBack();
    if (await this.#tried(() => this.live.restart())) toast("The interpreter is a fresh one.");
  }

  async #end() {
    const isSure = await confirm("End the session?", "Its variables and its files are gone for good. The cells stay in this tab.", "End it");
    if (!isSure) return;
    this.#callBack();
    await this.#tried(() => this.live.end());
  }

  async #tried(work) {
    try {
      await work();
      return true;
    } catch (error) {
      if (error instanceof Fault && error.status === 404) this.live.gone();
      if (!(error instanceof Away)) toast(error.message, { kind: "wrong" });
      return false;
    }
  }

  // What the server tells

  async #used() {
    await this.live.look().catch(() => undefined);
    for (const each of [this.files, this.variables, this.history]) each.refresh();
  }

  #changed() {
    const { state } = this.live;
    const isLive = state === "live";
    this.state.className = `badge ${{ live: "good", ended: "warm" }[state] ?? "none"}`;
    for (const button of [this.keeper, this.restarter, this.ender]) button.disabled = !isLive;
    if (isLive && this.live.takeRenewal()) this.#tell("A new session has begun under this name: variables and files of the one before are gone.");
    else if (state === "ended") this.#tell("This session has ended, and its variables and files with it. The next cell that runs begins a new one.");
    else if (isLive && this.wasEnded) this.#tell("");
    this.wasEnded = state === "ended";
    if (this.lastState !== state) for (const each of [this.files, this.variables, this.history]) each.refresh();
    this.lastState = state;
    this.#clock();
  }

  #tell(text) {
    say(this.notice, text);
    this.notice.hidden = !text;
  }

  #clock() {
    const { view, state } = this.live;
    say(this.state, STATES[state]);
    const isLive = state === "live";
    say(this.age, isLive ? `Begun ${ago(view.createdAt, serverNow())} ago` : "");
    const left = isLive ? Date.parse(view.expireAt) - serverNow() : 0;
    say(this.expiry, !isLive ? "" : left <= 0 ? "Ends now" : `Ends in ${until(view.expireAt, serverNow())} unless it is used`);
    this.expiry.classList.toggle("soon", isLive && left < 60_000);
    if (isLive) [this.age.title, this.expiry.title] = [moment(view.createdAt), moment(view.expireAt)];
  }

  // What it looks like

  #build(identifier) {
    const button = (label, name, onclick, kind = "quiet") => h(`button.${kind}`, { type: "button", onclick }, icon(name), h("span", {}, label));
    this.state = h("span.badge.none", {}, STATES.unknown);
    this.age = h("span");
    this.expiry = h("span.expiry");
    this.keeper = button("Keep alive", "clock", () => this.#tried(() => this.live.keepAlive()));
    this.restarter = button("Restart", "again", () => this.#restart());
    this.ender = button("End", "stop", () => this.#end());
    this.interrupter = button("Interrupt", "stop", () => this.#interrupt());
    for (const each of [this.keeper, this.restarter, this.ender, this.interrupter]) each.disabled = true;
    this.limits = h("select", { id: "limit", onchange: () => {
      this.limit = Number(this.limits.value);
      this.#keepSoon();
    } }, LIMITS.map((each) => h("option", { value: String(each) }, `${each} s`)));
    this.notice = h("p.note", { role: "status", hidden: true });
    this.told = h("p.unseen", { role: "status" });
    this.list = h("div.cells");
    this.panes = new Panes({ Files: this.files, Variables: this.variables, History: this.history });
    fill(this.root,
      h("header.heading", {},
        h("div", {},
          h("p.trail", {}, h("a", { href: sessionsHref(this.pool) }, `Sessions of ${this.pool.name}`)),
          h("h1.identifier", {}, h("bdi", {}, identifier)),
          h("p.lead", {}, this.state, h("span", {}, runtime(this.pool.type)), this.age, this.expiry)),
        h("div.acts", {}, this.keeper, this.restarter, this.ender)),
      this.notice, this.told,
      this.#switch(),
      h("div.desk", {},
        h("section.paper", { ariaLabel: "Cells" },
          h("div.strip", { role: "toolbar", ariaLabel: "Cells" },
            button("Run all", "play", () => this.runAll(), "primary"), this.interrupter,
            button("Clear", "bin", () => this.cells.forEach((cell) => cell.isBusy || cell.forget())),
            h("label", { htmlFor: "limit" }, "Time limit"), this.limits),
          this.list,
          h("button.quiet.add", { type: "button", onclick: () => this.#add() }, icon("plus"), "Add a cell"),
          h("p.hint.key-words", { id: "keys" }, "Shift+Enter runs a cell and goes on, Ctrl+Enter runs it. Tab indents; after Escape it leaves the editor. Alt with up or down goes to the next cell.")),
        h("aside", { ariaLabel: "The session" }, this.panes.elements)),
    );
  }

  /** On a narrow screen: the cells, or what else there is. */
  #switch() {
    const choose = (name) => {
      this.root.dataset.pane = name;
      for (const each of bar.children) each.setAttribute("aria-pressed", String(each.dataset.pane === name));
    };
    const bar = h("div.switch", { role: "group", ariaLabel: "Show" },
      [["paper", "Cells"], ["aside", "Files and more"]].map(([name, label]) => h("button", { type: "button", dataset: { pane: name }, onclick: () => choose(name) }, label)));
    choose("paper");
    return bar;
  }
}
