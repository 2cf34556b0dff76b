'use strict';
// What variables there are, for eyes (guest/summary.py says what is told, and docs/reference/guests.md in which words). No code of the
// session's is run for it: getters are not called, proxies not asked, no toString and no util.inspect, and of what was made the prototype's
// own `constructor` gives the name.

const { types } = require('node:util');
const { hasOwn, method, quote } = require('./inside');

const MAX_VARIABLES = 1000;
const MAX_NAME = 255;
const MAX_PREVIEW = 200; // characters
const DEADLINE_MS = 1000;
const ITEMS = 8;
const DEPTH = 3;
const DIGITS = 4000; // bits of a BigInt

const { isProxy, isMap, isSet, isDate, isRegExp, isPromise, isTypedArray, isAnyArrayBuffer, isArrayBuffer, isNativeError } = types;
const { isArray } = Array;
const { getPrototypeOf, getOwnPropertyDescriptor, getOwnPropertyNames, keys, freeze } = Object;
const { min } = Math;
const { now } = Date;
const slice = method(String.prototype, 'slice');
const dateText = method(Date.prototype, 'toISOString');
const dateTime = method(Date.prototype, 'getTime');
const bigText = method(BigInt.prototype, 'toString');
const numberText = method(Number.prototype, 'toString');
const { asUintN } = BigInt;
const sort = method(Array.prototype, 'sort');
const getter = (owner, name) => {
  const { get } = getOwnPropertyDescriptor(owner, name);
  return method({ __proto__: null, get }, 'get');
};
const mapSize = getter(Map.prototype, 'size');
const setSize = getter(Set.prototype, 'size');
const bufferLength = getter(ArrayBuffer.prototype, 'byteLength');
const ARRAY = getPrototypeOf(Uint8Array.prototype);
const arrayLength = getter(ARRAY, 'length');
const arrayBytes = getter(ARRAY, 'byteLength');
const arrayName = getter(ARRAY, Symbol.toStringTag);
const startNames = { __proto__: null };

/** Names on the global object that no cell has made. Called once, before the first. */
function remember() {
  const names = getOwnPropertyNames(globalThis);
  for (let i = 0; i < names.length; i++) startNames[names[i]] = true;
  freeze(startNames);
}

/** The document, as JSON text. `lexical` are the names that let, const and class have made; `peek(name)` gives the value of one. */
function document(lexical, peek) {
  const known = { __proto__: null };
  const names = [];
  const add = (name, isLexical) => {
    if (known[name] !== undefined || name[0] === '_') return;
    known[name] = isLexical;
    names[names.length] = name;
  };
  for (let i = 0; i < lexical.length; i++) add(lexical[i], true);
  const own = getOwnPropertyNames(globalThis);
  for (let i = 0; i < own.length; i++) if (startNames[own[i]] !== true) add(own[i], false);
  sort(names);
  const until = now() + DEADLINE_MS;
  let text = '';
  for (let i = 0; i < min(names.length, MAX_VARIABLES); i++) {
    const name = names[i];
    const value = known[name] ? peek(name) : plain(globalThis, name);
    text += `${i === 0 ? '' : ','}${summary(name, value, now() < until)}`;
  }
  return `{"summary":[${text}],"total":${names.length}}`;
}

function summary(name, value, hasTime) {
  let size = null;
  let shape = null;
  let preview = '';
  if (hasTime) {
    try {
      size = sizeOf(value);
      shape = lengthOf(value);
      preview = shown(value, 0);
    } catch {
      // what cannot be looked into has a name and a type
    }
  }
  const kind = quote(cut(typeName(value), MAX_PREVIEW));
  const length = shape === null ? 'null' : `[${shape}]`;
  return `{"name":${quote(cut(name, MAX_NAME))},"type":${kind},"size":${size},"shape":${length},"preview":${quote(cut(preview, MAX_PREVIEW))}}`;
}

/** The value of an own property that is no getter. */
function plain(object, name) {
  const descriptor = getOwnPropertyDescriptor(object, name);
  return descriptor !== undefined && hasOwn(descriptor, 'value') ? descriptor.value : undefined;
}

function cut(text, most) {
  return text.length <= most ? text : `${slice(text, 0, most - 1)}…`;
}

function isObject(value) {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}

function typeName(value) {
  if (value === null) return 'null';
  if (!isObject(value)) return typeof value;
  if (isProxy(value)) return 'Proxy';
  if (typeof value === 'function') return 'function';
  if (isTypedArray(value)) return arrayName(value);
  let prototype = getPrototypeOf(value);
  for (let i = 0; i < 8 && prototype !== null && !isProxy(prototype); i++) {
    const made = plain(prototype, 'constructor');
    const name = isObject(made) && !isProxy(made) ? plain(made, 'name') : undefined;
    if (typeof name === 'string' && name !== '') return name;
    prototype = getPrototypeOf(prototype);
  }
  return 'Object';
}

/** Bytes, of what is bytes. Node does not tell what others take. */
function sizeOf(value) {
  if (!isObject(value) || isProxy(value)) return null;
  if (isTypedArray(value)) return arrayBytes(value);
  return isArrayBuffer(value) ? bufferLength(value) : null;
}

function lengthOf(value) {
  if (typeof value === 'string') return value.length;
  if (!isObject(value) || isProxy(value) || typeof value === 'function') return null;
  if (isArray(value)) return value.length;
  if (isTypedArray(value)) return arrayLength(value);
  if (isMap(value)) return mapSize(value);
  if (isSet(value)) return setSize(value);
  return null;
}

function shown(value, depth) {
  if (typeof value === 'string') return cut(quote(slice(value, 0, MAX_PREVIEW)), MAX_PREVIEW);
  if (typeof value === 'number') return numberText(value);
  if (typeof value === 'bigint') return asUintN(DIGITS, value) === value ? `${bigText(value)}n` : '<a large BigInt>';
  if (!isObject(value)) return typeof value === 'symbol' ? '<symbol>' : `${value}`;
  if (isProxy(value)) return '<Proxy>';
  if (typeof value === 'function') return functionText(value);
  if (isDate(value)) return dateTime(value) === dateTime(value) ? dateText(value) : 'Invalid Date';
  if (isArray(value) || isTypedArray(value)) return arrayText(value, depth);
  if (isMap(value) || isSet(value) || isRegExp(value) || isPromise(value) || isAnyArrayBuffer(value)) return `<${typeName(value)}>`;
  if (isNativeError(value)) {
    const message = plain(value, 'message');
    return typeof message === 'string' ? `${typeName(value)}: ${cut(message, MAX_PREVIEW)}` : `<${typeName(value)}>`;
  }
  return objectText(value, depth);
}

function functionText(value) {
  const name = plain(value, 'name');
  return typeof name === 'string' && name !== '' ? `${cut(name, 60)}()` : '()';
}

function arrayText(array, depth) {
  const length = lengthOf(array);
  if (depth >= DEPTH) return length === 0 ? '[]' : '[…]';
  let text = '';
  for (let i = 0; i < min(length, ITEMS); i++) text += `${i === 0 ? '' : ', '}${memberText(array, i, depth)}`;
  return `[${text}${length > ITEMS ? ', …' : ''}]`;
}

function objectText(object, depth) {
  const name = typeName(object);
  const head = name === 'Object' ? '' : `${name} `;
  if (depth >= DEPTH) return `${head}{…}`;
  const names = keys(object);
  let text = '';
  for (let i = 0; i < min(names.length, ITEMS); i++) {
    text += `${i === 0 ? '' : ', '}${cut(names[i], 40)}: ${memberText(object, names[i], depth)}`;
  }
  return `${head}{${text}${names.length > ITEMS ? ', …' : ''}}`;
}

function memberText(object, name, depth) {
  const descriptor = getOwnPropertyDescriptor(object, name);
  if (descriptor === undefined) return '';
  return hasOwn(descriptor, 'value') ? cut(shown(descriptor.value, depth + 1), 60) : '<getter>';
}

module.exports = { __proto__: null, document, remember };
