'use strict';
// Shell runs: each a fresh process in the session's folder, with a process group of its own. Its output goes straight to descriptors 1 and 2.
// A command is over when its own process ends; what it left in the background lives on.

const { closeSync, openSync, rmSync, writeFileSync } = require('node:fs');
const { hasOwn, parse, setTimeout } = require('./inside');
const { cause } = require('./failures');

const INTERRUPT_MS = 500; // from SIGINT to SIGKILL: within the host's own grace period, so that the guest and its state stay
const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;
const MAX_ARGUMENT = 128 * 1024 - 1; // MAX_ARG_STRLEN of the kernel, with its end
const SAID = { __proto__: null, ENOENT: 'command not found', EACCES: 'Permission denied', E2BIG: 'Argument list too long' };

const { kill } = process;
const { byteLength } = Buffer;
let count = 0;

/** What a temporary file holds, as an open descriptor; nobody else sees the file. */
function descriptorOf(text) {
  const path = `${require('node:os').tmpdir()}/.carrel-${process.pid}-${++count}`;
  writeFileSync(path, text, { __proto__: null, mode: 0o600, flag: 'wx' });
  try {
    return openSync(path, 'r');
  } finally {
    rmSync(path);
  }
}

/** The program and its arguments; a line that is too long for an argument is read from a descriptor. */
function invocation(asked, script) {
  if (hasOwn(asked, 'argv') && asked.argv !== null) return asked.argv;
  const shell = hasOwn(asked, 'shell') && asked.shell === 'sh' ? 'sh' : 'bash';
  return script === undefined ? [shell, '-c', asked.command] : [shell, '-c', '. /dev/fd/3'];
}

class Command {
  /** Start what `body` (JSON) asks for in `folder`; `then(exit, cause)` when it is over. */
  constructor(body, folder, say, then) {
    this.child = null;
    this.isOver = false;
    this.say = say;
    this.then = then;
    const open = { __proto__: null, stdin: undefined, script: undefined };
    try {
      this.start(parse(body), folder, open);
    } catch (error) {
      this.failed(error, 'command');
    } finally {
      if (open.stdin !== undefined) closeSync(open.stdin);
      if (open.script !== undefined) closeSync(open.script);
    }
  }

  start(asked, folder, open) {
    if (hasOwn(asked, 'stdin') && asked.stdin !== null) open.stdin = descriptorOf(asked.stdin);
    const isLine = !hasOwn(asked, 'argv') || asked.argv === null;
    if (isLine && byteLength(asked.command) > MAX_ARGUMENT) open.script = descriptorOf(asked.command);
    const argv = invocation(asked, open.script);
    const { 0: program } = argv;
    const rest = [];
    for (let i = 1; i < argv.length; i++) rest[i - 1] = argv[i];
    const stdio = [open.stdin ?? 'ignore', 1, 2];
    if (open.script !== undefined) stdio[3] = open.script;
    const { spawn } = require('node:child_process'); // late: 0.5 MB that few sessions need
    const child = spawn(program, rest, { __proto__: null, cwd: folder, env: process.env, detached: true, stdio });
    child.on('error', (error) => this.failed(error, program));
    child.on('exit', (code, signal) => this.ended(code ?? 128 + require('node:os').constants.signals[signal]));
    this.child = child;
  }

  failed(error, program) {
    if (this.isOver) return;
    const isMissing = error?.code === 'ENOENT';
    this.say(2, `carrel: ${program}: ${SAID[error?.code] ?? error?.message}\n`);
    this.ended(isMissing ? NOT_FOUND : NOT_EXECUTABLE, cause(error));
  }

  ended(exit, limit = '') {
    if (this.isOver) return;
    this.isOver = true;
    this.then(exit, limit);
  }

  /** Ask it to end, and what shares its group; after a while it is not asked. */
  interrupt() {
    this.signal('SIGINT');
    setTimeout(() => this.signal('SIGKILL'), INTERRUPT_MS).unref();
  }

  signal(name) {
    if (this.isOver || this.child?.pid === undefined) return; // its number may be another's by now
    try {
      kill(-this.child.pid, name);
    } catch {}
  }
}

module.exports = { __proto__: null, Command };
