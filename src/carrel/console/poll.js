// Looking again and again, as little as will do: nothing while the tab is hidden or the server away, at once when either is over, and ever
// more rarely while it goes wrong.

import { Away, line } from "./api.js";

const SLOWEST_MS = 30_000;

/** Run `task(signal)` now and then every `every` milliseconds (or as many as it answers), until the returned function is called. `failed(error)` hears of faults. */
export function poll(task, { every = 2000, failed = () => {} } = {}) {
  const ends = new AbortController();
  let timer = 0;
  let faults = 0;
  let isRunning = false;
  let isWanted = false;

  async function run() {
    clearTimeout(timer);
    isWanted = isRunning;
    if (ends.signal.aborted || isRunning || document.hidden || !line.isUp) return;
    isRunning = true;
    try {
      await task(ends.signal);
      faults = 0;
    } catch (error) {
      if (ends.signal.aborted) return;
      faults += 1;
      if (!(error instanceof Away)) failed(error);
    } finally {
      isRunning = false;
    }
    if (isWanted) return run(); // somebody asked for it meanwhile, for whom this look may have been too early
    const usual = typeof every === "function" ? every() : every;
    if (!ends.signal.aborted) timer = setTimeout(run, Math.min(usual * 2 ** Math.min(faults, 5), Math.max(usual, SLOWEST_MS)));
  }

  const options = { signal: ends.signal };
  document.addEventListener("visibilitychange", run, options);
  line.addEventListener("up", run, options);
  run();

  const stop = () => {
    clearTimeout(timer);
    ends.abort();
  };
  return Object.assign(stop, { now: run });
}
