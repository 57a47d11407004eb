"""A ttl policy: how long may a key live? It is a pure function of the request and the settings; `now` comes with the
request, and there is nothing else to ask."""

import json

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.exports.lifecycle import Description, Inputs
from wit_world.exports.ttl import Decision, Expiry_After, Expiry_At, Request
from wit_world.imports.types import Phase

DAY_MS = 86_400_000
settings = {"open_ttl_ms": 60_000, "draft_ttl_ms": 3_600_000}


class Lifecycle(exports.Lifecycle):
    def configure(self, text: str) -> None:
        """Takes the settings, a JSON object. An error refuses the load and tells the operator why."""
        for name, value in json.loads(text).items():
            if name not in settings:
                raise Err(f'unknown setting "{name}"; there are {", ".join(settings)}')
            if type(value) is not int or not 1 <= value <= DAY_MS:
                raise Err(f"{name} is {json.dumps(value)}; it takes a whole number from 1 to {DAY_MS}")
            settings[name] = value

    def describe(self) -> Description:
        summary = "A minute while the market trades, else until it opens; drafts an hour"
        # What is not declared here is passed blank, and decisions are remembered under what is.
        return Description("first-policy", "0.1.0", summary, Inputs.KEY)


class Ttl(exports.Ttl):
    def decide(self, request: Request) -> Decision:
        """Decides one write."""
        if request.key.endswith(":draft"):
            return after(settings["draft_ttl_ms"], "drafts do not follow the market")
        if not isinstance(request.market, Ok):
            return after(settings["open_ttl_ms"], "no session is known for this key")
        session = request.market.value
        if session.phase == Phase.OPEN or session.next_open is None:
            return after(settings["open_ttl_ms"], "the market trades")
        return Decision(Expiry_At(session.next_open), 0, None, "nothing changes before the next open")


def after(ttl_ms: int, reason: str) -> Decision:
    return Decision(Expiry_After(ttl_ms), 0, None, reason)
