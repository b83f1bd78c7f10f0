'use strict';

// The story with node-redis's createSentinel, whichever version is handed in.

const { run, settings } = require('./story');

module.exports = async ({ createSentinel }) => {
  const client = createSentinel({
    name: settings.masterName,
    sentinelRootNodes: settings.sentinels,
    sentinelClientOptions: { password: settings.sentinelPassword },
    nodeClientOptions: { password: settings.password },
    replicaPoolSize: 1, // 0, the default, asks no replicas
  });
  client.on('error', () => {}); // it reconnects by itself; commands report their own failures
  await client.connect();
  run({
    increment: (key) => client.incr(key),
    // Without replicas a read goes to the master; a leased master client always does.
    read: (key) => client.use((master) => master.get(key)),
    readReplica: (key) => client.get(key),
  });
};
