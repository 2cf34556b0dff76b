'use strict';
// Rich outputs: `display(value, …)` shows each value as it happens, as a bundle of MIME types. What a value's own
// `[Symbol.for('Jupyter.display')]()` gives (Deno's name for it, which libraries know) is its bundle; so is a plain object whose keys are
// MIME types; bytes of a PNG or JPEG are an image; anything else is text. Text is printed too, for callers who look at stdout only.

const { apply, hasOwn, method, quote } = require('./inside');
const { write } = require('./streams');
const { MAX_JSON, base64, cut, imageFormat, inspect, json } = require('./values');

const OWN = [Symbol.for('carrel.display'), Symbol.for('Jupyter.display')];
const MIME = /^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+$/i;
const { isProxy, isUint8Array } = require('node:util').types;
const { getPrototypeOf, keys, prototype: PLAIN } = Object;
const test = method(RegExp.prototype, 'test');

/** The value's own bundle, or null. */
function ownBundle(value) {
  if (value === null || typeof value !== 'object' || isProxy(value)) return null;
  for (let i = 0; i < OWN.length; i++) {
    if (typeof value[OWN[i]] === 'function') return apply(value[OWN[i]], value, []);
  }
  return isBundle(value) ? value : null;
}

function isBundle(value) {
  const prototype = getPrototypeOf(value);
  if (prototype !== PLAIN && prototype !== null) return false; // and the keys of a large buffer would take seconds
  const names = keys(value);
  for (let i = 0; i < names.length; i++) if (!test(MIME, names[i])) return false;
  return names.length > 0;
}

/** A bundle as JSON text. Throws RangeError for one that is too large. */
function bundleJson(value) {
  const bundle = ownBundle(value);
  if (bundle !== null && typeof bundle === 'object') return membersJson(bundle);
  const image = imageFormat(value);
  if (image !== null) return `{"image/${image}":"${base64(value)}"}`;
  return `{"text/plain":${quote(cut(inspect(value)))}}`;
}

function membersJson(bundle) {
  let text = '';
  const names = keys(bundle);
  for (let i = 0; i < names.length; i++) {
    const part = bundle[names[i]];
    if (!test(MIME, names[i]) || part === undefined) continue;
    const shown = typeof part === 'string' ? quote(part) : isUint8Array(part) ? `"${base64(part)}"` : json(part);
    text += `${text === '' ? '' : ','}${quote(names[i])}:${shown ?? quote(cut(inspect(part)))}`;
  }
  return `{${text}}`;
}

/** The frame's payload for a value to be shown. */
function payload(value) {
  const data = bundleJson(value);
  if (data.length > MAX_JSON) throw new RangeError(`a display of ${data.length} characters; ${MAX_JSON} is the most`);
  return `{"data":${data}}`;
}

/** The text of a value that is shown, for stdout; "" where it has none. */
function plainText(value) {
  const bundle = ownBundle(value);
  if (bundle === null) return imageFormat(value) === null ? inspect(value) : '';
  return hasOwn(bundle, 'text/plain') && typeof bundle['text/plain'] === 'string' ? bundle['text/plain'] : '';
}

/** Make `display` a global; `send(text)` takes a payload. */
function install(send) {
  const display = (...values) => {
    for (let i = 0; i < values.length; i++) {
      const text = plainText(values[i]);
      if (text !== '') write(1, `${cut(text)}\n`, 'utf8');
      send(payload(values[i]));
    }
  };
  Object.defineProperty(globalThis, 'display', { __proto__: null, configurable: true, writable: true, value: display });
}

module.exports = { __proto__: null, install, ownBundle, payload };
