// A ttl policy: how long may a key live? It is a pure function of the request and the settings; `now` comes with the
// request, and there is nothing else to ask.

const DAY_MS = 86_400_000;
const settings = { open_ttl_ms: 60_000, draft_ttl_ms: 3_600_000 };

export const lifecycle = {
  /** Takes the settings, a JSON object. An error refuses the load and tells the operator why. */
  configure(text) {
    for (const [name, value] of Object.entries(JSON.parse(text))) {
      if (!Object.hasOwn(settings, name)) {
        throw `unknown setting "${name}"; there are ${Object.keys(settings).join(', ')}`;
      }
      if (!Number.isInteger(value) || value < 1 || value > DAY_MS) {
        throw `${name} is ${JSON.stringify(value)}; it takes a whole number from 1 to ${DAY_MS}`;
      }
      settings[name] = value;
    }
  },

  describe() {
    const summary = 'A minute while the market trades, else until it opens; drafts an hour';
    // What is not declared here is passed blank, and decisions are remembered under what is.
    return { name: 'first-policy', version: '0.1.0', summary, reads: { key: true } };
  },
};

export const ttl = {
  /** Decides one write. Instants and spans are of 64 bits, and so they are BigInt. */
  decide(request) {
    if (request.key.endsWith(':draft')) {
      return after(settings.draft_ttl_ms, 'drafts do not follow the market');
    }
    if (request.market?.tag !== 'ok') {
      return after(settings.open_ttl_ms, 'no session is known for this key');
    }
    const session = request.market.val;
    if (session.phase === 'open' || session.nextOpen === undefined) {
      return after(settings.open_ttl_ms, 'the market trades');
    }
    return { expiry: { tag: 'at', val: session.nextOpen }, spreadMs: 0n, reason: 'nothing changes before the next open' };
  },
};

function after(ttlMs, reason) {
  return { expiry: { tag: 'after', val: BigInt(ttlMs) }, spreadMs: 0n, reason };
}
