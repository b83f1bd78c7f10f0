'use strict';

// The story with ioredis or its sibling iovalkey. The first argument is the package:
// ioredis (5), ioredis6 or iovalkey; a second, "detect", turns failoverDetector on.

const { run, settings } = require('./story');

const [name, detect] = process.argv.slice(2);
const library = require(name);
const Redis = library.Redis || library.default || library;

function connect(role) {
  const redis = new Redis({
    sentinels: settings.sentinels,
    name: settings.masterName,
    role,
    sentinelPassword: settings.sentinelPassword,
    password: settings.password,
    // With it a +switch-master from any Sentinel makes the client look for the master
    // anew; without it the end of its connection does.
    failoverDetector: detect === 'detect',
  });
  redis.on('error', () => {}); // it reconnects by itself; commands report their own failures
  // With failoverDetector it gives up for good when it hears +switch-master while it is
  // looking for the master already, as after a crash.
  redis.on('end', () => redis.connect().catch(() => {}));
  return redis;
}

const master = connect('master');
const replica = connect('slave');

run({
  increment: (key) => master.incr(key),
  read: (key) => master.get(key),
  readReplica: (key) => replica.get(key),
});
