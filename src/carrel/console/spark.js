// A line of the last hour, a point each minute: drawn by hand, with what it says in words for whoever does not see it.

import { fill, h, svg } from "./ui.js";

const WIDTH = 120;
const HEIGHT = 28;
const MINUTES = 60;

/** An element with a label, the latest value and its line; `update(minutes)` draws anew. `pick(minute)` is a number, or null for none. */
export function spark(label, pick, words) {
  const now = h("span.now", {}, "–");
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: not known yet` });
  const element = h("div.spark", {}, h("div.told", {}, h("span.label", {}, label), now), drawing);
  return {
    element,
    update(minutes) {
      const values = padded(minutes.map(pick));
      const known = values.filter((each) => each !== null);
      const latest = known.at(-1) ?? null;
      now.textContent = latest === null ? "–" : words(latest);
      const highest = known.length ? words(Math.max(...known)) : "none";
      drawing.setAttribute("aria-label", `${label} over the last hour: ${known.length ? `latest ${words(latest)}, highest ${highest}` : "no calls"}`);
      fill(drawing, ...shapes(values));
    },
  };
}

/** The newest last, at the right edge. */
function padded(values) {
  const last = values.slice(-MINUTES);
  return [...Array(MINUTES - last.length).fill(null), ...last];
}

function shapes(values) {
  const most = Math.max(...values.map((each) => each ?? 0), Number.MIN_VALUE);
  const x = (at) => ((at * WIDTH) / (MINUTES - 1)).toFixed(1);
  const y = (value) => (HEIGHT - 2 - (value / most) * (HEIGHT - 5)).toFixed(1);
  const found = [svg("path", { d: `M0 ${HEIGHT - 1}H${WIDTH}`, class: "base" })];
  for (const run of runs(values)) {
    const points = run.map(([at, value]) => `${x(at)} ${y(value)}`);
    if (run.length > 1) {
      found.push(svg("path", { d: `M${x(run[0][0])} ${HEIGHT - 1}L${points.join("L")}L${x(run.at(-1)[0])} ${HEIGHT - 1}z`, class: "area" }));
    }
    found.push(svg("path", { d: `M${points.join("L")}${run.length === 1 ? "h0.01" : ""}`, class: run.length === 1 ? "line dot" : "line" }));
  }
  return found;
}

/** Stretches of minutes that have a value. */
function runs(values) {
  const found = [];
  values.forEach((value, at) => {
    if (value === null) return;
    if (at && values[at - 1] !== null && found.length) found.at(-1).push([at, value]);
    else found.push([[at, value]]);
  });
  return found;
}
