'use strict';

// The writers' job with node-redis's createSentinel, whichever version is handed in.

const { parse, addresses, report, sentinels } = require('./options');
const { run } = require('./writers');

async function main({ createSentinel }) {
  const options = parse(process.argv.slice(2), { prefix: 'node-redis', workers: 4, sentinels, name: 'mymaster' });
  const client = createSentinel({ name: options.name, sentinelRootNodes: addresses(options.sentinels) });
  client.on('error', () => {}); // it reconnects by itself; commands report their own failures
  await client.connect();
  await run({
    prefix: options.prefix,
    workers: options.workers,
    set: (key, value) => client.set(key, value),
    get: (key) => client.get(key),
    close: () => client.destroy(),
  });
}

module.exports = (library) => main(library).catch((err) => {
  report('fatal', { error: err.stack });
  process.exit(1);
});
