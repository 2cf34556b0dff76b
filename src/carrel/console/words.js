// Numbers and times as people read them.

const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const count = (value) => (value === null || value === undefined ? "–" : value < 100_000 ? COUNT.format(value) : COMPACT.format(value));

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) [value, at] = [value / 1024, at + 1];
  return `${at && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 1000 ? `${Math.round(value)} ms` : seconds(value / 1000);
}

/** A span of time, in its two largest units at most. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1).replace(".0", "")} s`;
  if (value < 60) return `${Math.floor(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min${value < 600 && Math.floor(value % 60) ? ` ${Math.floor(value % 60)} s` : ""}`;
  if (value < 86_400) return both(value, 3600, "h", 60, "min");
  return both(value, 86_400, "d", 3600, "h");
}

function both(value, large, one, small, other) {
  const rest = Math.floor((value % large) / small);
  return `${Math.floor(value / large)} ${one}${rest ? ` ${rest} ${other}` : ""}`;
}

/** The same, for a column. */
export function brief(value) {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (value < 60) return seconds(value);
  if (value < 3600) return `${Math.floor(value / 60)}m ${two(value % 60)}s`;
  return value < 86_400 ? `${Math.floor(value / 3600)}h ${two((value % 3600) / 60)}m` : `${Math.floor(value / 86_400)}d ${two((value % 86_400) / 3600)}h`;
}

export const ago = (iso, now, words = seconds) => (iso ? words(Math.max(0, (now - Date.parse(iso)) / 1000)) : "–");
export const until = (iso, now, words = seconds) => (iso ? (Date.parse(iso) <= now ? "now" : words((Date.parse(iso) - now) / 1000)) : "–");
export const moment = (iso) => (iso ? CLOCK.format(new Date(iso)) : "–");
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
