// A namespaces policy: which keys are governed by which rule? Rules are data: the sidecar reads them once a load and
// matches keys itself.

const settings = { prefix: 'app:' };

export const lifecycle = {
  /** Takes the settings, a JSON object. An error refuses the load and tells the operator why. */
  configure(text) {
    for (const [name, value] of Object.entries(JSON.parse(text))) {
      if (!Object.hasOwn(settings, name)) {
        throw `unknown setting "${name}"; there are ${Object.keys(settings).join(', ')}`;
      }
      if (typeof value !== 'string' || !value.endsWith(':')) {
        throw `${name} is ${JSON.stringify(value)}; it takes a text that ends in a colon`;
      }
      settings[name] = value;
    }
  },

  describe() {
    return { name: '{{name}}', version: '0.1.0', summary: 'Quotes and sessions of one application', reads: {} };
  },
};

export const namespaces = {
  /** All rules. A key is under the one with the longest prefix that it begins with. */
  rules() {
    const quotes = {
      ...rule('quotes', `${settings.prefix}quotes:`),
      // Decided by the policy of that name in the set, with the market of the symbol in the key.
      ttlPolicy: 'ttl',
      market: { tag: 'symbol', val: { part: 0, defaultMarket: 'XNYS' } },
      clientTtl: 'cap',
      fallbackTtlMs: 30_000n,
    };
    // Lifetimes here are the application's own.
    const sessions = rule('sessions', `${settings.prefix}sessions:`);
    return [quotes, sessions];
  },

  /** How symbols say their market. */
  symbols() {
    const suffix = (text, market) => ({ matchBy: 'suffix', text, market });
    return [suffix('.NS', 'XNSE'), suffix('.T', 'XTKS')];
  },
};

/** A rule that changes nothing: no ttl policy, no market, any value, every command. What is left out is not set. */
function rule(name, prefix) {
  return {
    name,
    prefix,
    suffix: '',
    market: { tag: 'none' },
    value: 'any',
    access: 'read-write',
    apply: 'on-create',
    clientTtl: 'respect',
  };
}
