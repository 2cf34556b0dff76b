// JavaScript's words, strings with what is put into them, numbers, comments and regular expressions.

import { previous, words } from "./pieces.js";

const KEYWORDS = words(`
  async await break case catch class const continue debugger default delete do else export extends finally for from function if import in
  instanceof let new of return static switch throw try typeof var void while with yield get set`);
const SOFT = words("async from get of set static"); // names like others where nothing of theirs follows
const VALUES = words("true false null undefined NaN Infinity this super globalThis");
const BUILT_IN = words(`
  Array ArrayBuffer BigInt Boolean Buffer DataView Date Error Float64Array Function Int32Array Intl JSON Map Math Number Object Promise Proxy
  Reflect RegExp Set String Symbol Uint8Array URL WeakMap WeakSet console display exports fetch module process require setImmediate setInterval
  setTimeout structuredClone`);

function word(text, before, whole, after) {
  const [kind, last] = previous(before);
  const next = whole.slice(after, after + 20);
  if (last.endsWith(".") && !last.endsWith("...")) return /^\s*\(/.test(next) ? "call" : "";
  if (kind === "keyword" && /(?:^|\s)(?:function\*?|class)$/.test(last.trimEnd())) return "name";
  if (SOFT.has(text) && !/^\s+[\w$*{"'`[]/.test(next)) return /^\s*\(/.test(next) ? "call" : "";
  if (KEYWORDS.has(text)) return "keyword";
  if (VALUES.has(text)) return "value";
  if (BUILT_IN.has(text)) return "built-in";
  return /^\s*\(/.test(next) ? "call" : "";
}

/** A slash begins a regular expression where a value may stand: not after a name, a number or a closing bracket. */
function expression(_text, before) {
  const [kind, last] = previous(before);
  if (kind === "keyword") return "string";
  return last === "" || (kind === "" && /[=(,;:[!&|?{}+\-*%~^<>]\s*$/.test(last)) ? "string" : null;
}

export const rules = [
  ["", /\s+/y],
  ["comment", /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$(?![^]))|^#![^\n]*/y],
  ["string", /"(?:[^"\\\n]|\\[^])*(?:"|(?=\n)|$(?![^]))/y],
  ["string", /'(?:[^'\\\n]|\\[^])*(?:'|(?=\n)|$(?![^]))/y],
  ["string", /`(?:[^`\\]|\\[^])*(?:`|$(?![^]))/y],
  ["string", /\/(?![*/])(?:[^/\\[\n]|\\[^\n]|\[(?:[^\]\\\n]|\\[^\n])*\])+\/[a-z]*/y, expression],
  ["number", /0[xX][\da-fA-F_]+n?|0[bB][01_]+n?|0[oO][0-7_]+n?|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?n?/y],
  ["", /#?[\p{L}_$][\p{L}\p{N}_$]*/uy, word],
];
