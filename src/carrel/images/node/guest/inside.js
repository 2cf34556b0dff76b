'use strict';
// What the guest uses of Node itself, taken before any code of the user's runs: patching a global or a prototype later changes nothing here.
//
// Some of it is Node's own inside, which is why the program is started with --expose-internals: the inspector's connection without the
// layer that puts messages together (an Object.prototype.toJSON would break it), raw handles for the control socket and for SIGINT, and
// the symbol that lets import() work in evaluated code. The image's lock pins the version of Node; tests/test_node_guest.py guards these.

const { emitWarning } = process;
process.emitWarning = () => {}; // "for internal testing only"
const { internalBinding } = require('internal/test/binding');
process.emitWarning = emitWarning;

const { privateSymbols } = internalBinding('util');
const symbols = internalBinding('symbols');
const { apply } = Reflect;

/** A method as a function of its object: what user code puts in its place on the prototype is not called. */
function method(owner, name) {
  const original = owner[name];
  return (self, ...rest) => apply(original, self, rest);
}

/** import() in evaluated code, resolved from the working directory. */
function allowImports() {
  globalThis[privateSymbols.host_defined_option_symbol] = symbols.vm_dynamic_import_default_internal;
}

module.exports = {
  __proto__: null,
  Connection: internalBinding('inspector').Connection,
  Pipe: internalBinding('pipe_wrap').Pipe,
  SOCKET: internalBinding('pipe_wrap').constants.SOCKET,
  Signal: internalBinding('signal_wrap').Signal,
  kReadBytesOrError: internalBinding('stream_wrap').kReadBytesOrError,
  streamBaseState: internalBinding('stream_wrap').streamBaseState,
  onInit: require('internal/promise_hooks').onInit, // not by node:v8, which brings all of the streams with it: 0.5 MB
  clearAsyncIdStack: internalBinding('async_wrap').clearAsyncIdStack,
  startSigintWatchdog: internalBinding('contextify').startSigintWatchdog,
  stopSigintWatchdog: internalBinding('contextify').stopSigintWatchdog,
  runTicks: process._tickCallback, // process.nextTick, promises, and what is rejected

  quote: JSON.stringify, // of strings only: nothing of the user's can have a say in that
  parse: JSON.parse,
  apply,
  hasOwn: Object.hasOwn,
  setImmediate,
  setTimeout,
  clearTimeout,
  reallyExit: process.reallyExit.bind(process),
  method,
  allowImports,
};
