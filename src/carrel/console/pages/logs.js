// A pool's session log: what was executed in it, by whom, how it ended, and as much of code and output as the pool keeps.

import { call } from "../api.js";
import * as model from "../model.js";
import { fill, h, icon, say } from "../ui.js";
import { bytes, count, milliseconds, moment, seconds } from "../words.js";

const KEPT = { off: "This pool keeps no log. Its definition can ask for one: Edit, Session logs.", metadata: "who, when, how long, and how it ended", code: "who, when, how long, how it ended, and the code", full: "who, when, how long, how it ended, the code and the output" };
const STATUSES = ["Succeeded", "Failed", "Canceled"];

export const title = ({ pool }) => `Log of ${pool}`;

export function mount(root, params) {
  const ends = new AbortController();
  const lead = h("p.lead", { role: "status" }, "Looking…");
  const trouble = h("p.wrong", { role: "alert", hidden: true });
  const identifier = h("input", { type: "search", id: "identifier", autocomplete: "off", spellcheck: false, maxLength: 128, placeholder: "A whole identifier" });
  const status = h("select", { id: "status" }, h("option", { value: "" }, "However it ended"), STATUSES.map((each) => h("option", {}, each)));
  const list = h("div.records");
  const more = h("button.quiet", { type: "button", hidden: true }, "Older ones");
  const form = h("form.tools", { role: "search" },
    h("label.unseen", { htmlFor: "identifier" }, "Identifier"), identifier,
    h("label.unseen", { htmlFor: "status" }, "How it ended"), status,
    h("button.quiet", {}, icon("search"), "Look"),
  );
  let next = null;

  async function look(isMore) {
    try {
      const pool = (await model.pools(ends.signal)).find((each) => model.isNamed(each, params));
      if (!pool) throw new Error(`There is no pool ${params.pool} that you may see.`);
      const from = isMore ? next : { path: `${pool.path}/.carrel/logs`, query: { identifier: identifier.value.trim() || undefined, status: status.value || undefined } };
      const page = await call("data", "GET", from.path, { query: from.query, signal: ends.signal });
      next = page.nextLink ? linked(page.nextLink) : null;
      more.hidden = !next;
      if (!isMore) fill(list);
      list.append(...page.value.map((each) => recordOf(each, pool)));
      say(lead, told(page, list.childElementCount));
      trouble.hidden = true;
    } catch (error) {
      if (ends.signal.aborted) return;
      trouble.textContent = error.message;
      trouble.hidden = false;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    look(false);
  });
  status.addEventListener("change", () => look(false));
  more.addEventListener("click", () => look(true));
  const back = `#/sessions/${encodeURIComponent(params.group)}/${encodeURIComponent(params.pool)}`;
  fill(root,
    h("div.heading", {}, h("div", {}, h("h1", {}, `Log of ${params.pool}`), lead), h("a.button.quiet", { href: back }, "Sessions")),
    trouble, form, list, more,
  );
  look(false);
  return () => ends.abort();
}

function linked(link) {
  const url = new URL(link, location.origin);
  return { path: url.pathname, query: Object.fromEntries(url.searchParams) };
}

function told({ records, retentionInSeconds }, number) {
  if (records === "off" && !number) return KEPT.off;
  return `${number ? "" : "Nothing yet. "}Kept for ${seconds(retentionInSeconds)}: ${KEPT[records] ?? records}.`;
}

function recordOf(record, pool) {
  const { at, identifier, status, outcome, kind, wallMs, principal } = record;
  const summary = h("summary", {},
    h("time", { dateTime: at }, moment(at)),
    h("span.name", {}, identifier),
    h("span", { className: `badge ${status === "Succeeded" ? "good" : "bad"}` }, outcome && outcome !== "completed" ? outcome : status),
    h("span.soft", {}, `${kind ?? "code"}, ${milliseconds(wallMs)}`),
  );
  const details = h("details.record", {}, summary);
  details.addEventListener("toggle", () => details.open && details.childElementCount === 1 && details.append(bodyOf(record, pool, principal)));
  return details;
}

function bodyOf(record, pool, principal) {
  const facts = [
    ["Session", h("a", { href: model.sessionHref(pool, record.identifier) }, record.identifier)],
    ["Called by", h("code", {}, principal)],
    ["Trace", h("code", {}, record.trace ?? "–")],
    ["Waited, ran, CPU", [record.queuedMs, record.wallMs, record.cpuMs].map(milliseconds).join(", ")],
    ["In, out", `${bytes(record.bytesIn)}, ${bytes(record.bytesOut)}`],
    ["SHA-256 of the code", h("code", {}, record.codeSha256 ?? "–")],
  ];
  const cut = new Set(record.cut ?? []);
  const texts = [["code", "Code"], ["stdout", "Output"], ["stderr", "Errors"], ["result", "Result"]].filter(([name]) => record[name]);
  return h("div.body", {},
    h("dl.facts", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    texts.map(([name, label]) => [h("h3", {}, label, cut.has(name) && h("span.soft", {}, ` the first ${count(record[name].length)} characters`)), h("pre", { tabIndex: 0, role: "region", ariaLabel: label }, record[name])]),
  );
}
