// The pools: a card each, kept up to date in place, so that nothing jumps and the keyboard stays where it is.

import { call } from "../api.js";
import * as model from "../model.js";
import { poll } from "../poll.js";
import { editPool, newPool } from "../pool_form.js";
import { spark } from "../spark.js";
import { confirm, fill, h, icon, say, toast } from "../ui.js";
import { count, milliseconds, plural, seconds } from "../words.js";

const LIST_MS = 4000;
const CHANGING_MS = 800; // while a pool is on its way to what it is to be
const STATUS_MS = 2500;
const TOGETHER = 4;

export const title = () => "Pools";

export function mount(root) {
  const cards = new Map();
  const lead = h("p.lead", {}, "Looking…");
  const trouble = h("p.wrong", { role: "alert", hidden: true });
  const grid = h("div.cards");
  const isSeen = new Set();
  const eyes = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) isSeen[isIntersecting ? "add" : "delete"](target.dataset.id);
    if (entries.some((each) => each.isIntersecting)) statuses.now();
  });
  fill(root,
    h("div.heading", {}, h("div", {}, h("h1", {}, "Pools"), lead), h("button.primary", { type: "button", onclick: make }, icon("plus"), "New pool")),
    trouble,
    grid,
  );

  async function make() {
    if (await newPool()) list.now();
  }

  const tell = (error) => {
    trouble.textContent = error?.message ?? "";
    trouble.hidden = !error;
  };
  const list = poll(async (signal) => {
    const found = await model.pools(signal);
    tell(null);
    say(lead, found.length ? told(found) : "");
    draw(found);
  }, { every: () => (isChanging() ? CHANGING_MS : LIST_MS), failed: tell });
  const isChanging = () => [...cards.values()].some(({ pool }) => !["Succeeded", "Failed"].includes(pool.state));
  const statuses = poll(async (signal) => {
    const wanted = [...cards.values()].filter((card) => isSeen.has(card.pool.id));
    for (let at = 0; at < wanted.length; at += TOGETHER) await Promise.all(wanted.slice(at, at + TOGETHER).map((card) => card.look(signal)));
  }, { every: STATUS_MS });

  function draw(found) {
    const ids = new Set(found.map((pool) => pool.id));
    for (const [id, card] of cards) if (!ids.has(id)) [card.element.remove(), eyes.unobserve(card.element), isSeen.delete(id), cards.delete(id)];
    grid.querySelector(".empty")?.remove();
    found.forEach((pool, at) => {
      let card = cards.get(pool.id);
      if (!card) {
        card = new Card(pool, () => list.now());
        cards.set(pool.id, card);
        eyes.observe(card.element);
      }
      if (grid.children[at] !== card.element) grid.insertBefore(card.element, grid.children[at] ?? null);
      card.update(pool);
    });
    if (!found.length) fill(grid, empty());
  }

  return () => {
    list();
    statuses();
    eyes.disconnect();
  };
}

function told(found) {
  const states = found.filter((pool) => pool.state === "Failed").length;
  return plural(found.length, "pool") + (states ? `, ${states} of them failed` : "");
}

function empty() {
  return h("div.empty", {}, h("h2", {}, "No pools yet"), h("p", {}, "A pool is what sessions are begun in: a runtime, its limits, its isolation."));
}

/** One pool on the page. */
class Card {
  constructor(pool, changed) {
    this.pool = pool;
    this.changed = changed;
    this.badge = h("span.badge");
    this.kind = h("p.soft.kind");
    this.trouble = h("p.wrong", { hidden: true });
    this.figures = { live: figure("live"), warm: figure("warm"), starting: figure("starting"), failed: figure("failed") };
    this.bar = h("div.bar", { role: "img", ariaLabel: "Not known yet" }, h("i.live"), h("i.warm"));
    this.sparks = [
      spark("Calls a minute", (minute) => minute.executions, count),
      spark("First call p50", (minute) => minute.firstCallMs?.p50 ?? null, milliseconds),
      spark("Execution p50", (minute) => minute.executionMs?.p50 ?? null, milliseconds),
    ];
    this.boundary = h("dd");
    this.network = h("dd");
    this.limits = h("dd");
    this.element = this.#build();
  }

  #build() {
    const { pool } = this;
    return h("article.card", { dataset: { id: pool.id }, ariaLabel: `Pool ${pool.name}` },
      h("header", {}, h("h2", {}, h("a", { href: model.sessionsHref(pool) }, pool.name)), this.badge),
      this.kind,
      this.trouble,
      h("div.figures", {}, Object.values(this.figures).map((each) => each.element)),
      this.bar,
      h("div.sparks", {}, this.sparks.map((each) => each.element)),
      h("dl.facts", {}, h("dt", {}, "Isolation"), this.boundary, h("dt", {}, "Network"), this.network, h("dt", {}, "Limits"), this.limits),
      h("footer", {},
        h("a.button.quiet", { href: model.sessionsHref(pool), ariaLabel: `Sessions of ${pool.name}` }, "Sessions"),
        h("a.button.quiet", { href: model.logsHref(pool), ariaLabel: `Log of ${pool.name}` }, "Log"),
        h("button.quiet", { type: "button", ariaLabel: `Edit ${pool.name}`, onclick: () => this.#edit() }, icon("pen"), "Edit"),
        h("button.quiet", { type: "button", ariaLabel: `Delete ${pool.name}`, onclick: () => this.#delete() }, icon("bin"), "Delete"),
      ),
    );
  }

  /** As the control plane has it. */
  update(pool) {
    this.pool = pool;
    this.badge.className = `badge ${{ Succeeded: "good", Failed: "bad" }[pool.state] ?? "warm"}`;
    say(this.badge, { Succeeded: "Ready", InProgress: "In progress" }[pool.state] ?? pool.state);
    say(this.kind, `${model.runtime(pool.type)} · ${pool.carrel.image ? `image ${pool.carrel.image}` : "default image"} · group ${pool.group}`);
    say(this.trouble, pool.error ?? "");
    this.trouble.hidden = !pool.error;
    const { name, meaning, isWeak } = model.isolation(pool.level);
    if (this.boundary.dataset.level !== String(pool.level)) {
      this.boundary.dataset.level = String(pool.level);
      fill(this.boundary, h("strong", { className: isWeak ? "warm" : "" }, name), ". ", meaning);
    }
    say(this.network, model.egress(pool));
    say(this.limits, limits(pool));
  }

  /** As the host has it, where it says so. */
  async look(signal) {
    let status;
    try {
      status = await model.status(this.pool, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      return this.#unknown(error);
    }
    this.element.classList.remove("unknown");
    for (const [name, each] of Object.entries(this.figures)) each.set(status[name]);
    this.figures.live.of(status.maximum);
    const share = (value) => `${Math.min(100, (100 * (value ?? 0)) / Math.max(1, status.maximum))}%`;
    this.bar.children[0].style.width = share(status.live);
    this.bar.children[1].style.width = share(Math.min(status.warm, status.maximum - status.live));
    this.bar.setAttribute("aria-label", `${status.live} live and ${status.warm} warm of at most ${status.maximum}`);
    for (const each of this.sparks) each.update(status.minutes);
    if (status.preparing && !this.pool.error) say(this.kind, `${model.runtime(this.pool.type)} · preparing: ${status.preparing}`);
    return undefined;
  }

  #unknown(error) {
    this.element.classList.add("unknown");
    for (const each of Object.values(this.figures)) each.set(null);
    this.bar.setAttribute("aria-label", error.message);
    for (const each of this.sparks) each.update([]);
  }

  async #edit() {
    if (await editPool(this.pool)) this.changed();
  }

  async #delete() {
    const { pool } = this;
    const text = h("div", {}, h("p", {}, "Its sessions end at once, with what is in them. Records of its use stay."), h("p.soft", {}, pool.id));
    if (!(await confirm(`Delete pool ${pool.name}?`, text, "Delete"))) return;
    try {
      await call("arm", "DELETE", pool.id);
      toast(`Pool ${pool.name} is being deleted.`);
    } catch (error) {
      toast(error.message, { kind: "wrong" });
    }
    this.changed();
  }
}

function figure(name) {
  const value = h("span.value", {}, "–");
  const most = h("span.of");
  const element = h("div.figure", { dataset: { name } }, h("div", {}, value, most), h("span.label", {}, name));
  return {
    element,
    set(number) {
      say(value, count(number));
      element.classList.toggle("some", Boolean(number));
    },
    of: (number) => say(most, ` / ${count(number)}`),
  };
}

function limits({ maximum, ready, cooldown, carrel }) {
  const told = [`up to ${plural(maximum, "session")}`];
  if (ready !== null) told.push(`${count(ready)} kept ready`);
  if (cooldown !== null) told.push(`ended when idle for ${seconds(cooldown)}`);
  if (carrel.memory) told.push(`${carrel.memory} memory`);
  if (carrel.cpu) told.push(plural(carrel.cpu, "processor"));
  return told.join(", ");
}
