// A table of any number of rows, of which those in sight are there: thousands are as quick as ten.
//
// Focus is on the table itself, and `aria-activedescendant` names the row that the arrow keys have reached: a row that is scrolled out of sight,
// and so out of the page, takes no focus with it. Rows have names of their own (`id(row)`), by which they are followed from one look to the next.

import { fill, h, icon, unique } from "./ui.js";

const SPARE = 6; // rows beyond the edges, so that scrolling shows no gap

/**
 * `columns`: `{key, label, cell(row), sort(row), className}`; a column without `sort` cannot be sorted by. `open(row)` is for Enter and double
 * clicks, `remove(rows)` for Delete, `picked(ids)` hears what is selected.
 */
export class Table {
  constructor({ label, columns, id, open, remove, picked = () => {}, sort }) {
    Object.assign(this, { columns, id, open, remove, picked });
    this.rows = [];
    this.shown = [];
    this.selected = new Set();
    this.order = sort;
    this.filter = () => true;
    this.active = null;
    this.prefix = unique("row");
    this.lines = [];
    this.height = 44;
    this.body = h("div.rows", { role: "rowgroup" });
    this.head = h("div.row.head", { role: "row", ariaRowindex: 1 });
    this.element = h("div.ledger", { role: "grid", tabIndex: 0, ariaLabel: label, ariaMultiselectable: true, onkeydown: (event) => this.#key(event) },
      h("div", { role: "rowgroup" }, this.head), this.body);
    this.element.addEventListener("scroll", () => this.#soon(), { passive: true });
    this.resizing = new ResizeObserver(() => this.#soon());
    this.resizing.observe(this.element);
    this.#heads();
  }

  /** Other rows, in any order. */
  update(rows) {
    this.rows = rows;
    const there = new Set(rows.map(this.id));
    const before = this.selected.size;
    for (const each of this.selected) if (!there.has(each)) this.selected.delete(each);
    if (before !== this.selected.size) this.picked(this.selected);
    this.arrange();
  }

  /** After other rows, another order or filter. */
  arrange() {
    const { key, isDown } = this.order;
    const by = this.columns.find((column) => column.key === key).sort;
    this.shown = this.rows.filter(this.filter).map((row) => [by(row), row]).sort(([one], [other]) => compare(one, other) * (isDown ? -1 : 1)).map(([, row]) => row);
    if (this.active !== null && !this.shown.some((row) => this.id(row) === this.active)) this.active = null;
    this.element.setAttribute("aria-rowcount", String(this.shown.length + 1));
    this.draw();
  }

  /** What is in sight, anew. */
  draw() {
    this.height = parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 44;
    this.body.style.height = `${this.shown.length * this.height}px`;
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - SPARE);
    const last = Math.min(this.shown.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / this.height) + SPARE);
    while (this.lines.length < last - first) this.lines.push(this.#line());
    while (this.lines.length > last - first) this.lines.pop().element.remove();
    for (let at = first; at < last; at += 1) this.lines[at - first].show(at);
    if (this.active === null) this.element.removeAttribute("aria-activedescendant");
    else this.element.setAttribute("aria-activedescendant", this.#name(this.active));
  }

  close() {
    this.resizing.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** The rows that are selected, or none. */
  chosen() {
    return this.rows.filter((row) => this.selected.has(this.id(row)));
  }

  select(ids) {
    this.selected = new Set(ids);
    this.picked(this.selected);
    this.draw();
  }

  #soon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  #name(id) {
    return `${this.prefix}-${this.shown.findIndex((row) => this.id(row) === id)}`;
  }

  #heads() {
    fill(this.head, h("span.slot.tick", { role: "columnheader" }, h("span.unseen", {}, "Selected")), this.columns.map((column) => this.#headOf(column)));
  }

  #headOf(column) {
    const { key, label, sort, className = "" } = column;
    const element = h("span", { className: `slot ${className}`, role: "columnheader", dataset: { label } });
    if (!sort) return fill(element, label);
    const isSorted = this.order.key === key;
    if (isSorted) element.setAttribute("aria-sort", this.order.isDown ? "descending" : "ascending");
    const button = h("button.sort", { type: "button", tabIndex: -1, onclick: () => this.sortBy(key) }, label, h("span.arrow", { ariaHidden: true }, isSorted ? (this.order.isDown ? "↓" : "↑") : ""));
    return fill(element, button);
  }

  /** By a column; by the one that it is sorted by already, the other way round. */
  sortBy(key) {
    this.order = { key, isDown: this.order.key === key ? !this.order.isDown : false };
    this.#heads();
    this.arrange();
  }

  #line() {
    const tick = h("span.slot.tick", { role: "gridcell" }, h("span.box", { ariaHidden: true }));
    const cells = this.columns.map((column) => h("span", { className: `slot ${column.className ?? ""}`, role: "gridcell", dataset: { label: column.label } }));
    const element = h("div.row", { role: "row" }, tick, cells);
    const line = { element, at: -1, show: (at) => this.#show(line, cells, at) };
    tick.addEventListener("click", (event) => this.#toggle(line.at, event.shiftKey));
    element.addEventListener("click", (event) => {
      if (event.target.closest("a, button")) return;
      this.#move(line.at, false);
    });
    element.addEventListener("dblclick", (event) => event.target.closest("a, button, .tick") || this.open(this.shown[line.at]));
    this.body.append(element);
    return line;
  }

  #show(line, cells, at) {
    const row = this.shown[at];
    const id = this.id(row);
    const { element } = line;
    line.at = at;
    element.id = `${this.prefix}-${at}`;
    element.style.transform = `translateY(${at * this.height}px)`;
    element.setAttribute("aria-rowindex", String(at + 2));
    element.setAttribute("aria-selected", String(this.selected.has(id)));
    element.classList.toggle("active", id === this.active);
    this.columns.forEach((column, nth) => put(cells[nth], column.cell(row)));
  }

  #toggle(at, isRange) {
    const id = this.id(this.shown[at]);
    const from = isRange && this.active !== null ? this.shown.findIndex((row) => this.id(row) === this.active) : at;
    const isOn = !this.selected.has(id);
    for (let nth = Math.min(from, at); nth <= Math.max(from, at); nth += 1) {
      if (isOn) this.selected.add(this.id(this.shown[nth]));
      else this.selected.delete(this.id(this.shown[nth]));
    }
    this.active = id;
    this.picked(this.selected);
    this.draw();
  }

  #move(at, scrolls = true) {
    if (!this.shown.length) return;
    const to = Math.max(0, Math.min(this.shown.length - 1, at));
    this.active = this.id(this.shown[to]);
    const head = this.head.offsetHeight;
    const top = to * this.height;
    if (scrolls && top < this.element.scrollTop) this.element.scrollTop = top;
    if (scrolls && top + this.height + head > this.element.scrollTop + this.element.clientHeight) this.element.scrollTop = top + this.height + head - this.element.clientHeight;
    this.draw();
  }

  #key(event) {
    if (event.target !== this.element || event.altKey || event.metaKey) return;
    const at = this.shown.findIndex((row) => this.id(row) === this.active);
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 2);
    const moves = { ArrowDown: at + 1, ArrowUp: at < 0 ? 0 : at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.shown.length - 1 };
    if (event.key in moves && !event.ctrlKey) this.#move(moves[event.key]);
    else if (event.key === " " && at >= 0) this.#toggle(at, event.shiftKey);
    else if (event.key === "Enter" && at >= 0) this.open(this.shown[at]);
    else if (event.key === "Delete" && (this.selected.size || at >= 0)) this.remove(this.selected.size ? this.chosen() : [this.shown[at]]);
    else if (event.key === "a" && event.ctrlKey) this.select(this.shown.map(this.id));
    else if (event.key === "Escape" && this.selected.size) this.select([]);
    else return;
    event.preventDefault();
  }
}

function put(cell, value) {
  if (value instanceof Node) {
    if (cell.firstChild !== value) fill(cell, value);
  } else if (cell.textContent !== value) cell.textContent = value;
}

/** What is not known comes last, whichever way round. */
function compare(one, other) {
  if (one === null || other === null) return one === other ? 0 : one === null ? 1 : -1;
  return typeof one === "string" ? one.localeCompare(other) : one - other;
}

/** A button that is an icon, with a name for who does not see it. */
export function act(name, label, run) {
  return h("button.ghost", { type: "button", tabIndex: -1, ariaLabel: label, title: label, onclick: run }, icon(name));
}
