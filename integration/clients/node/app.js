'use strict';

// A web application with login sessions in Holdfast, as any Express application
// keeps them in Redis: express-session, connect-redis, ioredis in Sentinel mode.
// Nothing in it knows of Holdfast.
//
//   node integration/clients/node/app.js --port 3000
//   curl -c jar -b jar -X POST 'http://127.0.0.1:3000/login?user=ada'
//   curl -c jar -b jar http://127.0.0.1:3000/

const express = require('express');
const session = require('express-session');
const { RedisStore } = require('connect-redis');
const Redis = require('ioredis');
const { parse, addresses, report, sentinels } = require('./options');

const lifetimeSeconds = 1800;

function createClient(options) {
  const redis = new Redis({ sentinels: addresses(options.sentinels), name: options.name });
  redis.on('error', () => {}); // ioredis reconnects by itself; requests report their own failures
  return redis;
}

function createApp(redis) {
  const app = express();
  app.use(session({
    store: new RedisStore({ client: redis, prefix: 'sess:', ttl: lifetimeSeconds }),
    secret: 'only for this example',
    resave: false,
    saveUninitialized: false,
    cookie: { maxAge: lifetimeSeconds * 1000 },
  }));

  app.post('/login', (req, res, next) => {
    req.session.regenerate((err) => {
      if (err) return next(err);
      req.session.user = String(req.query.user);
      req.session.visits = 0;
      req.session.save((failed) => (failed ? next(failed) : res.json({ user: req.session.user })));
    });
  });

  app.use((req, res, next) => (req.session.user ? next() : res.status(401).json({ error: 'logged out' })));

  // Reads the session and lets it live longer.
  app.get('/', (req, res) => {
    res.json({ user: req.session.user, visits: req.session.visits });
  });

  // Changes the session; a success says that the change is stored.
  app.post('/visit', (req, res, next) => {
    req.session.visits += 1;
    req.session.save((err) => (err ? next(err) : res.json({ user: req.session.user, visits: req.session.visits })));
  });

  app.post('/logout', (req, res, next) => {
    req.session.destroy((err) => (err ? next(err) : res.json({})));
  });

  app.use((err, req, res, next) => { // eslint-disable-line no-unused-vars
    res.status(500).json({ error: err.message });
  });
  return app;
}

if (require.main === module) {
  const options = parse(process.argv.slice(2), { port: 3000, sentinels, name: 'mymaster' });
  createApp(createClient(options)).listen(options.port, '127.0.0.1', () => report('listening', { port: options.port }));
}

module.exports = { createApp, createClient };
