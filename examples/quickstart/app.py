"""A small stock-market service: five pages, each cached in a Redis namespace of its own.

It talks to whatever REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD name, and does not know whether that is Redis
or a sidecar. Nothing in it thinks about market hours or the age of a value: what is missing is computed on first use,
and how long it stays is for others to say.
"""

import json
import os
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

import redis

SYMBOLS = ["INFY.NS", "RELIANCE.NS", "SBIN.NS", "TCS.NS"]

# Two lifetimes that somebody once guessed, as in many an application. A policy caps the one and respects the other.
LEVELS_SECONDS = 24 * 60 * 60
CONTEXT_SECONDS = 30 * 60

Json = dict[str, Any]
Page = Callable[[redis.Redis, str], Json]


def connect(environment: Mapping[str, str]) -> redis.Redis:
    """The cache. That this is all there is to configure is what makes a sidecar a change of host and port."""
    return redis.Redis(
        host=environment.get("REDIS_HOST", "localhost"),
        port=int(environment.get("REDIS_PORT", "6379")),
        db=int(environment.get("REDIS_DB", "0")),
        password=environment.get("REDIS_PASSWORD") or None,
        decode_responses=True,
    )


def cached(cache: redis.Redis, key: str, compute: Callable[[], Json], seconds: int | None = None) -> Json:
    """The value of a key, computed anew where it is missing: a cache may lose anything at any time."""
    text = cache.get(key)
    if text is None:
        text = json.dumps(compute())
        cache.set(key, text, ex=seconds)
    return json.loads(text)


def quote(cache: redis.Redis, symbol: str) -> Json:
    """The last price: JSON."""
    key = f"fyntrix:general:quote:{symbol}"
    return cached(cache, key, lambda: {"symbol": symbol, "price": bars(symbol)[-1]["close"]})


def history(cache: redis.Redis, symbol: str) -> Json:
    """Daily bars: a sorted set by day, so that a chart may ask for a part of it."""
    key = f"fyntrix:historical:{symbol}:1d"
    if not cache.exists(key):
        cache.zadd(key, {json.dumps(bar): bar["day"] for bar in bars(symbol)})
    return {"symbol": symbol, "bars": [json.loads(bar) for bar in cache.zrange(key, 0, -1)]}


def scores(cache: redis.Redis, _: str) -> Json:
    """All symbols, the best first: a sorted set by score."""
    key = "fyntrix:scores:global"
    if not cache.exists(key):
        cache.zadd(key, {symbol: bars(symbol)[-1]["close"] / bars(symbol)[0]["close"] for symbol in SYMBOLS})
    return {"scores": dict(cache.zrevrange(key, 0, -1, withscores=True))}


def levels(cache: redis.Redis, symbol: str) -> Json:
    """Support and resistance: JSON."""

    def compute() -> Json:
        closes = [bar["close"] for bar in bars(symbol)]
        return {"symbol": symbol, "support": min(closes), "resistance": max(closes)}

    return cached(cache, f"fyntrix:support_resistance:{symbol}", compute, LEVELS_SECONDS)


def context(cache: redis.Redis, agent: str) -> Json:
    """What an agent is at, and what it remembers: the one for a conversation, the other for a day."""
    now = cached(cache, f"fyntrix:context:{agent}", lambda: {"watching": SYMBOLS[:2]}, CONTEXT_SECONDS)
    memory = cached(cache, f"fyntrix:context:{agent}:persist", lambda: {"prefers": "large caps"})
    return {"agent": agent, "now": now, "memory": memory}


def bars(symbol: str) -> list[Json]:
    """Where the data would come from: a walk that is the same whenever it is asked for."""
    random, close, days = Random(symbol), 1_000.0, []
    for number in range(30):
        close = round(close * random.uniform(0.98, 1.025), 2)
        days.append({"day": int((date(2026, 10, 1) + timedelta(number)).strftime("%Y%m%d")), "close": close})
    return days


PAGES: dict[str, Page] = {
    "quote": quote,
    "history": history,
    "scores": scores,
    "levels": levels,
    "context": context,
}


class Request(BaseHTTPRequestHandler):
    """One request: /PAGE or /PAGE/ABOUT."""

    cache: redis.Redis

    def do_GET(self) -> None:
        name, _, about = self.path.strip("/").partition("/")
        if page := PAGES.get(name):
            self.answer(200, page(self.cache, about))
        else:
            self.answer(404, {"pages": [*PAGES]})

    def answer(self, status: int, content: Json) -> None:
        """Sends JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: the pages are what this is about."""


def main() -> None:
    """Serves until it is stopped, on APP_PORT or any free port."""
    Request.cache = connect(os.environ)
    with ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("APP_PORT", "0"))), Request) as server:
        print(f"app listens on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
