// The pools: a card each.

import { poll } from "../poll.js";
import * as model from "../model.js";
import { fill, h } from "../ui.js";
import { plural } from "../words.js";

export const title = () => "Pools";

export function mount(root) {
  const cards = h("div.cards");
  const lead = h("p.lead", { role: "status" }, "Looking…");
  fill(root, h("div.heading", {}, h("div", {}, h("h1", {}, "Pools"), lead)), cards);
  return poll(async (signal) => {
    const found = await model.pools(signal);
    lead.textContent = plural(found.length, "pool");
    fill(cards, found.map((pool) => h("article.card", {}, h("h2", {}, h("a", { href: model.sessionsHref(pool) }, pool.name)), h("p", {}, `${model.runtime(pool.type)} · ${model.isolation(pool.level).name} · ${model.egress(pool)}`))));
  }, { every: 4000, failed: (error) => { lead.textContent = error.message; } });
}
