'use strict';
// A thread that sees to it that SIGINT ends a call whose code has given the word back to the event loop once, whatever it does after that.
// It sleeps until the signal comes, asks the main thread to end the call, and where that does not answer, being in a loop of the code's,
// has V8 throw it out of there.

const { Session } = require('node:inspector');
const { parentPort, workerData } = require('node:worker_threads');
const { Script } = require('node:vm');

const { RUN, HEARD, NEVER, ANSWER_MS, flags } = workerData;
const { watchdogHasPendingSigint } = process.binding('contextify');

globalThis.sleep = () => Atomics.wait(flags, NEVER, 0);
const sleeping = new Script('sleep()'); // ends by the signal alone: V8 makes an exception of it

function untilInterrupted() {
  try {
    sleeping.runInThisContext({ breakOnSigint: true });
  } catch {}
}

/** Have V8 throw the main thread out of what it is in, until it has heard that it should end the call. */
function interrupt(run) {
  const session = new Session();
  session.connectToMainThread(); // for this only: a process that exits says so while anybody is connected
  while (Atomics.load(flags, RUN) === run) {
    const heard = Atomics.load(flags, HEARD);
    parentPort.postMessage(run);
    if (Atomics.wait(flags, HEARD, heard, ANSWER_MS) !== 'timed-out') break;
    session.post('Runtime.terminateExecution');
  }
  session.disconnect();
}

for (let isFirst = true; ; isFirst = false) {
  if (!isFirst || !watchdogHasPendingSigint()) untilInterrupted(); // it may have come while this thread was made
  const run = Atomics.load(flags, RUN);
  if (run !== 0) interrupt(run);
}
