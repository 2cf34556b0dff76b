// The cells of a session's page, for as long as the tab lives: in sessionStorage, and nowhere else. They are one person's: signing out takes them
// away, and whoever else signs in where a sign-in has ended by itself does not see them.

import * as auth from "../auth.js";

const MOST = 2_000_000; // characters: a browser keeps some five million for a whole origin
const OTHERS = 20; // notebooks of other sessions

auth.onChange((reason) => {
  if (auth.isSignedIn() || reason.startsWith("Your sign-in has ended")) return;
  for (const name of all()) sessionStorage.removeItem(name);
});

const all = () => Object.keys(sessionStorage).filter((name) => name.startsWith("carrel.notebook "));
const key = (pool, identifier) => `carrel.notebook ${pool.id} ${identifier}`;

/** `{cells: [{kind, text, last}], limit}`, or null. What cannot be read is as if it were not there. */
export function read(pool, identifier) {
  try {
    const kept = JSON.parse(sessionStorage.getItem(key(pool, identifier)));
    if (kept.who !== auth.who()) return null;
    const cells = kept.cells.filter((each) => typeof each.text === "string" && (each.kind === "code" || each.kind === "shell"));
    return cells.length ? { cells, limit: Number(kept.limit) || 60 } : null;
  } catch {
    return null;
  }
}

/** Returns whether it was kept. */
export function write(pool, identifier, notebook) {
  if (!auth.isSignedIn()) return true;
  const text = JSON.stringify({ ...notebook, who: auth.who(), at: Date.now() });
  if (text.length > MOST) return false;
  try {
    sessionStorage.setItem(key(pool, identifier), text);
    return true;
  } catch {
    drop(key(pool, identifier));
    return false;
  }
}

/** The oldest of other sessions' notebooks, so that the next time there is room. */
function drop(own) {
  const others = all().filter((name) => name !== own);
  const age = (name) => Number(/"at":(\d+)}$/.exec(sessionStorage.getItem(name) ?? "")?.[1] ?? 0);
  others.sort((one, other) => age(one) - age(other));
  for (const name of others.slice(0, Math.max(1, others.length - OTHERS))) sessionStorage.removeItem(name);
}
