'use strict';
// What a cell gave, as the Value document that goes to the agent (guest/values.py): JSON text, bounded. Getters are never called, proxies
// never asked, toJSON is not heeded; util.inspect calls what the user wrote for it, and what that throws is the cell's own error.

const { inspect, types } = require('node:util');
const { hasOwn, method, quote } = require('./inside');

const MAX_TEXT = 1024 * 1024; // characters
const MAX_JSON = 8 * 1024 * 1024; // characters of a container's JSON
const MAX_IMAGE = 6 * 1024 * 1024; // bytes; base64 makes it a container's JSON at the most
const MAX_DEPTH = 64;
const CUT = '\n… (cut)';
const ABSENT = '{"kind":"absent"}';
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const JPEG = [0xff, 0xd8, 0xff];

const { isModuleNamespaceObject, isProxy, isUint8Array } = types;
const { isArray } = Array;
const { isFinite } = Number;
const { getPrototypeOf, getOwnPropertyDescriptor, keys, prototype: PLAIN } = Object;
const slice = method(String.prototype, 'slice');
const base64 = method(Buffer.prototype, 'base64Slice');

const notJson = { __proto__: null }; // thrown: an Error's stack would cost more than the walk

function cut(text) {
  return text.length <= MAX_TEXT ? text : slice(text, 0, MAX_TEXT - CUT.length) + CUT;
}

/** The document of a value, as JSON text. Throws what the value's own code throws. */
function encode(value) {
  if (value === undefined) return ABSENT;
  const scalar = scalarJson(value);
  if (scalar !== null) return `{"kind":"scalar","json":${scalar}}`;
  const image = imageFormat(value);
  if (image !== null) {
    return `{"kind":"image","json":{"type":"image","format":"${image}","base64_data":"${base64(value)}"}}`;
  }
  const json = containerJson(value);
  const text = quote(cut(shown(value, json)));
  return json === null ? `{"kind":"text","text":${text}}` : `{"kind":"container","text":${text},"json":${json}}`;
}

/** util.inspect's text; of a plain value its JSON, where code has broken what util.inspect uses (Array.prototype.push, for one). */
function shown(value, json) {
  try {
    return inspect(value);
  } catch (error) {
    if (json === null || inspect.custom in value) throw error;
    return json;
  }
}

/** JSON has no NaN and no infinities: they are strings, as Python's are. A BigInt is no JSON number: readers would round it. */
function scalarJson(value) {
  if (typeof value === 'string') return quote(cut(value));
  if (typeof value === 'number') return isFinite(value) ? `${value}` : `"${value}"`;
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  return value === null ? 'null' : null;
}

/** JSON of an array or a plain object that holds nothing else; null of any other value, and where it is too large or too deep. */
function containerJson(value) {
  const left = { __proto__: null, size: MAX_JSON };
  try {
    return containerText(value, 0, left);
  } catch (error) {
    if (error === notJson) return null;
    throw error;
  }
}

function containerText(value, depth, left) {
  if (depth > MAX_DEPTH || typeof value !== 'object' || isProxy(value)) throw notJson;
  spend(left, 2);
  if (isArray(value)) return arrayText(value, depth, left);
  const prototype = getPrototypeOf(value);
  if ((prototype !== PLAIN && prototype !== null) || isModuleNamespaceObject(value)) throw notJson;
  return objectText(value, depth, left);
}

function arrayText(array, depth, left) {
  let text = '';
  for (let i = 0; i < array.length; i++) {
    const item = own(array, i);
    text += `${i === 0 ? '' : ','}${item === undefined ? 'null' : memberText(item, depth, left)}`;
    spend(left, 1);
  }
  return `[${text}]`;
}

function objectText(object, depth, left) {
  let text = '';
  const names = keys(object);
  for (let i = 0; i < names.length; i++) {
    const item = own(object, names[i]);
    if (item === undefined) continue; // as JSON.stringify does
    const name = quote(names[i]);
    spend(left, name.length + 2);
    text += `${text === '' ? '' : ','}${name}:${memberText(item, depth, left)}`;
  }
  return `{${text}}`;
}

function memberText(value, depth, left) {
  const scalar = scalarJson(value);
  if (scalar === null) return containerText(value, depth + 1, left);
  spend(left, scalar.length);
  return scalar;
}

function own(object, name) {
  const descriptor = getOwnPropertyDescriptor(object, name);
  if (descriptor === undefined) return undefined; // a hole
  if (!hasOwn(descriptor, 'value')) throw notJson; // a getter
  return descriptor.value;
}

function spend(left, size) {
  left.size -= size;
  if (left.size < 0) throw notJson;
}

/** "png" or "jpeg" of bytes that begin like one, null of anything else. */
function imageFormat(value) {
  if (!isUint8Array(value) || value.length > MAX_IMAGE) return null;
  if (beginsWith(value, PNG)) return 'png';
  return beginsWith(value, JPEG) ? 'jpeg' : null;
}

function beginsWith(bytes, head) {
  for (let i = 0; i < head.length; i++) if (bytes[i] !== head[i]) return false;
  return true;
}

/** JSON of any value that has it, null of others. */
function json(value) {
  return value === undefined ? null : (scalarJson(value) ?? containerJson(value));
}

module.exports = { __proto__: null, ABSENT, MAX_JSON, base64, cut, encode, imageFormat, inspect, json };
