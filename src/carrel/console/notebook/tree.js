// JSON as a tree that opens as far as somebody looks, and data of a frame as a table.

import { count, plural } from "../words.js";
import { fill, h } from "../ui.js";

const AT_ONCE = 100; // members of a level, and rows
const SHORT = 80; // characters of what is shown in a line
const LONGEST = 400; // characters of a text in a line

/** A value of JSON. Nothing below it is made before it is opened. */
export function tree(value) {
  const whole = short(value);
  if (whole) return h("div.tree", {}, whole);
  return h("div.tree", { role: "group", ariaLabel: "JSON" }, node(null, value, 0));
}

/** What fits a line, as one. */
function short(value) {
  if (value === null || typeof value !== "object" || Object.keys(value).length > 20) return "";
  const text = JSON.stringify(value, null, 1).replace(/\n\s*/g, " ").replace(/([[{]) /g, "$1").replace(/ ([\]}])/g, "$1");
  return text.length <= SHORT ? text : "";
}

function node(name, value, depth) {
  const key = name === null ? [] : [h("span.key", {}, String(name)), ": "];
  if (value === null || typeof value !== "object") return h("div.leaf", {}, key, leaf(value));
  const isArray = Array.isArray(value);
  const size = isArray ? value.length : Object.keys(value).length;
  const [left, right] = isArray ? "[]" : "{}";
  if (!size) return h("div.leaf", {}, key, left + right);
  const inside = h("div.inside");
  const told = h("summary", {}, key, h("span.many", {}, `${left} ${isArray ? plural(size, "item") : plural(size, "member")} ${right}`));
  const box = h("details", {}, told, inside);
  box.addEventListener("toggle", () => {
    if (box.open && !inside.firstChild) members(inside, isArray ? value.map((each, at) => [at, each]) : Object.entries(value), depth + 1);
  });
  if (depth === 0) {
    members(inside, isArray ? value.slice(0, AT_ONCE + 1).map((each, at) => [at, each]) : Object.entries(value), 1, size);
    box.open = size <= 20;
    if (size > AT_ONCE) fill(inside);
  }
  return box;
}

function members(inside, entries, depth) {
  for (const [name, each] of entries.slice(0, AT_ONCE)) inside.append(node(name, each, depth));
  const left = entries.length - AT_ONCE;
  if (left <= 0) return;
  const more = h("button.quiet.small", { type: "button" }, `${count(Math.min(left, AT_ONCE))} more of ${count(left)}`);
  more.addEventListener("click", () => {
    more.remove();
    members(inside, entries.slice(AT_ONCE), depth);
  });
  inside.append(more);
}

function leaf(value) {
  const kind = value === null ? "value" : typeof value === "string" ? "string" : typeof value === "number" ? "number" : "value";
  const text = typeof value === "string" ? JSON.stringify(value.length > LONGEST ? `${value.slice(0, LONGEST)}…` : value) : String(value);
  return h(`span.t-${kind}`, {}, text);
}

/** A Tabular Data Resource (guest/tables.py). Null where it is none. */
export function table(resource) {
  const fields = resource?.schema?.fields;
  if (!Array.isArray(fields) || !Array.isArray(resource.data) || !fields.every((each) => typeof each?.name === "string")) return null;
  const keys = new Set(resource.schema.primaryKey ?? []);
  const head = h("tr", {}, fields.map(({ name }) => h("th", { scope: "col" }, keys.has(name) && name === "index" ? "" : name)));
  const body = h("tbody");
  const box = h("div.table", { tabIndex: 0, role: "region", ariaLabel: "Table" }, h("table", {}, h("thead", {}, head), body));
  const rest = h("div.rest");
  let shown = 0;
  const show = () => {
    for (const row of resource.data.slice(shown, shown + AT_ONCE)) body.append(rowElement(row ?? {}, fields, keys));
    shown = Math.min(resource.data.length, shown + AT_ONCE);
    const left = resource.data.length - shown;
    const rows = Number.isInteger(resource.rows) ? resource.rows : resource.data.length;
    const columns = Number.isInteger(resource.columns) ? resource.columns : fields.length;
    fill(rest,
      h("span.hint", {}, `${plural(rows, "row")} × ${plural(columns, "column")}${resource.truncated ? `, ${count(resource.data.length)} of the rows are here` : ""}`),
      left > 0 && h("button.quiet.small", { type: "button", onclick: show }, `${count(Math.min(left, AT_ONCE))} more rows`),
    );
  };
  show();
  return h("div.data", {}, box, rest);
}

function rowElement(row, fields, keys) {
  const cells = fields.map(({ name, type }) => {
    const value = Object.hasOwn(row, name) ? row[name] : null;
    const text = value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
    const kind = type === "integer" || type === "number" ? "figure" : "";
    const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
    return keys.has(name) ? h("th", { scope: "row" }, cut) : h("td", { className: value === null ? `${kind} none` : kind }, cut);
  });
  return h("tr", {}, cells);
}
