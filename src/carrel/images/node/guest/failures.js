'use strict';
// What is said of an error: its text with the frames of the user's own code, and the limit it speaks of. An error may be anything, and its
// properties may be code; whatever that does, something is said.

const { isNativeError } = require('node:util').types;
const { method } = require('./inside');
const { cut, inspect } = require('./values');

const CHAIN = 8; // errors deep: libraries wrap what the system told them
const OURS = `${__dirname}/`;
const FRAME = /^\s+at /u;
const REPEATED = /^\s+\.\.\. \d+ lines matching cause stack trace \.\.\.$/u;
const OPENS = / \{$/u; // the properties of the error follow
const NODES = /\(?node:(?:internal|inspector|vm)[/:]/u;
const CAUSES = {
  __proto__: null,
  ENOMEM: 'memory',
  ERR_WORKER_OUT_OF_MEMORY: 'memory',
  ERR_MEMORY_ALLOCATION_FAILED: 'memory',
  ENOSPC: 'disk',
  EDQUOT: 'disk',
  EFBIG: 'disk', // RLIMIT_FSIZE, at level restricted
};

const split = method(String.prototype, 'split');
const includes = method(String.prototype, 'includes');
const startsWith = method(String.prototype, 'startsWith');
const repeat = method(String.prototype, 'repeat');
const test = method(RegExp.prototype, 'test');
const errorText = method(Error.prototype, 'toString');

/** What code reads as an error's stack, and console.trace prints: without the frames of the guest, which are below all others. */
function stackOf(error, frames) {
  let stack = plainName(error);
  for (let i = 0; i < frames.length; i++) {
    if (!isOurs(frames[i].getFileName())) stack += `\n    at ${frames[i]}`;
  }
  return stack;
}

function isOurs(file) {
  if (typeof file !== 'string') return false;
  if (file === 'node:vm' || file === 'node:internal/carrel') return true; // how the guest calls into a cell
  return startsWith(file, OURS) || startsWith(file, 'node:internal/async_local_storage/');
}

function plainName(error) {
  try {
    return errorText(error);
  } catch {
    return 'Error';
  }
}

/** What goes to stderr for something that nobody caught. */
function text(error) {
  try {
    return `Uncaught ${cut(withoutOurs(inspect(error)))}\n`;
  } catch {
    return `Uncaught ${plainly(error)}\n`;
  }
}

/** For an error whose own code fails when it is shown, and for code that has broken what shows it. */
function plainly(error) {
  try {
    if (typeof error.stack === 'string') return cut(error.stack);
  } catch {} // a getter
  return 'error, which cannot be shown';
}

function withoutOurs(shown) {
  let kept = '';
  const lines = split(shown, '\n');
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    if (test(REPEATED, line)) continue;
    if (test(FRAME, line) && (includes(line, OURS) || test(NODES, line))) {
      if (test(OPENS, line)) kept += ' {';
      continue;
    }
    kept += i === 0 ? line : `\n${line}`;
  }
  return kept;
}

/** Of code that does not compile: the place, as Node shows it, and what V8 says. */
function ofSyntax(error, code, name, line, column) {
  const shown = split(code, /\r\n|[\n\r\u2028\u2029]/u)[line];
  const place = shown === undefined ? '' : `${name}:${line + 1}\n${cut(shown)}\n${repeat(' ', Math.min(column, 1000))}^\n\n`;
  return `${place}Uncaught ${plainly(error)}\n`;
}

/** "memory", "processes", "disk" or "", where the failure has to do with no limit. */
function cause(error) {
  try {
    for (let i = 0; i < CHAIN && isNativeError(error); i++, error = error.cause) {
      const found = one(error);
      if (found !== '') return found;
    }
  } catch {} // a getter of the user's
  return '';
}

function one(error) {
  const { code, message, syscall } = error;
  if (typeof code === 'string' && CAUSES[code] !== undefined) return CAUSES[code];
  if (code === 'EAGAIN' && typeof syscall === 'string' && startsWith(syscall, 'spawn')) return 'processes';
  return message === 'Array buffer allocation failed' ? 'memory' : '';
}

module.exports = { __proto__: null, cause, ofSyntax, stackOf, text };
