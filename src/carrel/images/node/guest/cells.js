'use strict';
// Evaluating code as the console of DevTools does, through an inspector connection inside this thread (no socket, no second thread):
// `Runtime.evaluate` with `replMode` gives top-level await and lets `const`, `let` and `class` be declared again in a later cell.
//
// A reply that comes while the message is being dispatched says that nothing has run: the code did not compile. What ran replies later,
// from a microtask. That is how code may be rewritten and tried again (sources.js) without ever running twice.
//
// A cell that waits is an async function whose promise only the inspector knows. When it is collected (`await new Promise(() => {})`: nobody
// will ever settle it), the inspector says so from within the garbage collection, and Node calls into JavaScript, which ends the process
// ("Invoke in DisallowJavascriptExecutionScope"). So the promise is held while the cell runs, and a cell that was interrupted takes its
// connection with it. The hook that finds the promise makes every later await a little slower, so it is set for cells that have one.

const { Connection, hasOwn, method, onInit, parse, quote } = require('./inside');

const CELL = '"objectGroup":"cell","silent":true,"serializationOptions":{"serialization":"idOnly"}';
const slice = method(String.prototype, 'slice');
const includes = method(String.prototype, 'includes');
const { Number, BigInt } = globalThis;
const { defineProperty } = Object;

class Cells {
  constructor() {
    this.count = 0;
    this.stopLooking = () => {};
    this.connect();
  }

  connect() {
    this.isDispatching = false;
    this.waiting = { __proto__: null };
    this.held = undefined;
    this.collected = undefined;
    this.connection = new Connection((message) => this.onMessage(message));
    this.collector = this.remoteOf((value) => {
      this.collected = value;
    });
  }

  /** Run a cell. `then(reply)` is called once; `isRefused` where it did not compile, and then with the `line` and `column` where. */
  evaluate(code, name, then) {
    const expression = quote(`${code}\n//# sourceURL=${name}`);
    this.held = undefined;
    if (includes(code, 'await')) this.stopLooking = this.holdNext();
    this.call('Runtime.evaluate', `"expression":${expression},"replMode":true,${CELL}`, (result, isAtOnce) => {
      then(this.reply(result, isAtOnce));
    });
    this.stopLooking();
  }

  /** Hold the promise that is made next: that of the cell itself. Returns how to stop looking for it. */
  holdNext() {
    return onInit((promise) => {
      this.held ??= promise;
    });
  }

  /** Evaluate an expression now, outside of any cell; undefined where it throws. */
  peek(expression, isSideEffectFree) {
    let answer;
    const fields = `"expression":${quote(expression)},"throwOnSideEffect":${isSideEffectFree},${CELL}`;
    this.call('Runtime.evaluate', fields, (result) => {
      answer = this.reply(result, true);
    });
    return answer.isThrown ? undefined : answer.value;
  }

  /** What let, const and class have declared. */
  names() {
    let names = [];
    this.call('Runtime.globalLexicalScopeNames', '', (result) => {
      names = result.names;
    });
    return names;
  }

  /** Let go of the objects that the last cell gave. */
  release() {
    this.held = this.collected = undefined;
    this.call('Runtime.releaseObjectGroup', '"objectGroup":"cell"', () => {});
  }

  /** Forget a cell that may never answer. Where it was interrupted, it has been thrown out of any line above. */
  abandon() {
    this.stopLooking();
    this.disconnect();
    this.connect();
  }

  disconnect() {
    this.connection.disconnect();
  }

  reply(result, isAtOnce) {
    const isThrown = hasOwn(result, 'exceptionDetails');
    const details = isThrown ? result.exceptionDetails : undefined;
    const remote = isThrown && hasOwn(details, 'exception') ? details.exception : result.result;
    const value = this.local(remote);
    if (!isThrown) return { __proto__: null, isThrown, isRefused: false, value };
    return { __proto__: null, isThrown, isRefused: isAtOnce, value, line: details.lineNumber, column: details.columnNumber };
  }

  /** The value that a remote object stands for. */
  local(remote) {
    if (hasOwn(remote, 'objectId')) {
      const fields = `"objectId":${quote(this.collector)},"arguments":[{"objectId":${quote(remote.objectId)}}]`;
      this.collected = undefined;
      this.call(
        'Runtime.callFunctionOn',
        `"functionDeclaration":"function(value){this(value)}","silent":true,${fields}`,
        () => {},
      );
      const value = this.collected;
      this.collected = undefined;
      return value;
    }
    if (hasOwn(remote, 'unserializableValue')) {
      const text = remote.unserializableValue;
      return remote.type === 'bigint' ? BigInt(slice(text, 0, -1)) : Number(text);
    }
    return hasOwn(remote, 'value') ? remote.value : undefined;
  }

  remoteOf(value) {
    let id;
    defineProperty(globalThis, '__carrel_object__', { __proto__: null, configurable: true, value });
    this.call('Runtime.evaluate', '"expression":"__carrel_object__","objectGroup":"guest"', (result) => {
      id = result.result.objectId;
    });
    delete globalThis.__carrel_object__;
    return id;
  }

  /** `then(result, isAtOnce)` with the answer. */
  call(message, fields, then) {
    const id = ++this.count;
    this.waiting[id] = then;
    const before = this.isDispatching;
    this.isDispatching = true;
    try {
      this.connection.dispatch(`{"id":${id},"method":"${message}","params":{${fields}}}`);
    } finally {
      this.isDispatching = before;
    }
  }

  onMessage(text) {
    const message = parse(text);
    if (!hasOwn(message, 'id')) return; // an event
    const then = this.waiting[message.id];
    delete this.waiting[message.id];
    if (then !== undefined && hasOwn(message, 'result')) then(message.result, this.isDispatching);
  }
}

module.exports = { __proto__: null, Cells };
