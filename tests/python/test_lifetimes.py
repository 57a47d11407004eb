"""How long keys live: the five namespaces of the application, as the default policies have them and as `bellwether
explain` says it."""

import json
import re
import subprocess
from typing import Any

import pytest
from redis.exceptions import ResponseError

from harness import BINARY, MARKET_OPEN, Client, Flavour, Redis, Sidecar, environment

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

# How much later than the write a lifetime is read, at most.
LATE_MS = 5 * SECOND

QUOTE = {"symbol": "RELIANCE.NS", "price": 2950.5, "name": "रिलायंस"}

# What the default policies say of a key while the National Stock Exchange is open.
NAMESPACES = [
    ("fyntrix:general:quote:RELIANCE", MINUTE),
    ("fyntrix:general:quote:RELIANCE.NS", MINUTE),
    ("fyntrix:general:index:^NSEI", MINUTE),
    ("fyntrix:historical:RELIANCE.NS:1d", 15 * MINUTE),
    ("fyntrix:scores:RELIANCE.NS", 5 * MINUTE),
    ("fyntrix:support_resistance:RELIANCE.NS", HOUR),
    ("fyntrix:context:planner", 2 * HOUR),
    ("fyntrix:general:settings:persist", DAY),
    ("fyntrix:historical:RELIANCE.NS:persist", DAY),
    ("fyntrix:scores:global:persist", DAY),
    ("fyntrix:support_resistance:TCS.NS:persist", DAY),
    ("fyntrix:context:planner:persist", DAY),
]


@pytest.mark.parametrize(("key", "expect_ms"), NAMESPACES)
def test_namespaces(key: str, expect_ms: int, client: Client) -> None:
    r, wait = client.redis, client.wait
    wait(r.set(key, json.dumps(QUOTE)))
    assert json.loads(wait(r.get(key))) == QUOTE
    check_lifetime(client, key, expect_ms)


@pytest.mark.parametrize(("key", "expect_ms"), NAMESPACES)
def test_namespaces_in_dev(key: str, expect_ms: int, trying: Sidecar, flavour: Flavour) -> None:
    with Client(trying.port, flavour) as client:
        client.wait(client.redis.set(key, json.dumps(QUOTE)))
        assert json.loads(client.wait(client.redis.get(key))) == QUOTE
        check_lifetime(client, key, expect_ms)


@pytest.mark.parametrize(("key", "expect_ms"), NAMESPACES[-7:])
def test_explain_says_the_same(key: str, expect_ms: int) -> None:
    command = [BINARY, "explain", "--at", MARKET_OPEN.isoformat(), "SET", key, json.dumps(QUOTE)]
    explained = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    found = re.search(r"^ttl +(\d+) ms", explained, re.MULTILINE)
    assert found and int(found.group(1)) == expect_ms, explained


# Every way to create a key, with the arguments behind the key.
WRITES = [
    ("set", '"1"'),
    ("setnx", "1"),
    ("getset", "1"),
    ("append", "1"),
    ("incr",),
    ("incrbyfloat", 0.5),
    ("setbit", 3, 1),
    ("setrange", 0, "1"),
    ("hset", "field", 1),
    ("hsetnx", "field", 1),
    ("hincrby", "field", 1),
    ("zadd", {"bar": 1_795_000_000}),
    ("zincrby", 1, "bar"),
    ("rpush", 1, 2),
    ("lpush", 1),
    ("sadd", "a", "b"),
    ("xadd", {"price": 1}),
    ("pfadd", "a"),
    ("geoadd", (72.83, 18.93, "BSE")),
]


@pytest.mark.parametrize("inside", ["alone", "pipeline", "transaction"])
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[0])
def test_writes(write: tuple[Any, ...], inside: str, client: Client) -> None:
    name, *args = write
    keys = {"fyntrix:general:made": MINUTE, "fyntrix:scores:made:persist": DAY, "elsewhere:made": None}
    if inside == "alone":
        for key in keys:
            client.wait(getattr(client.redis, name)(key, *args))
    else:
        pipe = client.redis.pipeline(transaction=inside == "transaction")
        for key in keys:
            getattr(pipe, name)(key, *args)
        assert len(client.wait(pipe.execute())) == len(keys)
    for key, expect_ms in keys.items():
        check_lifetime(client, key, expect_ms)


# What the application asks for, and what it gets: the shorter of the two, but in agent context always its own.
ASKED = [
    ("fyntrix:general:a", {"ex": 10}, 10 * SECOND),
    ("fyntrix:general:a", {"px": 2_500}, 2_500),
    ("fyntrix:general:a", {"ex": 3_600}, MINUTE),
    ("fyntrix:general:a", {"px": 3_600_000}, MINUTE),
    ("fyntrix:general:a:persist", {"ex": 7 * 86_400}, DAY),
    ("fyntrix:context:a", {"ex": 7 * 86_400}, 7 * DAY),
    ("fyntrix:context:a", {"px": 4_000}, 4 * SECOND),
    ("elsewhere:a", {"ex": 10}, 10 * SECOND),
]


@pytest.mark.parametrize(("key", "asked", "expect_ms"), ASKED)
def test_what_the_application_asks_for(key: str, asked: dict[str, int], expect_ms: int, client: Client) -> None:
    """By any of the ways to say it: an option of SET or GETEX, or an EXPIRE of its own."""
    r, wait = client.redis, client.wait
    [(unit, span)] = asked.items()
    wait(r.set(key, "1", **asked))
    check_lifetime(client, key, expect_ms)
    wait(r.set(key, "1"))
    wait(r.getex(key, **asked))
    check_lifetime(client, key, expect_ms)
    wait(r.set(key, "1"))
    wait(r.expire(key, span) if unit == "ex" else r.pexpire(key, span))
    check_lifetime(client, key, expect_ms)
    wait(r.setex(key, span, "1") if unit == "ex" else r.psetex(key, span, "1"))
    check_lifetime(client, key, expect_ms)


@pytest.mark.parametrize("offset", ["-2d", "2d"])
def test_instants_are_of_the_servers_clock(offset: str, upstream: Redis) -> None:
    """An application that says until when reads its own clock, whatever the sidecar's has been shifted by."""
    key = "fyntrix:general:a:persist"
    with Sidecar.before(upstream, f"--clock-offset={offset}") as sidecar, Client(sidecar.port) as client:
        r = client.redis
        until = r.time()[0] + 40
        ways = {
            "SET EXAT": lambda: r.set(key, "1", exat=until),
            "SET PXAT": lambda: r.set(key, "1", pxat=until * 1_000),
            "GETEX EXAT": lambda: r.getex(key, exat=until),
            "EXPIREAT": lambda: r.expireat(key, until),
            "PEXPIREAT": lambda: r.pexpireat(key, until * 1_000),
        }
        for way, ask in ways.items():
            r.set(key, "1")
            ask()
            assert (way, r.expiretime(key) - until) == (way, 0)


def test_persist(client: Client) -> None:
    """A key under a rule always ends: PERSIST gives it the rule's lifetime anew. Agent context may ask for more."""
    r, wait = client.redis, client.wait
    expect_ms = {"fyntrix:general:a": MINUTE, "fyntrix:context:a": None, "elsewhere:a": None}
    for key in expect_ms:
        wait(r.set(key, "1", ex=20))
        assert wait(r.persist(key)) is True
        check_lifetime(client, key, expect_ms[key])


# Counters and locks must not live on with each write; a time series must.
GROWTH = [
    ("fyntrix:general:hits", ("incr",), 30 * SECOND),
    ("fyntrix:scores:global", ("zadd", {"TCS": 1}), 30 * SECOND),
    ("fyntrix:historical:TCS.NS", ("zadd", {"bar": 1}), 15 * MINUTE),
    ("fyntrix:context:planner", ("rpush", "turn"), 2 * HOUR),
]


@pytest.mark.parametrize(("key", "write", "expect_ms"), GROWTH, ids=lambda row: row if isinstance(row, str) else "")
def test_growth(key: str, write: tuple[Any, ...], expect_ms: int, client: Client) -> None:
    r, wait = client.redis, client.wait
    name, *args = write
    wait(getattr(r, name)(key, *args))
    wait(r.expire(key, 30))
    wait(getattr(r, name)(key, *args))
    check_lifetime(client, key, expect_ms)


# Every command whose value a rule may want to be JSON.
PICKLED = b"\x80\x04\x95not json"
VALUES = [
    ("SET", "fyntrix:scores:a", PICKLED),
    ("SET", "fyntrix:scores:a", PICKLED, "NX"),
    ("SETNX", "fyntrix:scores:a", PICKLED),
    ("SETEX", "fyntrix:scores:a", "30", PICKLED),
    ("PSETEX", "fyntrix:scores:a", "30000", PICKLED),
    ("GETSET", "fyntrix:scores:a", PICKLED),
    ("MSET", "fyntrix:scores:b", "1", "fyntrix:scores:a", PICKLED),
    ("MSETNX", "fyntrix:scores:b", "1", "fyntrix:scores:a", PICKLED),
]


@pytest.mark.parametrize("command", VALUES, ids=lambda command: command[0])
def test_not_json_in_dev(command: tuple[str | bytes, ...], trying: Sidecar, flavour: Flavour) -> None:
    """Refused by name, and nothing of it is stored; also inside a transaction, which then stores nothing at all."""
    with Client(trying.port, flavour) as client:
        r, wait = client.redis, client.wait
        wait(r.flushall())
        with pytest.raises(ResponseError, match='rule "fyntrix:scores".*JSON'):
            wait(r.execute_command(*command))
        pipe = r.pipeline().set("fyntrix:scores:c", "1")
        pipe.execute_command(*command)
        with pytest.raises(ResponseError, match='rule "fyntrix:scores".*JSON'):
            wait(pipe.execute())
        assert wait(r.keys("*")) == []


@pytest.mark.parametrize("command", VALUES, ids=lambda command: command[0])
def test_not_json_in_serve(command: tuple[str | bytes, ...], serving: Sidecar, client: Client) -> None:
    """Counted and stored, so that an application with pickled values goes on."""
    warned = 'bellwether_decisions_total{rule="fyntrix:scores",outcome="not-json"}'
    before = serving.metric(warned)
    client.wait(client.redis.execute_command(*command))
    assert client.wait(client.redis.get("fyntrix:scores:a")) == PICKLED
    assert serving.metric(warned) == before + 1
    assert client.wait(client.redis.pttl("fyntrix:scores:a")) > 0


def check_lifetime(client: Client, key: str, expect_ms: int | None) -> None:
    """The key lives so long, less what has gone by since; None: it is there without end."""
    left_ms = client.wait(client.redis.pttl(key))
    if expect_ms is None:
        assert left_ms == -1, f"{key} lives {left_ms} ms"
    else:
        assert expect_ms - LATE_MS < left_ms <= expect_ms and left_ms > 0, f"{key} lives {left_ms} ms"
