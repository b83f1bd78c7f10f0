'use strict';

// The job that every client library does in the integration tests: some workers
// write one new key after the other, wait for each answer, and read every tenth
// one back. At SIGTERM it reports, per worker, how many keys it tried to write and
// which of them were not acknowledged; all others must be found afterwards.

const { report } = require('./options');

const pauseMs = 4;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// set(key, value) and get(key) are the library's, each a promise.
async function run({ prefix, workers, set, get, close }) {
  let running = true;
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => { running = false; });
  const state = { acknowledged: 0, wrongReads: 0, failures: {}, longestGap: 0, last: undefined };
  const all = Array.from({ length: workers }, (_, i) => ({ key: `${prefix}:${i}`, tried: 0, failed: [] }));

  function failed(err) {
    const text = String(err && err.message);
    state.failures[text] = (state.failures[text] || 0) + 1;
  }

  async function write(worker) {
    worker.tried += 1;
    const n = worker.tried;
    try {
      await set(`${worker.key}:${n}`, String(n));
    } catch (err) {
      worker.failed.push(n);
      failed(err);
      return;
    }
    const now = performance.now();
    if (state.last !== undefined) state.longestGap = Math.max(state.longestGap, Math.round(now - state.last));
    state.last = now;
    state.acknowledged += 1;
    if (n % 10 !== 0) return;
    const value = await get(`${worker.key}:${n}`).catch((err) => { failed(err); return String(n); });
    if (value !== String(n)) state.wrongReads += 1;
  }

  async function work(worker) {
    while (running) {
      await write(worker);
      await pause(pauseMs);
    }
  }

  const ticker = setInterval(() => report('second', { acknowledged: state.acknowledged }), 500);
  await Promise.all(all.map(work));
  clearInterval(ticker);
  const { acknowledged, wrongReads, failures, longestGap } = state;
  report('done', { acknowledged, wrongReads, failures, longestGap, workers: all });
  await close();
}

module.exports = { run };
