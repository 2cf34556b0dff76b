// What the languages' rules are made with.

/** The last piece before this one that is more than blanks. */
export function previous(before) {
  for (let at = before.length - 1; at >= 0; at--) if (before[at][1].trim()) return before[at];
  return ["", ""];
}

export const words = (text) => new Set(text.trim().split(/\s+/));
