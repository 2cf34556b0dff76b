// What sessions have used, by pool, principal and day: what bills are made of.

import { call } from "../api.js";
import { poll } from "../poll.js";
import { fill, h, icon, say, toast } from "../ui.js";
import { bytes, count, plural, seconds } from "../words.js";

const EVERY_MS = 15_000;
const GROUPS = [["pool,principal", "pool and principal"], ["pool", "pool"], ["principal", "principal"], ["pool,day", "pool and day"], ["day", "day"], ["pool,principal,day", "all three"]];
const HEADS = { pool: "Pool", principal: "Principal", day: "Day" };
const FIGURES = [
  ["sessionSeconds", "Session time", seconds],
  ["cpuSeconds", "CPU time", seconds],
  ["sessions", "Sessions", count],
  ["peakSessions", "At once", count],
  ["executions", "Executions", count],
  ["failedExecutions", "Failed", count],
  ["bytesIn", "In", bytes],
  ["bytesOut", "Out", bytes],
];

export const title = () => "Usage";

export function mount(root) {
  const today = new Date().toISOString().slice(0, 10);
  const lead = h("p.lead", { role: "status" }, "Looking…");
  const trouble = h("p.wrong", { role: "alert", hidden: true });
  const table = h("div.scroll", { tabIndex: 0, role: "region", ariaLabel: "Usage" });
  const from = h("input", { type: "date", id: "from", value: `${today.slice(0, 8)}01` });
  const to = h("input", { type: "date", id: "to", value: today });
  const group = h("select", { id: "by" }, GROUPS.map(([value, label]) => h("option", { value }, label)));
  const form = h("form.tools", { ariaLabel: "What is shown" },
    h("div.inline", {}, h("label", { htmlFor: "from" }, "From"), from),
    h("div.inline", {}, h("label", { htmlFor: "to" }, "to"), to),
    h("div.inline", {}, h("label", { htmlFor: "by" }, "by"), group),
    h("button.quiet", { type: "button", onclick: () => save(query()) }, icon("down"), "CSV"),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  const query = () => ({ from: from.value || undefined, to: to.value || undefined, groupBy: group.value });
  fill(root, h("div.heading", {}, h("div", {}, h("h1", {}, "Usage"), lead)), trouble, form, table);

  const polling = poll(async (signal) => {
    const told = await call("arm", "GET", "/.carrel/usage", { query: query(), signal });
    trouble.hidden = true;
    say(lead, told.value.length ? `${seconds(told.total.sessionSeconds)} of sessions, ${plural(told.total.executions, "execution")}` : "Nothing was used in these days.");
    fill(table, told.value.length > 0 && drawn(told));
  }, { every: EVERY_MS, failed: (error) => {
    trouble.textContent = error.message;
    trouble.hidden = false;
  } });
  form.addEventListener("change", () => polling.now());
  return polling;
}

function drawn({ value, total, groupBy }) {
  const heads = [...groupBy.map((each) => [HEADS[each], ""]), ...FIGURES.map(([, label]) => [label, "number"])];
  return h("table.plain", {},
    h("thead", {}, h("tr", {}, heads.map(([label, className]) => h("th", { scope: "col", className }, label)))),
    h("tbody", {}, value.map((row) => h("tr", {}, groupBy.map((each) => named(each, row)), figures(row)))),
    h("tfoot", {}, h("tr", {}, h("th", { scope: "row", colSpan: Math.max(1, groupBy.length) }, "Together"), figures(total))),
  );
}

function named(what, row) {
  if (what !== "principal") return h("td", { title: row[`${what}Id`] ?? "" }, row[what] ?? "–");
  return h("td", { title: row.principal ?? "" }, row.principalName ?? h("code", {}, row.principal ?? "–"));
}

function figures(row) {
  return FIGURES.map(([name, , words]) => h("td.number", {}, words(row[name])));
}

/** As a file: the server writes it, with figures as they are and not as people read them. */
async function save(query) {
  try {
    const reply = await call("arm", "GET", "/.carrel/usage", { query, raw: true, headers: { Accept: "text/csv" } });
    const link = h("a", { href: URL.createObjectURL(await reply.blob()), download: `carrel-usage-${query.from ?? ""}-${query.to ?? ""}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    toast(error.message, { kind: "wrong" });
  }
}
