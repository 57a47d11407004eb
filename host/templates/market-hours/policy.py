"""A market-hours policy: when does a market trade? One market, with the same hours every weekday, in UTC."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.lifecycle import Description, Inputs
from wit_world.exports.market_hours import Market, SpecialDay, Transition
from wit_world.imports.types import (
    DataVersion, MarketError_BeyondHorizon, MarketError_UnknownMarket, MarketSession, Phase,
)

NAME = "DESK"
MINUTE_MS = 60_000
DAY_MS = 86_400_000
# The first instant of the year 2100: past it nothing is known, which is never to be read as "open".
HORIZON = 4_102_444_800_000
settings = {"open_minute": 9 * 60, "close_minute": 17 * 60}


class Lifecycle(exports.Lifecycle):
    def configure(self, text: str) -> None:
        """Takes the settings, a JSON object. An error refuses the load and tells the operator why."""
        for name, value in json.loads(text).items():
            if name not in settings:
                raise Err(f'unknown setting "{name}"; there are {", ".join(settings)}')
            if type(value) is not int or not 0 <= value < 24 * 60:
                raise Err(f"{name} is {json.dumps(value)}; it takes a whole number from 0 to 1439")
            settings[name] = value
        if settings["close_minute"] <= settings["open_minute"]:
            raise Err("close_minute is after open_minute")

    def describe(self) -> Description:
        return Description("{{name}}", "0.1.0", "The same hours every weekday", Inputs(0))


class MarketHours(exports.MarketHours):
    def find(self, name: str) -> int | None:
        return 0 if name == NAME else None

    def session_at(self, market: int, at: int, known_at: int | None) -> MarketSession:
        around = changes(market, at)
        before = [change for change in around if change.at <= at]
        after = [change for change in around if change.at > at]
        closes = [change.at for change in before if change.phase == Phase.CLOSED]
        next_open = next((change.at for change in after if change.phase == Phase.OPEN), None)
        return MarketSession(
            phase=before[-1].phase if before else Phase.CLOSED,
            since=before[-1].at if before else 0,
            until=after[0].at if after else HORIZON,
            next_open=next_open,
            next_regular_open=next_open,
            previous_close=closes[-1] if closes else None,
            horizon=HORIZON,
            projected=False,
            data_version=DataVersion(release=0, settings=0),
        )

    def transitions(self, market: int, start: int, count: int) -> list[Transition]:
        count, found = min(count, 1000), []
        # Each week adds some, until there are enough or the data ends.
        while len(found) < count and start < HORIZON:
            found += [change for change in changes(market, start) if start < change.at <= start + 7 * DAY_MS]
            start += 7 * DAY_MS
        return found[:count]

    def special_days(self, market: int, start: int, count: int) -> list[SpecialDay]:
        changes(market, start)
        return []

    def markets(self) -> list[Market]:
        return [Market(NAME, [], "Our own desk", "UTC", covered_from=0, horizon=HORIZON, projected_from=HORIZON)]


def changes(market: int, at: int) -> list[Transition]:
    """The openings and closes from a week before an instant to a week after it, within the data."""
    if market != 0:
        raise Err(MarketError_UnknownMarket())
    if not 0 <= at < HORIZON:
        raise Err(MarketError_BeyondHorizon(0 if at < 0 else HORIZON))
    today = at // DAY_MS
    # 1970-01-01, day 0, was a Thursday; with Monday as 0 it is 3.
    weekdays = [day for day in range(today - 7, today + 9) if (day + 3) % 7 < 5]
    minutes = [(settings["open_minute"], Phase.OPEN), (settings["close_minute"], Phase.CLOSED)]
    found = [Transition(day * DAY_MS + minute * MINUTE_MS, phase) for day in weekdays for minute, phase in minutes]
    return [change for change in found if 0 <= change.at < HORIZON]
