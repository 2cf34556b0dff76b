'use strict';
// SIGINT ends the call under way and keeps the state; between calls nothing happens. There are three ways, for three places where code may be:
//
// - in its first stretch, up to the first wait: that runs inside a script which V8 leaves at the signal (`guarded`);
// - waiting: the event loop is free, and its own signal handle hears it, unless the thread of the third does;
// - in a loop after a wait: only another thread can help (watch.js). It costs 9 MB, so it is there from the first call that waits until no
//   call has needed it for a while.

const { join } = require('node:path');
const { Script } = require('node:vm');
const { clearAsyncIdStack, clearTimeout, setTimeout, Signal, startSigintWatchdog, stopSigintWatchdog } = require('./inside');

const SIGINT = 2;
const RUN = 0; // places in the flags: the call that is watched (0: none), and how often the main thread has heard
const HEARD = 1;
const NEVER = 2; // what the other thread waits for
const ANSWER_MS = 50;
const IDLE_MS = 5_000;
const LIMITS = {
  __proto__: null,
  maxOldGenerationSizeMb: 8,
  maxYoungGenerationSizeMb: 1,
  codeRangeSizeMb: 16, // not 512 of addresses, where they are limited
  stackSizeMb: 0.5,
};

const { add, notify, store } = Atomics;
const { defineProperty } = Object;
const WATCH = join(__dirname, 'watch.js');

class Interrupts {
  /** `interrupted()` is called when the signal has come. */
  constructor(interrupted) {
    this.interrupted = interrupted;
    this.flags = new Int32Array(new SharedArrayBuffer(16));
    this.watcher = null;
    this.leaving = null;
    this.guardedCall = null;
    this.script = new Script('__carrel__.run()', { __proto__: null, filename: 'node:internal/carrel' });
    this.signal = new Signal(); // a handle of our own: process.removeAllListeners('SIGINT') does not touch it
    this.signal.onsignal = interrupted;
    this.listen();
  }

  /** Call `work` so that SIGINT throws it out. Whether it came to its end. */
  guarded(work) {
    this.guardedCall = work;
    try {
      this.script.runInThisContext({ __proto__: null, breakOnSigint: true });
      return true;
    } catch (error) {
      if (error?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') return false;
      throw error;
    } finally {
      this.listen();
    }
  }

  /** Node's watchdogs leave a handler behind that ends the process: have ours again, where no watchdog is left. */
  listen() {
    if (this.watcher !== null) return;
    this.signal.stop();
    this.signal.start(SIGINT);
    this.signal.unref();
  }

  /** A call begins. Where there is another thread the signal may go to it, and not to `guarded`: the last one who asked gets it. */
  attend(call) {
    clearTimeout(this.leaving);
    store(this.flags, RUN, call);
  }

  /** The call waits, or goes on in the event loop. */
  watch() {
    if (this.watcher === null) this.start();
  }

  start() {
    startSigintWatchdog(); // from now on the signal is the thread's, which asks for one that came before it was ready
    try {
      const { Worker } = require('node:worker_threads'); // 0.5 MB that few sessions need
      this.watcher = new Worker(WATCH, {
        __proto__: null,
        workerData: { __proto__: null, RUN, HEARD, NEVER, ANSWER_MS, flags: this.flags },
        env: { __proto__: null },
        execArgv: [],
        stdin: false,
        trackUnmanagedFds: false,
        resourceLimits: LIMITS,
      });
    } catch {
      stopSigintWatchdog();
      this.listen();
      return; // no room for a thread: the host still has the means to end the interpreter
    }
    const { watcher } = this;
    watcher.on('message', (call) => {
      clearAsyncIdStack(); // what was thrown out of a timer has not told Node that it is over (hence --no-force-async-hooks-checks)
      add(this.flags, HEARD, 1);
      notify(this.flags, HEARD);
      this.interrupted(call);
    });
    watcher.on('error', () => {});
    watcher.on('exit', () => {
      this.watcher = null;
      stopSigintWatchdog();
      this.listen();
    });
    watcher.unref();
  }

  /** The call is over. */
  rest() {
    store(this.flags, RUN, 0);
    if (this.watcher === null) return;
    this.leaving = setTimeout(() => this.stop(), IDLE_MS);
    this.leaving.unref();
  }

  stop() {
    this.watcher?.terminate();
  }
}

module.exports = { __proto__: null, Interrupts };
