// Python's words, strings, numbers and comments, and IPython's magics.

import { previous, words } from "./pieces.js";

const KEYWORDS = words(`
  and as assert async await break class continue def del elif else except finally for from global if import in is lambda match nonlocal not or
  pass raise return try while with yield case`);
const VALUES = words("None True False Ellipsis NotImplemented");
const BUILT_IN = words(`
  abs aiter all anext any ascii bin bool breakpoint bytearray bytes callable chr classmethod compile complex delattr dict dir divmod enumerate
  eval exec filter float format frozenset getattr globals hasattr hash help hex id input int isinstance issubclass iter len list locals map max
  memoryview min next object oct open ord pow print property range repr reversed round set setattr slice sorted staticmethod str sum super
  tuple type vars zip display`);
const SOFT = words("match case"); // keywords only where something follows on the line that can be matched

function word(text, before, whole, after) {
  const [kind, last] = previous(before);
  if (last.endsWith(".")) return "";
  if (kind === "keyword" && /(?:^|\s)(?:def|class)$/.test(last.trimEnd())) return "name";
  if (SOFT.has(text)) return isSoftKeyword(before, whole, after) ? "keyword" : "";
  if (KEYWORDS.has(text)) return "keyword";
  if (VALUES.has(text)) return "value";
  if (BUILT_IN.has(text)) return "built-in";
  return /^\s*\(/.test(whole.slice(after, after + 20)) ? "call" : "";
}

/** `match x:` and `case 1:` at the beginning of a line. */
function isSoftKeyword(before, whole, after) {
  const line = before.map(([, text]) => text).join("").split("\n").at(-1);
  return line.trim() === "" && /^[ \t]+[^=.,):\s][^\n]*:/.test(whole.slice(after, after + 200));
}

/** A percent sign or an exclamation mark means the shell or IPython only where a line begins with it. */
function magic(_text, before) {
  const last = before.at(-1)?.[1] ?? "\n";
  return /(?:^|\n)[ \t]*$/.test(last) ? "magic" : null;
}

const PREFIX = "(?:[rR][bBfFtT]?|[bBfFtT][rR]?|[uU])?";

export const rules = [
  ["", /[ \t\r\n]+/y],
  ["comment", /#[^\n]*/y],
  ["magic", /(?:%{1,2}|!)[^\n]*/y, magic],
  ["string", new RegExp(`${PREFIX}"""(?:[^\\\\]|\\\\[^])*?(?:"""|$(?![^]))`, "y")],
  ["string", new RegExp(`${PREFIX}'''(?:[^\\\\]|\\\\[^])*?(?:'''|$(?![^]))`, "y")],
  ["string", new RegExp(`${PREFIX}"(?:[^"\\\\\\n]|\\\\[^])*(?:"|(?=\\n)|$(?![^]))`, "y")],
  ["string", new RegExp(`${PREFIX}'(?:[^'\\\\\\n]|\\\\[^])*(?:'|(?=\\n)|$(?![^]))`, "y")],
  ["magic", /@[\p{L}_][\p{L}\p{N}_.]*/uy],
  ["number", /0[xX][\da-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?[jJ]?/y],
  ["", /[\p{L}_][\p{L}\p{N}_]*/uy, word],
];
