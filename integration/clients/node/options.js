'use strict';

// Reads "--name value" pairs; names that are not in defaults are refused.
function parse(argv, defaults) {
  const options = { ...defaults };
  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i].replace(/^--/, '');
    if (!(name in defaults) || argv[i + 1] === undefined) {
      throw new Error(`unknown or incomplete option ${argv[i]}; known are ${Object.keys(defaults).map((n) => `--${n}`).join(' ')}`);
    }
    options[name] = typeof defaults[name] === 'number' ? Number(argv[i + 1]) : argv[i + 1];
  }
  return options;
}

// Turns "host:port,host:port" into the list that client libraries take.
function addresses(text) {
  return text.split(',').map((address) => {
    const colon = address.lastIndexOf(':');
    return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
  });
}

// Writes one event as a line of JSON.
function report(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

module.exports = { parse, addresses, report, sentinels: '127.0.0.1:26379,127.0.0.1:26380,127.0.0.1:26381' };
