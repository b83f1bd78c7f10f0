'use strict';

// The story that the client programs of every language tell, so that the tests can
// compare their libraries: see ../go/story/story.go for orders and events.

const readline = require('node:readline');

const beatMs = 100;
const replicaReads = 20;

const settings = {
  sentinels: (process.env.SENTINELS || '').split(',').map((address) => {
    const colon = address.lastIndexOf(':');
    return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
  }),
  masterName: process.env.MASTER_NAME,
  password: process.env.REDIS_PASSWORD,
  sentinelPassword: process.env.SENTINEL_PASSWORD,
  key: process.env.COUNTER_KEY,
};

const say = (...words) => process.stdout.write(`${words.join(' ')}\n`);

// increment(key), read(key) and readReplica(key) are the library's, each a promise;
// without readReplica the library asks no replicas.
async function tell({ increment, read, readReplica }) {
  const { key } = settings;

  async function report(event, failed, action) {
    try {
      say(event, await action(key));
    } catch (err) {
      say(failed, String(err && err.message).replaceAll('\n', ' '));
    }
  }

  async function obey(order) {
    if (order === 'read') return report('read', 'read fail', read);
    if (!readReplica) return say('replica none');
    for (let i = 1; i < replicaReads; i += 1) await readReplica(key).catch(() => {});
    return report('replica', 'replica fail', readReplica);
  }

  await increment(key);
  say('ready', await read(key));
  const orders = [];
  let ended = false;
  let wake = () => {};
  const input = readline.createInterface({ input: process.stdin });
  input.on('line', (line) => { orders.push(line.trim()); wake(); });
  input.on('close', () => { ended = true; wake(); });

  // Until the next beat, or until an order comes.
  const pause = (ms) => new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wake = () => { clearTimeout(timer); resolve(); };
    if (orders.length > 0 || ended) wake();
  });

  let next = performance.now();
  while (true) {
    await pause(Math.max(0, next - performance.now()));
    const order = orders.shift();
    if (order === 'quit' || (ended && order === undefined)) break;
    if (order !== undefined) {
      await obey(order);
    } else if (performance.now() >= next) {
      next = performance.now() + beatMs;
      await report('ack', 'fail', increment);
    }
  }
  say('done');
  process.exit(0);
}

// run has the story told and ends the process when the beginning fails.
function run(client) {
  tell(client).catch((err) => {
    process.stderr.write(`${err.stack}\n`);
    process.exit(1);
  });
}

module.exports = { run, settings };
