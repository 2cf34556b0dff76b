// The shell's words where a command may begin, strings, variables and comments.

import { words } from "./pieces.js";

const KEYWORDS = words("if then elif else fi for while until do done case esac in function select time coproc return break continue exit");
const BUILT_IN = words(`
  alias bg bind cd command declare dirs disown echo enable eval exec export fg getopts hash help jobs kill let local mapfile popd printf pushd pwd
  read readonly set shift shopt source test times trap true false type typeset ulimit umask unalias unset wait`);
const TESTS = words("[[ ]] [ ]");

/** Whether a command may begin here: at the start, after a line's end, a separator, or a keyword that takes one. */
function isCommand(before) {
  let text = "";
  for (let at = before.length - 1; at >= 0 && at > before.length - 8; at--) {
    const [kind, piece] = before[at];
    if (kind === "comment") break;
    text = piece + text;
    if (piece.trim()) return kind === "keyword" ? !/(?:^|\s)(?:for|case|in|select|function)$/.test(piece.trimEnd()) : /(?:^|[\n;&|({!`])\s*$/.test(text);
  }
  return true;
}

function word(text, before, whole, after) {
  if (TESTS.has(text)) return "keyword";
  const last = before.findLast(([, piece]) => piece.trim())?.[1].trimEnd() ?? "";
  if (text === "in" && /\S/.test(last)) return "keyword";
  if (!isCommand(before)) return text.startsWith("-") ? "built-in" : "";
  if (/^[A-Za-z_]\w*$/.test(text) && /^\+?=/.test(whole.slice(after, after + 2))) return "name";
  if (KEYWORDS.has(text)) return "keyword";
  return BUILT_IN.has(text) ? "built-in" : "call";
}

/** A number sign begins a comment only where a word would begin. */
function comment(_text, before) {
  const last = before.at(-1)?.[1] ?? "\n";
  return /[\s;&|()]$/.test(last) ? "comment" : null;
}

export const rules = [
  ["", /[ \t\r\n]+/y],
  ["comment", /#[^\n]*/y, comment],
  ["string", /\$?"(?:[^"\\]|\\[^])*(?:"|$(?![^]))/y],
  ["string", /\$?'[^']*(?:'|$(?![^]))/y],
  ["value", /\$(?:\{[^}\n]*\}?|[A-Za-z_]\w*|[\d@*#?$!-])/y],
  ["keyword", /\$?\(\(|\)\)|\$\(/y],
  ["number", /\b\d+(?=\s|$|[;&|<>)])/y],
  ["", /(?:[A-Za-z_][\w]*(?=\+?=))|[^\s;&|()<>"'$`\\{}]+|\\[^]/y, word],
];
