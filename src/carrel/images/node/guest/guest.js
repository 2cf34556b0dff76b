'use strict';
// The JavaScript guest: takes code from the agent over a control socket on descriptor 3, runs it, sends the value back. It speaks the control
// protocol (docs/reference/guests.md) and knows nothing of the host.
//
// User code shares this process and thread, and may break anything in it. What the guest needs it has taken before, as functions of its own
// (inside.js); its objects have no prototype where one could be tampered with; and it waits for nothing by promises, since an interrupt
// throws away all that are queued.

const { AsyncLocalStorage } = require('node:async_hooks');
const { Cells } = require('./cells');
const { Command } = require('./commands');
const displays = require('./displays');
const failures = require('./failures');
const { Control, Pieces } = require('./frames');
const { hasOwn, method, parse, quote, reallyExit, runTicks, setImmediate } = require('./inside');
const { Interrupts } = require('./interrupts');
const { Source } = require('./sources');
const streams = require('./streams');
const summaries = require('./summaries');
const surroundings = require('./surroundings');
const values = require('./values');

const CONTROL = 3;
const MAX_VARIABLES = 1024 * 1024; // characters of what is told of them
const NAME = /^[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*$/u;
// In blocks: what it declares is not for the session.
const REHEARSAL = [
  '1 + 1',
  '{ const { a } = { a: [1, "two"] }; ({ a }) }',
  'console.log("%s", { a: 1 }); { class A {} new A() }',
  'null.x',
  'await null',
];

const { isPromise } = require('node:util').types;
const { defineProperty, keys } = Object;
const then = method(Promise.prototype, 'then');
const test = method(RegExp.prototype, 'test');
const folder = process.cwd();
const calls = new AsyncLocalStorage(); // which call a callback belongs to
const runIn = method(AsyncLocalStorage.prototype, 'run');
const callOf = method(AsyncLocalStorage.prototype, 'getStore');
const { say } = streams;

class Guest {
  constructor() {
    this.count = 0;
    this.call = null; // the one under way
    this.body = new Pieces();
    this.given = new Pieces();
    this.environment = new Pieces();
    this.control = new Control(CONTROL, (header, payload) => this.onFrame(header, payload));
    this.interrupts = new Interrupts(() => this.interrupted());
    this.own = { __proto__: null, run: () => this.interrupts.guardedCall(), named: surroundings.named, value: undefined };
    defineProperty(globalThis, '__carrel__', { __proto__: null, value: this.own });
    streams.install();
    streams.states.isNobodys = () => callOf(calls)?.outcome === 'interrupted';
    this.own.meta = surroundings.install(folder);
    displays.install((text) => this.show(text));
    process.setUncaughtExceptionCaptureCallback((error) => this.uncaught(error));
    this.cells = new Cells();
    this.hasSummary = false; // asked of the run under way
    process.reallyExit = (code) => {
      this.cells.disconnect(); // or Node says on stderr that it waits for the debugger
      reallyExit(code);
    };
  }

  /** Run a few cells for nothing, so that the first one of the session's finds things compiled; then be ready. */
  rehearse() {
    streams.states.isMuted = true;
    let left = REHEARSAL.length;
    const next = () => {
      if (left === 0) {
        streams.states.isMuted = false;
        this.count = 0;
        summaries.remember();
        this.control.send('{"ready":1}');
        this.control.listen();
        return;
      }
      this.begin(0, REHEARSAL[REHEARSAL.length - left--], next);
    };
    next();
  }

  // What the agent asks for

  onFrame(header, payload) {
    const hasMore = hasOwn(header, 'more');
    if (hasOwn(header, 'env')) {
      this.environment.add(payload);
      if (!hasMore) this.setEnvironment(parse(this.environment.take()));
    } else if (hasOwn(header, 'variables')) {
      this.given.add(payload);
    } else if (hasOwn(header, 'run')) {
      this.body.add(payload);
      if (!hasMore) this.run(header);
    }
  }

  setEnvironment(variables) {
    const names = keys(variables);
    for (let i = 0; i < names.length; i++) {
      const value = variables[names[i]];
      if (value === null) delete process.env[names[i]];
      else process.env[names[i]] = typeof value === 'string' ? value : (values.json(value) ?? '');
    }
  }

  run(header) {
    const body = this.body.take();
    const given = this.given.take();
    if (given !== '') this.setVariables(parse(given));
    const wanted = hasOwn(header, 'get') ? header.get : null;
    this.hasSummary = hasOwn(header, 'summary');
    if (hasOwn(header, 'kind') && header.kind === 'shell') this.beginCommand(header.run, body, wanted);
    else this.begin(header.run, body, null, wanted);
  }

  // A cell

  newCall(number, wanted, after) {
    const call = { __proto__: null, number, wanted, after, id: ++this.count, isEnding: false, isSettled: false };
    call.hasAnswered = false; // of a cell: the inspector waits for nothing of it any more
    call.outcome = 'ok';
    call.value = values.ABSENT;
    call.cause = '';
    call.command = null;
    call.exit = -1;
    this.call = call;
    return call;
  }

  begin(number, code, after, wanted = null) {
    const call = this.newCall(number, wanted, after);
    const source = new Source(code);
    this.interrupts.attend(call.id);
    const cameThrough = this.interrupts.guarded(() => {
      runIn(calls, call, () => this.evaluate(call, source));
      this.runTicks();
    });
    if (!cameThrough) this.interrupted();
    else if (!call.isEnding) this.interrupts.watch();
  }

  runTicks() {
    try {
      runTicks();
    } catch (error) {
      this.uncaught(error); // by a callback of process.nextTick; those after it are Node's to call
    }
  }

  evaluate(call, source) {
    const name = `cell-${call.id}`;
    this.cells.evaluate(source.code, name, (reply) => {
      call.hasAnswered = !reply.isRefused;
      if (reply.isRefused) this.again(call, source, name, reply);
      else if (reply.isThrown) this.fail(call, reply.value, failures.text(reply.value));
      else if (isPromise(reply.value)) this.wait(call, reply.value);
      else this.succeed(call, reply.value);
    });
  }

  /** It did not compile, so that nothing of it has run. */
  again(call, source, name, reply) {
    call.refusal ??= { __proto__: null, error: reply.value, code: source.code, line: reply.line, column: reply.column };
    if (source.next(reply.line, reply.column) !== null) {
      this.evaluate(call, source);
      return;
    }
    const { error, code, line, column } = call.refusal; // what was said of the code as it was given
    this.fail(call, error, failures.ofSyntax(error, code, name, line, column));
  }

  /** A promise as a cell's last value is waited for: `main()` is how most programs end, and its output belongs to the call. */
  wait(call, promise) {
    try {
      then(
        promise,
        (value) => this.succeed(call, value),
        (error) => this.fail(call, error, failures.text(error)),
      );
    } catch (error) {
      this.fail(call, error, failures.text(error)); // a subclass of Promise may do anything
    }
  }

  succeed(call, value) {
    if (call.isEnding) return;
    try {
      if (displays.ownBundle(value) !== null) this.show(displays.payload(value));
      call.value = values.encode(value);
    } catch (error) {
      this.fail(call, error, failures.text(error));
      return;
    }
    this.end(call, 'ok');
  }

  fail(call, error, text) {
    if (call.isEnding) return;
    say(2, text, 'utf8');
    call.cause = failures.cause(error);
    this.end(call, 'error');
  }

  /** Something that nobody caught: of the call under way, or of one that is over and has left something behind. */
  uncaught(error) {
    if (process.listenerCount('uncaughtException') > 0) {
      process.emit('uncaughtException', error, 'uncaughtException');
      return;
    }
    const { call } = this;
    const origin = callOf(calls);
    if (call === null || call.isSettled || (origin !== undefined && origin !== call)) {
      say(2, failures.text(error), 'utf8');
      return;
    }
    if (!call.isEnding) {
      this.fail(call, error, failures.text(error));
      return;
    }
    say(2, failures.text(error), 'utf8');
    if (call.outcome === 'ok') {
      call.outcome = 'error';
      call.cause = failures.cause(error);
      call.value = values.ABSENT;
    }
  }

  interrupted() {
    const { call } = this;
    if (call === null || call.isSettled) return;
    if (call.command !== null) {
      call.isInterrupted = true;
      call.command.interrupt();
      return;
    }
    if (call.outcome === 'interrupted') return;
    say(2, 'Interrupted\n', 'utf8');
    call.value = values.ABSENT;
    if (call.isEnding) call.outcome = 'interrupted';
    else this.end(call, 'interrupted');
  }

  // A command

  beginCommand(number, body, wanted) {
    const call = this.newCall(number, wanted, null);
    call.isInterrupted = false;
    this.interrupts.attend(call.id);
    call.command = new Command(body, folder, say, (exit, limit) => {
      call.exit = exit;
      call.cause = limit;
      this.end(call, exit === 0 ? 'ok' : call.isInterrupted ? 'interrupted' : 'error');
    });
  }

  // The end of a call

  /** Answer as soon as what is rejected by now, and nobody has caught, is known. */
  end(call, outcome) {
    if (call.isEnding) return;
    call.isEnding = true;
    call.outcome = outcome;
    setImmediate(() => this.settle(call));
  }

  settle(call) {
    call.isSettled = true;
    this.call = null;
    this.interrupts.rest();
    if (call.number !== 0) {
      if (this.hasSummary) this.summarize(call);
      else if (call.wanted !== null && call.wanted.length > 0) this.tell(call);
      const cause = call.outcome === 'error' && call.cause !== '' ? `,"cause":"${call.cause}"` : '';
      const exit = call.exit >= 0 ? `,"exit":${call.exit}` : '';
      const last = `,"done":${call.number},"outcome":"${call.outcome}"${cause}${exit}`;
      this.control.sendAll(`"value":${call.number}`, call.value, '', last);
    }
    call.value = call.wanted = call.refusal = call.command = null; // callbacks that outlive the call hold on to it
    if (call.hasAnswered && call.outcome !== 'interrupted') this.cells.release();
    else this.cells.abandon();
    if (call.after !== null) call.after();
  }

  show(text) {
    const { call } = this;
    if (call === null || call.isSettled || call.number === 0) return; // nobody's
    this.control.sendAll(`"display":${call.number}`, text, ',"more":1', '');
  }

  // Variables

  setVariables(variables) {
    const names = keys(variables);
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      this.own.value = variables[name];
      if (!test(NAME, name) || this.cells.peek(`${name} = __carrel__.value; true`, false) === true) continue;
      this.cells.evaluate(`const ${name} = __carrel__.value`, 'variables', () => {}); // it is a constant: declare it again
    }
    this.own.value = undefined;
  }

  tell(call) {
    let text = '';
    for (let i = 0; i < call.wanted.length && text.length < MAX_VARIABLES; i++) {
      const name = call.wanted[i];
      if (typeof name !== 'string' || !test(NAME, name)) continue;
      const json = this.variableJson(name);
      if (json === null || text.length + json.length > MAX_VARIABLES) continue;
      text += `${text === '' ? '' : ','}${quote(name)}:${json}`;
    }
    this.control.sendAll(`"variables":${call.number}`, `{${text}}`, ',"more":1', '');
  }

  summarize(call) {
    const text = summaries.document(this.cells.names(), (name) => this.cells.peek(name, true));
    this.control.sendAll(`"variables":${call.number}`, text, ',"more":1', '');
  }

  variableJson(name) {
    return values.json(this.cells.peek(name, true));
  }
}

new Guest().rehearse();
