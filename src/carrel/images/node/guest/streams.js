'use strict';
// stdout, stderr and the console. Everything is written with write(2) at once, so that what children and libraries write comes in the right
// order, nothing is lost by process.exit(), and all of it is out before a run is reported done. Node's own streams for pipes queue what
// does not fit, and give the descriptor a mode that children then inherit.

const { Console } = require('node:console');
const { writeAll } = require('./frames');

const bytesOf = Buffer.from;
const { defineProperty } = Object;
const states = { __proto__: null, isMuted: false, isNobodys: () => false };

/** What code writes; nothing where the call it belongs to was interrupted and lives on in the event loop. */
function write(fd, data, encoding) {
  if (!states.isNobodys()) say(fd, data, encoding);
}

/** Text or bytes to descriptor 1 or 2, whatever user code has made of the streams. A closed one loses it. */
function say(fd, data, encoding) {
  if (states.isMuted) return;
  try {
    writeAll(fd, typeof data === 'string' ? bytesOf(data, encoding) : data);
  } catch (error) {
    if (error.code !== 'EPIPE' && error.code !== 'EBADF') throw error;
  }
}

function makeStream(fd) {
  const { Writable } = require('node:stream');
  const stream = new Writable({
    __proto__: null,
    decodeStrings: false,
    write(chunk, encoding, callback) {
      write(fd, chunk, encoding);
      callback();
    },
  });
  stream.fd = fd;
  stream.destroy = stream.destroySoon = stream._destroy = () => stream; // not the code's to close
  stream.end = (...last) => {
    if (last.length > 0 && typeof last[0] !== 'function') stream.write(last[0], last[1]);
    return stream;
  };
  return stream;
}

/** process.stdout or process.stderr, made when code first asks for it: most cells only use the console. Returns what the console writes to. */
function lazyStream(name, fd) {
  let stream;
  defineProperty(process, name, {
    __proto__: null,
    configurable: true,
    enumerable: true,
    get: () => (stream ??= makeStream(fd)),
    set: (value) => {
      stream = value;
    },
  });
  return {
    write(data) {
      // Code that replaces process.stdout.write to catch output catches the console's, as in Node.
      if (stream === undefined) write(fd, data, 'utf8');
      else stream.write(data);
      return true;
    },
  };
}

/** A console in place of Node's own, which, with an inspector connected, keeps the last thousand things that were logged alive. */
function install() {
  const stdout = lazyStream('stdout', 1);
  const stderr = lazyStream('stderr', 2);
  // To find out about colours it would load all of the streams: 0.4 MB.
  const value = new Console({ __proto__: null, stdout, stderr, ignoreErrors: false, colorMode: false });
  defineProperty(globalThis, 'console', { __proto__: null, configurable: true, writable: true, value });
}

module.exports = { __proto__: null, install, say, states, write };
