// Highlighting: a program as pieces of [kind, text] that together are the program, whatever stands in it. A language is a list of rules, tried
// in order at each place; what none of them fits is plain. Colours are a help to the eye and no parser: what is cut off half-way
// is coloured as far as it goes.

import * as bash from "./bash.js";
import * as javascript from "./javascript.js";
import * as python from "./python.js";

const LANGUAGES = { python, javascript, bash };
const MOST = 60_000; // characters: what is longer is shown in one colour

/** `language` is python, javascript or bash; another one has no colours. */
export function tokens(language, text) {
  const rules = LANGUAGES[language]?.rules;
  if (!rules || text.length > MOST) return [["", text]];
  const found = [];
  let at = 0;
  while (at < text.length) {
    const [kind, length] = first(rules, text, at, found);
    add(found, kind, text.slice(at, at + length));
    at += length;
  }
  return found;
}

function first(rules, text, at, before) {
  for (const [kind, pattern, name] of rules) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (!match || match[0] === "") continue;
    const length = match[0].length;
    const chosen = name ? name(match[0], before, text, at + length) : kind;
    if (chosen !== null) return [chosen, length];
  }
  return ["", 1];
}

function add(found, kind, text) {
  const last = found.at(-1);
  if (last && last[0] === kind) last[1] += text;
  else found.push([kind, text]);
}
