'use strict';

// The writers' job with ioredis. --version 5 or 6.

const { parse, addresses, report, sentinels } = require('./options');
const { run } = require('./writers');

const options = parse(process.argv.slice(2), { version: 5, prefix: 'ioredis', workers: 4, sentinels, name: 'mymaster' });
const library = require(options.version === 6 ? 'ioredis6' : 'ioredis');
const Redis = library.Redis || library.default || library;

const redis = new Redis({ sentinels: addresses(options.sentinels), name: options.name });
redis.on('error', () => {}); // it reconnects by itself; commands report their own failures

run({
  prefix: options.prefix,
  workers: options.workers,
  set: (key, value) => redis.set(key, value),
  get: (key) => redis.get(key),
  close: () => redis.disconnect(),
}).catch((err) => {
  report('fatal', { error: err.stack });
  process.exit(1);
});
