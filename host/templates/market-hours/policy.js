// A market-hours policy: when does a market trade? One market, with the same hours every weekday, in UTC. Instants are of
// 64 bits, and so they are BigInt; inside they are numbers, which cost less.

const NAME = 'DESK';
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
// The first instant of the year 2100: past it nothing is known, which is never to be read as "open".
const HORIZON = 4_102_444_800_000;
const settings = { open_minute: 9 * 60, close_minute: 17 * 60 };

export const lifecycle = {
  /** Takes the settings, a JSON object. An error refuses the load and tells the operator why. */
  configure(text) {
    for (const [name, value] of Object.entries(JSON.parse(text))) {
      if (!Object.hasOwn(settings, name)) {
        throw `unknown setting "${name}"; there are ${Object.keys(settings).join(', ')}`;
      }
      if (!Number.isInteger(value) || value < 0 || value >= 24 * 60) {
        throw `${name} is ${JSON.stringify(value)}; it takes a whole number from 0 to 1439`;
      }
      settings[name] = value;
    }
    if (settings.close_minute <= settings.open_minute) {
      throw 'close_minute is after open_minute';
    }
  },

  describe() {
    return { name: '{{name}}', version: '0.1.0', summary: 'The same hours every weekday', reads: {} };
  },
};

export const marketHours = {
  find(name) {
    return name === NAME ? 0 : undefined;
  },

  sessionAt(market, at, knownAt) {
    const around = changes(market, at, 7);
    const before = around.filter((change) => change.at <= at);
    const after = around.filter((change) => change.at > at);
    const nextOpen = after.find((change) => change.phase === 'open')?.at;
    return {
      phase: before.at(-1)?.phase ?? 'closed',
      since: before.at(-1)?.at ?? 0n,
      until: after[0]?.at ?? BigInt(HORIZON),
      nextOpen,
      nextRegularOpen: nextOpen,
      previousClose: before.findLast((change) => change.phase === 'closed')?.at,
      horizon: BigInt(HORIZON),
      projected: false,
      dataVersion: { release: 0, settings: 0 },
    };
  },

  transitions(market, start, count) {
    const most = Math.min(count, 1000);
    // A week has ten.
    const found = changes(market, start, 7 * Math.ceil(most / 10) + 7);
    return found.filter((change) => change.at > start).slice(0, most);
  },

  specialDays(market, start, count) {
    changes(market, start, 0);
    return [];
  },

  markets() {
    const title = 'Our own desk';
    const bounds = { coveredFrom: 0n, horizon: BigInt(HORIZON), projectedFrom: BigInt(HORIZON) };
    return [{ name: NAME, aliases: [], title, timeZone: 'UTC', ...bounds }];
  },
};

/** The openings and closes from a week before an instant to so many days after it, within the data. */
function changes(market, at, days) {
  if (market !== 0) {
    throw { tag: 'unknown-market' };
  }
  if (at < 0n || at >= HORIZON) {
    throw { tag: 'beyond-horizon', val: BigInt(at < 0n ? 0 : HORIZON) };
  }
  const found = [];
  const today = Math.floor(Number(at) / DAY_MS);
  const last = Math.min(today + days, HORIZON / DAY_MS - 1);
  for (let day = Math.max(today - 7, 0); day <= last; day += 1) {
    // 1970-01-01, day 0, was a Thursday; with Monday as 0 it is 3.
    if ((day + 3) % 7 < 5) {
      found.push({ at: BigInt(day * DAY_MS + settings.open_minute * MINUTE_MS), phase: 'open' });
      found.push({ at: BigInt(day * DAY_MS + settings.close_minute * MINUTE_MS), phase: 'closed' });
    }
  }
  return found;
}
