"""A namespaces policy: which keys are governed by which rule? Rules are data: the sidecar reads them once a load and
matches keys itself."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.lifecycle import Description, Inputs
from wit_world.exports.namespaces import (
    Access, Apply, ClientTtl, MarketSource_None_, MarketSource_Symbol, Rule, SymbolMatch, SymbolRule, SymbolSource,
    ValueCheck,
)

settings = {"prefix": "app:"}


class Lifecycle(exports.Lifecycle):
    def configure(self, text: str) -> None:
        """Takes the settings, a JSON object. An error refuses the load and tells the operator why."""
        for name, value in json.loads(text).items():
            if name not in settings:
                raise Err(f'unknown setting "{name}"; there are {", ".join(settings)}')
            if not isinstance(value, str) or not value.endswith(":"):
                raise Err(f"{name} is {json.dumps(value)}; it takes a text that ends in a colon")
            settings[name] = value

    def describe(self) -> Description:
        return Description("{{name}}", "0.1.0", "Quotes and sessions of one application", Inputs(0))


class Namespaces(exports.Namespaces):
    def rules(self) -> list[Rule]:
        """All rules. A key is under the one with the longest prefix that it begins with."""
        quotes = rule("quotes", settings["prefix"] + "quotes:")
        # Decided by the policy of that name in the set, with the market of the symbol in the key.
        quotes.ttl_policy = "ttl"
        quotes.market = MarketSource_Symbol(SymbolSource(part=0, default_market="XNYS"))
        quotes.client_ttl = ClientTtl.CAP
        quotes.fallback_ttl_ms = 30_000
        # Lifetimes here are the application's own.
        sessions = rule("sessions", settings["prefix"] + "sessions:")
        return [quotes, sessions]

    def symbols(self) -> list[SymbolRule]:
        """How symbols say their market."""
        return [SymbolRule(SymbolMatch.SUFFIX, ".NS", "XNSE"), SymbolRule(SymbolMatch.SUFFIX, ".T", "XTKS")]


def rule(name: str, prefix: str) -> Rule:
    """A rule that changes nothing: no ttl policy, no market, any value, every command."""
    return Rule(
        name=name,
        prefix=prefix,
        suffix="",
        ttl_policy=None,
        market=MarketSource_None_(),
        value=ValueCheck.ANY,
        value_bytes_max=None,
        access=Access.READ_WRITE,
        apply=Apply.ON_CREATE,
        client_ttl=ClientTtl.RESPECT,
        fallback_ttl_ms=None,
        near_ms=None,
        stale_ms=None,
        lease_ms=None,
        lease_wait_ms=None,
        refresh_ahead_percent=None,
        fail_safe_ms=None,
    )
