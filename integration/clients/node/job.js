'use strict';

// Logs users in to the application of app.js, keeps requesting pages for each of
// them over HTTP with cookies, and watches what they see. One line of JSON per
// second, and one at the end (after --seconds, or at SIGTERM or SIGINT):
//
//   node integration/clients/node/job.js --seconds 60
//
// Kill the master meanwhile: nobody is logged out, and the pages fail for well
// under two seconds.
//   loggedOut  pages that did not know their user any more
//   wrongUser  pages that belonged to somebody else
//   lostVisits acknowledged changes of a session that later pages did not show
//   outages    times of more than 100 ms without any page that went well, in ms

const http = require('node:http');
const { createApp, createClient } = require('./app');
const { parse, report, sentinels } = require('./options');

const noticeable = 100; // ms without a good page that count as an outage

class Watch {
  constructor() {
    this.pages = 0;
    this.failed = 0;
    this.loggedOut = 0;
    this.wrongUser = 0;
    this.lostVisits = 0;
    this.slowest = 0;
    this.outages = [];
    this.errors = {};
    this.lastGood = performance.now();
  }

  // Ends the time without a good page, if there was one.
  mark() {
    const now = performance.now();
    if (now - this.lastGood > noticeable) this.outages.push(Math.round(now - this.lastGood));
    this.lastGood = now;
    return now;
  }

  good(started) {
    const now = this.mark();
    this.slowest = Math.max(this.slowest, Math.round(now - started));
    this.pages += 1;
  }

  bad(text) {
    this.failed += 1;
    this.errors[text] = (this.errors[text] || 0) + 1;
  }

  totals() {
    const { pages, failed, loggedOut, wrongUser, lostVisits, slowest, outages, errors } = this;
    return { pages, failed, loggedOut, wrongUser, lostVisits, slowest, outages, errors };
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

class User {
  constructor(name, base, agent, watch) {
    Object.assign(this, { name, base, agent, watch, cookie: '', visits: 0, turn: 0 });
  }

  request(method, path) {
    return new Promise((resolve, reject) => {
      const headers = this.cookie ? { cookie: this.cookie } : {};
      const req = http.request(this.base + path, { method, headers, agent: this.agent }, (res) => {
        const chunks = [];
        res.on('data', (chunk) => chunks.push(chunk));
        res.on('error', reject);
        res.on('end', () => {
          const cookies = res.headers['set-cookie'];
          if (cookies && res.statusCode === 200) this.cookie = cookies[0].split(';')[0];
          resolve({ status: res.statusCode, page: JSON.parse(Buffer.concat(chunks)) });
        });
      });
      req.on('error', reject);
      req.end();
    });
  }

  // The master may be lost during a login, too: its user tries again for a while.
  async logIn() {
    for (let tries = 0; ; tries += 1) {
      const { status } = await this.request('POST', `/login?user=${this.name}`);
      if (status === 200) return;
      if (tries === 20) throw new Error(`login of ${this.name}: HTTP ${status}`);
      await pause(250);
    }
  }

  // Every third page changes the session.
  async visit() {
    this.turn += 1;
    const changing = this.turn % 3 === 0;
    const started = performance.now();
    const { status, page } = await this.request(changing ? 'POST' : 'GET', changing ? '/visit' : '/');
    if (status === 401) {
      this.watch.loggedOut += 1;
    } else if (status !== 200) {
      this.watch.bad(page.error);
    } else {
      this.watch.good(started);
      this.check(page, changing);
    }
  }

  check(page, changing) {
    if (page.user !== this.name) this.watch.wrongUser += 1;
    if (page.visits < this.visits + (changing ? 1 : 0)) this.watch.lostVisits += 1;
    this.visits = Math.max(this.visits, page.visits);
  }
}

// Tells whether a user is known still. An election may fail a page, so it is asked for again.
async function stillLoggedIn(user) {
  for (let tries = 0; tries < 5; tries += 1) {
    if (tries > 0) await pause(500);
    const status = await user.request('GET', '/').then((answer) => answer.status, () => 0);
    if (status === 200) return true;
    if (status === 401) {
      user.watch.loggedOut += 1;
      return false;
    }
  }
  return false;
}

async function keepVisiting(user, every, running) {
  while (running()) {
    await user.visit().catch((err) => user.watch.bad(err.message));
    await pause(every * (0.5 + Math.random()));
  }
}

async function main() {
  const options = parse(process.argv.slice(2), { users: 200, every: 300, seconds: 0, sentinels, name: 'mymaster' });
  const redis = createClient(options);
  const server = createApp(redis).listen(0, '127.0.0.1');
  await new Promise((resolve) => { server.once('listening', resolve); });
  const base = `http://127.0.0.1:${server.address().port}`;
  const agent = new http.Agent({ keepAlive: true, maxSockets: options.users });

  const watch = new Watch();
  const users = Array.from({ length: options.users }, (_, i) => new User(`user${i}`, base, agent, watch));
  for (const user of users) await user.logIn();
  report('loggedIn', { users: users.length });

  let running = true;
  let end = () => {};
  const ended = new Promise((resolve) => { end = resolve; });
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, end);
  if (options.seconds > 0) setTimeout(end, options.seconds * 1000);
  const ticker = setInterval(() => report('second', watch.totals()), 1000);
  watch.lastGood = performance.now();
  const loops = users.map((user) => keepVisiting(user, options.every, () => running));
  await ended;

  running = false;
  clearInterval(ticker);
  watch.mark();
  await Promise.all(loops);
  const stillIn = await Promise.all(users.map(stillLoggedIn));
  report('done', { ...watch.totals(), users: users.length, stillLoggedIn: stillIn.filter(Boolean).length });
  agent.destroy();
  server.close();
  redis.disconnect();
}

main().catch((err) => {
  report('fatal', { error: err.stack });
  process.exit(1);
});
