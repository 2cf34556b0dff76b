// The sessions of a pool, or of all: a live table to filter, sort, stop and open.

import { all, call, serverNow } from "../api.js";
import * as model from "../model.js";
import { poll } from "../poll.js";
import { Table } from "../table.js";
import { confirm, dialog, fill, h, icon, say, toast } from "../ui.js";
import { ago, brief, bytes, count, milliseconds, plural, until } from "../words.js";

const EVERY_MS = 2000;
const TOGETHER = 6;
const NAMED = 5; // of those that are to be stopped, before "and N more"

export const title = ({ pool }) => (pool ? `Sessions of ${pool}` : "Sessions");

export function mount(root, params) {
  const page = new Sessions(root, params);
  return () => page.close();
}

class Sessions {
  constructor(root, { group, pool }) {
    this.wanted = group ? { group, pool } : null;
    this.pools = [];
    this.count = 0;
    this.lead = h("p.lead", { role: "status" }, "Looking…");
    this.trouble = h("p.wrong", { role: "alert", hidden: true });
    this.stop = h("button.danger", { type: "button", disabled: true, onclick: () => this.#stop(this.table.chosen()) }, icon("stop"), h("span", {}, "Stop"));
    this.table = new Table({
      label: this.wanted ? `Sessions of ${pool}` : "Sessions",
      columns: this.#columns(),
      id: (row) => `${row.pool.id} ${row.identifier}`,
      open: (row) => location.assign(model.sessionHref(row.pool, row.identifier)),
      remove: (rows) => this.#stop(rows),
      picked: (ids) => this.#picked(ids),
      sort: { key: "idle", isDown: false },
    });
    this.nothing = h("p.nothing.soft", { hidden: true });
    fill(root, this.#heading(), this.trouble, this.#bar(), this.table.element, this.nothing, this.#keys());
    root.className = "full";
    this.table.arrange();
    this.polling = poll((signal) => this.#look(signal), { every: () => EVERY_MS + this.count, failed: (error) => this.#tell(error) });
    this.ticking = setInterval(() => document.hidden || this.table.draw(), 1000);
  }

  close() {
    this.polling();
    clearInterval(this.ticking);
    this.table.close();
  }

  #heading() {
    this.select = h("select", { id: "pool", onchange: () => location.assign(this.select.value) }, h("option", { value: "#/sessions" }, "All pools"));
    return h("div.heading", {}, h("div", {}, h("h1", {}, "Sessions"), this.lead), h("div.inline", {}, h("label", { htmlFor: "pool" }, "Pool"), this.select,
      h("button.primary", { type: "button", onclick: () => this.#begin() }, icon("plus"), h("span", {}, "New session"))));
  }

  /** A name opens the session's page; the session begins with what is done there first. */
  async #begin() {
    const pool = h("select", { id: "new-pool" }, this.pools.map((each, at) => h("option", { value: String(at), selected: Boolean(this.wanted) && model.isNamed(each, this.wanted) }, each.name)));
    const name = h("input", { id: "new-name", required: true, minLength: 4, maxLength: 128, pattern: "[ -~]+", autocomplete: "off", spellcheck: false, autofocus: true });
    const found = await dialog("New session", (close) => {
      const form = h("form.body", {},
        h("label", { htmlFor: "new-name" }, "Name"), name, h("p.hint", {}, "4 to 128 letters, digits, blanks and signs of ASCII. A name that is in use opens the session that has it."),
        h("label", { htmlFor: "new-pool" }, "Pool"), pool,
        h("footer", {}, h("button.primary", {}, "Open")));
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        close(this.pools[Number(pool.value)]);
      });
      return form;
    }, { kind: "narrow" });
    if (found) location.assign(model.sessionHref(found, name.value));
  }

  #bar() {
    const search = h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: false, placeholder: "Part of an identifier", maxLength: 200 });
    const state = h("select", { id: "state" }, [["", "Any state"], ["Running", "Running"], ["Idle", "Idle"], ["Failed", "Last one failed"]].map(([value, label]) => h("option", { value }, label)));
    const apply = () => {
      const part = search.value.trim().toLowerCase();
      const wanted = state.value;
      this.table.filter = (row) => (!part || row.identifier.toLowerCase().includes(part)) && (!wanted || (wanted === "Failed" ? row.lastStatus === "Failed" : row.state === wanted));
      this.table.arrange();
      this.#tally();
    };
    search.addEventListener("input", apply);
    state.addEventListener("change", apply);
    return h("div.tools", { role: "search" },
      h("label.unseen", { htmlFor: "filter" }, "Filter by identifier"), search,
      h("label.unseen", { htmlFor: "state" }, "State"), state,
      this.stop,
    );
  }

  #keys() {
    return h("p.hint.keys", {}, h("kbd", {}, "↑ ↓"), " move, ", h("kbd", {}, "Space"), " selects, ", h("kbd", {}, "Enter"), " opens, ", h("kbd", {}, "Delete"), " stops");
  }

  #columns() {
    const at = (name) => (row) => (row[name] ? -Date.parse(row[name]) : null);
    const number = (name) => (row) => row[name] ?? null;
    return [
      { key: "identifier", label: "Identifier", className: "name", sort: (row) => row.identifier, cell: link },
      ...(this.wanted ? [] : [{ key: "pool", label: "Pool", className: "pool", sort: (row) => row.pool.name, cell: (row) => row.pool.name }]),
      { key: "state", label: "State", className: "state", sort: (row) => row.state, cell: state },
      { key: "age", label: "Age", className: "number", sort: at("createdAt"), cell: (row) => ago(row.createdAt, serverNow(), brief) },
      { key: "idle", label: "Idle", className: "number", sort: at("lastUsedAt"), cell: (row) => (row.state === "Running" ? "–" : ago(row.lastUsedAt, serverNow(), brief)) },
      { key: "expires", label: "Ends in", className: "number", sort: (row) => Date.parse(row.expiresAt) || null, cell: (row) => until(row.expiresAt, serverNow(), brief) },
      { key: "executions", label: "Runs", className: "number", sort: number("executions"), cell: (row) => count(row.executions) },
      { key: "last", label: "Last", className: "last", sort: (row) => row.lastStatus ?? null, cell: last },
      { key: "cpu", label: "CPU", className: "number", sort: number("cpuMs"), cell: (row) => (milliseconds(row.cpuMs)) },
      { key: "memory", label: "Memory", className: "number", sort: number("memoryBytes"), cell: (row) => bytes(row.memoryBytes) },
      { key: "disk", label: "Disk", className: "number", sort: number("diskBytes"), cell: (row) => bytes(row.diskBytes) },
    ];
  }

  async #look(signal) {
    this.pools = await model.pools(signal);
    this.#offer();
    const chosen = this.wanted ? this.pools.filter((pool) => model.isNamed(pool, this.wanted)) : this.pools;
    if (this.wanted && !chosen.length) throw new Error(`There is no pool ${this.wanted.pool} that you may see.`);
    const faults = [];
    const lists = await Promise.all(chosen.map((pool) => sessionsOf(pool, signal).catch((error) => (signal.aborted || !this.wanted ? faults.push(error) : Promise.reject(error), []))));
    const rows = lists.flat();
    this.count = rows.length;
    this.#tell(faults[0] ?? null);
    this.table.update(rows);
    this.#tally();
  }

  /** The pools to choose from; only where they are others than before, so that an open list stays open. */
  #offer() {
    const options = [["#/sessions", "All pools"], ...this.pools.map((pool) => [model.sessionsHref(pool), pool.name])];
    const text = JSON.stringify(options);
    if (this.offered === text) return;
    this.offered = text;
    const here = this.pools.find((pool) => this.wanted && model.isNamed(pool, this.wanted));
    const value = here ? model.sessionsHref(here) : "#/sessions";
    fill(this.select, options.map(([href, label]) => h("option", { value: href, selected: href === value }, label)));
  }

  #tally() {
    const { rows, shown } = this.table;
    const running = rows.filter((row) => row.state === "Running").length;
    const of = shown.length === rows.length ? "" : `${count(shown.length)} of `;
    say(this.lead, `${of}${plural(rows.length, "session")}${running ? `, ${count(running)} running` : ""}`);
    this.nothing.hidden = shown.length > 0;
    say(this.nothing, rows.length ? "None of them is like this." : "No session is live. The first call with an identifier begins one.");
  }

  #picked(ids) {
    this.stop.disabled = !ids.size;
    say(this.stop.querySelector("span"), ids.size ? `Stop ${count(ids.size)}` : "Stop");
  }

  #tell(error) {
    this.trouble.textContent = error?.message ?? "";
    this.trouble.hidden = !error;
  }

  async #stop(rows) {
    if (!rows.length) return;
    const text = h("div", {},
      h("p", {}, "What they run is ended, and their variables and files are gone."),
      h("ul.listed", {}, rows.slice(0, NAMED).map((row) => h("li", {}, row.identifier)), rows.length > NAMED && h("li.soft", {}, `and ${count(rows.length - NAMED)} more`)),
    );
    if (!(await confirm(`Stop ${plural(rows.length, "session")}?`, text, "Stop"))) return;
    const faults = [];
    for (let at = 0; at < rows.length; at += TOGETHER) {
      await Promise.all(rows.slice(at, at + TOGETHER).map((row) => stopped(row).catch((error) => faults.push(error))));
    }
    if (faults.length < rows.length) toast(`${plural(rows.length - faults.length, "session")} stopped.`);
    if (faults.length) toast(`${plural(faults.length, "session")} could not be stopped: ${faults[0].message}`, { kind: "wrong" });
    this.table.select([]);
    this.polling.now();
  }
}

async function sessionsOf(pool, signal) {
  const found = await all("data", `${pool.path}/.carrel/sessions`, { signal });
  return found.map((row) => ({ ...row, pool }));
}

/** One that has ended meanwhile is stopped as well. */
async function stopped({ pool, identifier }) {
  try {
    await call("data", "POST", `${pool.path}/.management/stopSession`, { query: { identifier }, raw: true });
  } catch (error) {
    if (error.status !== 404) throw error;
  }
}

function link(row) {
  return h("a", { href: model.sessionHref(row.pool, row.identifier), tabIndex: -1, title: row.identifier }, row.identifier);
}

function state({ state: word }) {
  return h("span", { className: `badge ${word === "Running" ? "good" : "none"}` }, word);
}

function last({ lastStatus }) {
  if (!lastStatus) return "–";
  const isGood = lastStatus === "Succeeded" || lastStatus === "0";
  return h("span", { className: isGood ? "soft" : "failed" }, lastStatus === "Succeeded" ? "ok" : lastStatus.toLowerCase());
}
