// The server's health: what it says of itself, what its isolation lacks, and what went wrong lately.

import { call, serverNow } from "../api.js";
import { poll } from "../poll.js";
import { fill, h, say, toast } from "../ui.js";
import { ago, bytes, count, milliseconds, moment, plural } from "../words.js";

const EVERY_MS = 5000;
const SOON_DAYS = 21; // a certificate this close to its end wants somebody's attention

export const title = () => "Health";

export function mount(root) {
  const lead = h("p.lead", { role: "status" }, "Looking…");
  const state = h("span.badge.large");
  const trouble = h("p.wrong", { role: "alert", hidden: true });
  const parts = { tiles: h("div.tiles"), findings: h("section"), pools: h("section"), errors: h("section") };
  let before = {};
  fill(root, h("div.heading", {}, h("div", {}, h("h1", {}, "Health"), lead), state), trouble, Object.values(parts));

  /** A part is drawn anew only where it says something else, so that text which somebody marks stays marked. */
  function draw(name, told, build) {
    const text = JSON.stringify(told);
    if (before[name] === text) return;
    before[name] = text;
    fill(parts[name], build(told));
  }

  return poll(async (signal) => {
    const health = await call("arm", "GET", "/.carrel/health", { signal });
    trouble.hidden = true;
    const isWell = (health.status ?? (health.host.healthy ? "healthy" : "degraded")) === "healthy";
    state.className = `badge large ${isWell ? "good" : "bad"}`;
    say(state, isWell ? "Healthy" : "Degraded");
    say(lead, `Carrel ${health.version}, up for ${ago(health.startedAt, serverNow())}`);
    fill(parts.tiles, tiles(health));
    const general = ofAll(health);
    draw("findings", { isolation: health.isolation ?? null, general }, findings);
    draw("pools", { told: health.pools, general }, pools);
    draw("errors", health.errors, errors);
  }, { every: EVERY_MS, failed: (error) => {
    trouble.textContent = error.message;
    trouble.hidden = false;
  } });
}

function tiles({ host, store, certificate, signingKeys, processes, python, kernel }) {
  const found = [tile("Session host", host.healthy ? "Answers" : "Away", host.healthy ? `in ${milliseconds(host.answeredInMs)}` : "pools cannot be used until it is back", !host.healthy)];
  if (host.maximumSandboxes !== undefined) found.push(tile("Sandboxes", count(host.maximumSandboxes), `at most; the host has used ${bytes(host.peakMemoryBytes)} at its peak`));
  if (store) found.push(tile("Store", store.healthy ? { sqlite: "SQLite", postgresql: "PostgreSQL" }[store.engine] ?? store.engine : "Away", store.healthy ? bytes(store.sizeBytes) : "nothing can be changed until it is back", !store.healthy));
  if (certificate) found.push(tile("Certificate", plural(certificate.daysLeft, "day"), `left, until ${moment(certificate.endsAt)}`, certificate.daysLeft < SOON_DAYS));
  if (signingKeys) found.push(tile("Signing keys", count(signingKeys.count), signingKeys.newestAgeDays === null ? "" : signingKeys.newestAgeDays ? `the newest is ${plural(signingKeys.newestAgeDays, "day")} old` : "the newest made today"));
  if (processes) found.push(tile("Machine", kernel, `Python ${python}; ${processes.map((each) => `${each.name} ${each.state === "running" ? each.pid : each.state}`).join(", ")}`, false, true));
  return found;
}

function tile(name, value, more, isBad = false, isText = false) {
  return h("div.tile", {}, h("h2", {}, name), h("p", { className: `value ${isBad ? "bad" : ""} ${isText ? "text" : ""}` }, value), h("p.hint", {}, more));
}

/** Weaknesses that every pool has are the machine's, and said there once; those of some pools are said with the pools. */
function ofAll({ isolation, pools: told }) {
  const somewhere = new Set(told.flatMap((pool) => pool.weaknesses));
  return (isolation?.warnings ?? []).filter((each) => !somewhere.has(each) || told.every((pool) => pool.weaknesses.includes(each)));
}

function findings({ isolation, general: warnings }) {
  if (!isolation) return [];
  const { passedOver } = isolation;
  return [
    h("h2", {}, "Isolation on this machine"),
    !passedOver.length && !warnings.length && h("p.soft", {}, "No isolation level was passed over, and nothing weakens all pools."),
    h("ul.findings", {},
      warnings.map((each) => h("li", {}, h("span.badge.warm", {}, "Warning"), h("p", {}, each))),
      passedOver.map(({ level, reason, advice }) => h("li", {}, h("code", {}, level), h("p", {}, `not here: ${reason}`, advice && h("span.soft", {}, ` ${advice}`)))),
    ),
  ];
}

function pools({ told: all, general }) {
  const told = all.map((pool) => ({ ...pool, weaknesses: pool.weaknesses.filter((each) => !general.includes(each)) }));
  const wanting = told.filter((pool) => pool.error || pool.weaknesses.length || pool.short);
  if (!told.length) return [];
  return [
    h("h2", {}, "Pools that want a look"),
    h("p.soft", {}, wanting.length ? `${wanting.length} of ${plural(told.length, "pool")}:` : `${plural(told.length, "pool")}, and nothing to say against any.`),
    h("ul.findings", {}, wanting.map((pool) => h("li", {}, h("strong", {}, pool.name), h("p", {}, [pool.error, pool.short && "fewer sandboxes stand ready than should", ...pool.weaknesses].filter(Boolean).join("; "))))),
  ];
}

function errors(told) {
  const heads = ["When", "What", "Where", "Trace"];
  return [
    h("h2", {}, "Recent errors"),
    told.length
      ? h("div.scroll", { tabIndex: 0, role: "region", ariaLabel: "Recent errors" }, h("table.plain", {}, h("thead", {}, h("tr", {}, heads.map((each) => h("th", { scope: "col" }, each)))), h("tbody", {}, [...told].sort((one, other) => Date.parse(other.at) - Date.parse(one.at)).map(row))))
      : h("p.soft", {}, "None since the server began."),
  ];
}

function row({ at, part, trace, route, pool, code, message }) {
  return h("tr", {},
    h("td", {}, h("time", { dateTime: at }, moment(at))),
    h("td.wrap", {}, h("strong", {}, code), h("div.soft", {}, message)),
    h("td", {}, [part, pool, route].filter(Boolean).join(" · ")),
    h("td", {}, trace ? traceOf(trace) : "–"),
  );
}

function traceOf(trace) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(trace);
      toast("The trace id is copied.");
    } catch {
      toast(trace);
    }
  };
  return h("button.ghost.trace", { type: "button", title: trace, ariaLabel: `Copy trace id ${trace}`, onclick: copy }, `${trace.slice(0, 8)}…`);
}

