'use strict';
// Code that does not compile as it stands, made into code that does: `import` and `export` statements (a cell is a script, not a module), and
// TypeScript. V8 says where it stumbled, so no parser is needed here: at that place stands the statement, and never a string or a comment.
//
// An import becomes `const { … } = await import(…)`, where it stands; line numbers stay as they are.

const { method } = require('./inside');

const MAX_REWRITES = 200; // statements of one cell
const slice = method(String.prototype, 'slice');
const exec = method(RegExp.prototype, 'exec');
const replace = method(String.prototype, 'replace');
const startsWith = method(String.prototype, 'startsWith');

const SPACE = String.raw`(?:\s|\/\*(?:[^*]|\*(?!\/))*\*\/|\/\/[^\n]*\n)*`;
const NAME = String.raw`[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*`;
const STRING = String.raw`'[^'\n]*'|"[^"\n]*"`;
const NAMESPACE = String.raw`\*${SPACE}as\s+(?<whole>${NAME})`;
const MEMBERS = String.raw`\{(?<members>[^{}]*)\}`;
const ATTRIBUTES = String.raw`(?:${SPACE}with${SPACE}(?<attributes>\{[^{}]*\}))?`;
const IMPORT = new RegExp(
  String.raw`^import${SPACE}(?:(?:(?<main>${NAME})(?:${SPACE},${SPACE}(?=[*{])|(?=[\s/])))?(?:${NAMESPACE}|${MEMBERS})?${SPACE}from${SPACE})?` +
    String.raw`(?<from>${STRING})${ATTRIBUTES}[ \t]*;?`,
  'u',
);
const DEFAULT_EXPORT = /^export\s+default\s+(?=(?:async\s+)?function\b|class\b)/u;
const EXPORT = /^export\s+(?:default\b\s*|\{[^{}]*\}\s*(?:from\s*(?:'[^'\n]*'|"[^"\n]*"))?[ \t]*;?|(?=const\b|let\b|var\b|class\b|(?:async\s+)?function\b))/u;
const IMPORT_META = /import\s*\.\s*$/u; // before the place: V8 points at `meta`
const LINE_END = /\r\n|[\n\r\u2028\u2029]/gu;
const MEMBER = new RegExp(String.raw`(${NAME}|${STRING})\s+as\s+`, 'gu');

/** Where `line` and `column` (from 0) are in `code`. */
function offset(code, line, column) {
  LINE_END.lastIndex = 0;
  for (let i = 0; i < line; i++) exec(LINE_END, code);
  return (line === 0 ? 0 : LINE_END.lastIndex) + column;
}

function lineEnds(text) {
  let count = 0;
  LINE_END.lastIndex = 0;
  while (exec(LINE_END, text) !== null) count++;
  return count;
}

/** `text` with as many lines as what it stands for, so that what follows stays on its line. */
function inPlaceOf(original, text) {
  const found = { __proto__: null, text, length: original.length };
  for (let i = lineEnds(text); i < lineEnds(original); i++) found.text += '\n';
  return found;
}

function importStatement(groups) {
  const options = groups.attributes === undefined ? '' : `, { with: ${groups.attributes} }`;
  const awaited = `await import(${groups.from}${options})`;
  const main = groups.main === undefined ? '' : `default: ${groups.main}`;
  if (groups.whole !== undefined) {
    return `const ${groups.whole} = ${awaited}${main === '' ? '' : `, { ${main} } = ${groups.whole}`};`;
  }
  const members = groups.members === undefined ? '' : replace(groups.members, MEMBER, '$1: ');
  if (main === '' && groups.members === undefined) return `${awaited};`;
  return `const { ${main}${main !== '' && members !== '' ? ', ' : ''}${members} } = __carrel__.named(${awaited});`;
}

/** The statement that `rest` begins with as a script has it, and its length; null where it is none that a module has. */
function statement(rest) {
  let found = exec(IMPORT, rest);
  if (found !== null) return inPlaceOf(found[0], importStatement(found.groups));
  found = exec(DEFAULT_EXPORT, rest) ?? exec(EXPORT, rest);
  return found === null ? null : inPlaceOf(found[0], '');
}

/** `code` without the module's statement at that place; null where there is none. */
function asScript(code, line, column) {
  const at = offset(code, line, column);
  const rest = slice(code, at);
  if (startsWith(rest, 'meta')) {
    const before = exec(IMPORT_META, slice(code, 0, at));
    return before === null ? null : `${slice(code, 0, before.index)}__carrel__.meta${slice(rest, 4)}`;
  }
  if (!startsWith(rest, 'import') && !startsWith(rest, 'export')) return null;
  const found = statement(rest);
  return found === null ? null : slice(code, 0, at) + found.text + slice(rest, found.length);
}

/** `code` without its types; null where it is no TypeScript either. */
function withoutTypes(code) {
  const { stripTypeScriptTypes } = require('node:module');
  for (const mode of ['strip', 'transform']) {
    try {
      const script = stripTypeScriptTypes(code, { __proto__: null, mode });
      return script === code ? null : script;
    } catch (error) {
      if (error?.code !== 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') return null; // `enum` and its kind want the other mode
    }
  }
  return null;
}

/** Tries one rewriting after the other. `next(line, column)` gives the code to try, or null when there is nothing left to try. */
class Source {
  constructor(code) {
    this.code = this.original = code;
    this.isTyped = true; // as far as we know
    this.left = MAX_REWRITES;
  }

  next(line, column) {
    if (this.left-- <= 0) return null;
    let code = asScript(this.code, line, column);
    if (code === null && this.isTyped) {
      this.isTyped = false;
      code = withoutTypes(this.original);
    }
    if (code !== null) this.code = code;
    return code;
  }
}

module.exports = { __proto__: null, Source };
