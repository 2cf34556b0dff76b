'use strict';
// The framing of the control socket (guest/frames.py): two big-endian 32-bit lengths, a JSON header, a payload of up to 256 KiB.

const { writeSync } = require('node:fs');
const { kReadBytesOrError, method, parse, Pipe, reallyExit, SOCKET, streamBaseState } = require('./inside');

const MAX_HEADER = 64 * 1024;
const MAX_PAYLOAD = 256 * 1024;
const LENGTHS = 8;
const RETRY_MS = 1;

const bytesOf = Buffer.from;
const makeBytes = Buffer.allocUnsafeSlow;
const { wait } = Atomics;
const never = new Int32Array(new SharedArrayBuffer(4));
const toText = method(Buffer.prototype, 'utf8Slice');
const asciiWrite = method(Buffer.prototype, 'latin1Write');
const part = method(Uint8Array.prototype, 'subarray');
const copyInto = method(Uint8Array.prototype, 'set');
const readLength = method(Buffer.prototype, 'readUInt32BE');
const writeLength = method(Buffer.prototype, 'writeUInt32BE');

/** All of `bytes` to a descriptor, also to one that is non-blocking. Throws what the system says otherwise. */
function writeAll(fd, bytes) {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(fd, bytes, at, bytes.length - at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      wait(never, 0, 0, RETRY_MS); // its reader is slow
    }
  }
}

function joined(one, other) {
  if (one.length === 0) return other;
  const both = makeBytes(one.length + other.length);
  copyInto(both, one, 0);
  copyInto(both, other, one.length);
  return both;
}

class Control {
  /** Calls `onFrame(header, payload)` for each frame; at the end of the socket the process ends. */
  constructor(fd, onFrame) {
    this.fd = fd;
    this.onFrame = onFrame;
    this.held = makeBytes(0);
    this.handle = new Pipe(SOCKET);
    this.handle.open(fd);
  }

  listen() {
    this.handle.onread = (chunk) => {
      if (streamBaseState[kReadBytesOrError] < 0) reallyExit(0);
      if (chunk !== undefined) this.feed(bytesOf(chunk));
    };
    this.handle.readStart();
  }

  feed(bytes) {
    this.held = joined(this.held, bytes);
    while (this.held.length >= LENGTHS) {
      const { held } = this;
      const header = readLength(held, 0);
      const payload = readLength(held, 4);
      if (header > MAX_HEADER || payload > MAX_PAYLOAD) reallyExit(1);
      const start = LENGTHS + header;
      const end = start + payload;
      if (held.length < end) break;
      this.held = part(held, end); // before the call, which an interrupt may leave at any point
      this.onFrame(parse(toText(held, LENGTHS, start)), part(held, start, end));
    }
  }

  /** One frame; `header` is JSON already, and ASCII. */
  send(header, payload) {
    const head = makeBytes(LENGTHS + header.length);
    writeLength(head, header.length, 0);
    writeLength(head, payload === undefined ? 0 : payload.length, 4);
    asciiWrite(head, header, LENGTHS);
    try {
      writeAll(this.fd, payload === undefined ? head : joined(head, payload));
    } catch {
      reallyExit(1); // closed by the code, or the agent is gone
    }
  }

  /** `text` in as many frames as it takes: `fields` (JSON without braces) in all of them, `more` in all but the last, `last` there. */
  sendAll(fields, text, more, last) {
    const bytes = bytesOf(text);
    let at = 0;
    for (; bytes.length - at > MAX_PAYLOAD; at += MAX_PAYLOAD) {
      this.send(`{${fields}${more}}`, part(bytes, at, at + MAX_PAYLOAD));
    }
    this.send(`{${fields}${last}}`, part(bytes, at));
  }
}

/** The pieces of a body that comes in several frames: kept in a chain, and put together once. */
class Pieces {
  constructor() {
    this.last = null;
    this.size = 0;
  }

  add(payload) {
    if (payload.length === 0) return;
    this.last = { __proto__: null, payload, before: this.last };
    this.size += payload.length;
  }

  /** All of it as text; none of it is held any more. */
  take() {
    const whole = makeBytes(this.size);
    for (let at = this.size, piece = this.last; piece !== null; piece = piece.before) {
      at -= piece.payload.length;
      copyInto(whole, piece.payload, at);
    }
    this.last = null;
    this.size = 0;
    return toText(whole, 0, whole.length);
  }
}

module.exports = { __proto__: null, Control, Pieces, writeAll };
