"""Whatever redis-py does, the application gets from the sidecar what Redis itself would have answered, and what a rule
is for has a lifetime afterwards.

A row is a generator of calls: `reply = yield client.call(…)`. It is run against Redis and through the sidecar, and
every reply must be equal. Calls go through `yield`, so that a row is written once for sync and asyncio; a call that
raises is yielded as a function, and what it raises is its reply.
"""

import json
from collections.abc import Callable, Generator
from typing import Any

import pytest
import redis
from redis.exceptions import RedisError

from harness import Client, Flavour, Redis, Sidecar

Key = Callable[[str], str]
Calls = Generator[Any, Any, None]
Row = Callable[[Any, Key], Calls]

# What keys begin with: under a rule, and under none.
RULED, FREE = "fyntrix:general:", "elsewhere:"

# What the rule says while the market is open.
RULED_MS = 60_000


def strings(r: Any, key: Key) -> Calls:
    yield r.set(key("a"), '{"price": 2950.5}')
    yield r.get(key("a"))
    yield r.get(key("missing"))
    yield r.set(key("a"), '"new"', get=True)
    yield r.set(key("a"), '"not"', nx=True)
    yield r.set(key("b"), '"not"', xx=True)
    yield r.set(key("a"), '"kept"', keepttl=True)
    yield r.getset(key("a"), "1")
    yield r.setnx(key("a"), "2")
    yield r.setnx(key("c"), "3")
    yield r.setex(key("d"), 30, "4")
    yield r.psetex(key("e"), 30_000, "5")
    yield r.strlen(key("a"))
    yield r.append(key("a"), "0")
    yield r.setrange(key("a"), 1, "9")
    yield r.getrange(key("a"), 0, 1)
    yield r.getdel(key("a"))
    yield r.exists(key("a"), key("c"), key("c"))
    yield r.type(key("c"))
    yield r.delete(key("c"), key("d"), key("a"))
    yield r.unlink(key("e"))


def many_at_once(r: Any, key: Key) -> Calls:
    yield r.mset({key(str(n)): json.dumps({"n": n}) for n in range(100)})
    yield r.mget([key(str(n)) for n in range(101)])
    yield r.msetnx({key("0"): "1", key("new"): "2"})
    yield r.msetnx({key("new"): "1", key("newer"): "2"})
    yield r.mget(key("0"), key("new"), key("newer"))


def counters(r: Any, key: Key) -> Calls:
    yield r.incr(key("a"))
    yield r.incr(key("a"), 41)
    yield r.decr(key("a"), 2)
    yield r.incrbyfloat(key("b"), 0.25)
    yield r.get(key("b"))
    yield r.hincrby(key("h"), "n", 3)
    yield r.hincrbyfloat(key("h"), "f", 1.5)
    yield r.zincrby(key("z"), 2.5, "m")


def hashes(r: Any, key: Key) -> Calls:
    levels = {"support": "2900", "resistance": "3010.5", "as_of": "2026-11-23"}
    yield r.hset(key("h"), mapping=levels)
    yield r.hset(key("h"), "pivot", 2955)
    yield r.hsetnx(key("h"), "pivot", 1)
    yield r.hget(key("h"), "support")
    yield r.hget(key("h"), "missing")
    yield r.hmget(key("h"), "support", "missing", "pivot")
    yield r.hgetall(key("h"))
    yield r.hgetall(key("missing"))
    yield r.hexists(key("h"), "pivot")
    yield r.hlen(key("h"))
    yield r.hkeys(key("h"))
    yield r.hvals(key("h"))
    yield r.hdel(key("h"), "pivot")
    yield r.hscan_iter(key("h"))


def sorted_sets(r: Any, key: Key) -> Calls:
    """A time series: scores are times, members are bars."""
    start = 1_795_000_000
    bars = {json.dumps({"at": start + 60 * n, "close": 2900 + n / 4}): start + 60 * n for n in range(30)}
    yield r.zadd(key("z"), bars)
    yield r.zadd(key("z"), {"late": start + 5_000}, nx=True)
    yield r.zadd(key("z"), {"late": start + 6_000}, gt=True, ch=True)
    yield r.zcard(key("z"))
    yield r.zscore(key("z"), "late")
    yield r.zscore(key("z"), "missing")
    yield r.zmscore(key("z"), ["late", "missing"])
    yield r.zrank(key("z"), "late")
    yield r.zrange(key("z"), 0, 2)
    yield r.zrange(key("z"), 0, 2, withscores=True)
    yield r.zrevrange(key("z"), 0, 0, withscores=True)
    yield r.zrangebyscore(key("z"), start, start + 300, withscores=True, start=1, num=3)
    yield r.zrangebyscore(key("z"), f"({start}", "+inf", start=0, num=1)
    yield r.zcount(key("z"), "-inf", start + 300)
    yield r.zremrangebyscore(key("z"), "-inf", start + 1_200)
    yield r.zpopmin(key("z"))
    yield r.zpopmax(key("z"), 2)
    yield r.zunionstore(key("union"), {key("z"): 1, key("missing"): 2})
    yield r.zrangestore(key("top"), key("union"), 0, 1)
    yield r.zscan_iter(key("union"))


def lists(r: Any, key: Key) -> Calls:
    yield r.rpush(key("l"), "1", "2", "3")
    yield r.lpush(key("l"), "0")
    yield r.lpushx(key("missing"), "0")
    yield r.lrange(key("l"), 0, -1)
    yield r.llen(key("l"))
    yield r.lindex(key("l"), -1)
    yield r.lset(key("l"), 0, "zero")
    yield r.linsert(key("l"), "before", "2", "1.5")
    yield r.lrem(key("l"), 1, "1")
    yield r.ltrim(key("l"), 0, 2)
    yield r.lmove(key("l"), key("moved"), "LEFT", "RIGHT")
    yield r.rpoplpush(key("l"), key("moved"))
    yield r.lpop(key("l"))
    yield r.lpop(key("moved"), 5)
    yield r.rpop(key("missing"))


def sets(r: Any, key: Key) -> Calls:
    yield r.sadd(key("s"), "INFY", "TCS", "RELIANCE")
    yield r.sadd(key("t"), "TCS", "SBIN")
    yield r.smembers(key("s"))
    yield r.smembers(key("missing"))
    yield r.sismember(key("s"), "TCS")
    yield r.smismember(key("s"), ["TCS", "missing"])
    yield r.scard(key("s"))
    yield r.sinter(key("s"), key("t"))
    yield r.sunionstore(key("u"), key("s"), key("t"))
    yield r.sdiffstore(key("d"), key("s"), key("t"))
    yield r.smove(key("s"), key("t"), "INFY")
    yield r.srem(key("s"), "TCS", "missing")
    yield r.spop(key("s"))
    yield r.sscan_iter(key("u"))


def binary(r: Any, key: Key) -> Calls:
    every = bytes(range(256))
    framing = b'"\r\n$-1\r\n*3\r\n"'
    yield r.set(key("every"), every)
    yield r.get(key("every"))
    yield r.set(key("framing"), framing)
    yield r.get(key("framing"))
    yield r.hset(key("h").encode() + b"\xff\x00", every, every)
    yield r.hgetall(key("h").encode() + b"\xff\x00")
    yield r.set(key("नमस्ते"), '"₹ 2,950"')
    yield r.get(key("नमस्ते"))
    yield r.set(key("empty"), "")
    yield r.get(key("empty"))


def large_values(r: Any, key: Key) -> Calls:
    """Larger than what may share a lane with other clients, and so on another one than the small value beside it."""
    large = json.dumps("x" * (1 << 20))
    for n in range(3):
        yield r.set(key(f"large{n}"), large)
        yield r.set(key(f"small{n}"), str(n))
        yield r.get(key(f"large{n}"))
        yield r.get(key(f"small{n}"))
    yield r.mget(key("large0"), key("small0"), key("large1"))
    yield r.hset(key("h"), "field", large)
    yield r.hgetall(key("h"))


def scans(r: Any, key: Key) -> Calls:
    yield r.mset({key(f"s{n}"): "1" for n in range(500)})
    yield r.hset(key("h"), mapping={f"f{n}": n for n in range(1000)})
    yield r.zadd(key("z"), {f"m{n}": n for n in range(1000)})
    yield r.sadd(key("set"), *(f"m{n}" for n in range(1000)))
    yield r.scan_iter(match=key("s*"), count=50)
    yield r.scan_iter(match=key("*"), _type="ZSET")
    yield r.scan_iter()
    yield r.hscan_iter(key("h"), match="f1*", count=100)
    yield r.zscan_iter(key("z"), count=100)
    yield r.sscan_iter(key("set"), count=100)


def lifetimes(r: Any, key: Key) -> Calls:
    yield r.ttl(key("missing"))
    yield r.expire(key("missing"), 30)
    yield r.set(key("a"), "1", ex=20)
    yield r.ttl(key("a"))
    yield r.expire(key("a"), 10)
    yield r.ttl(key("a"))
    yield r.expire(key("a"), 15, gt=True)
    yield r.ttl(key("a"))
    yield r.pexpire(key("a"), 9_900, lt=True)
    yield r.ttl(key("a"))
    yield r.getex(key("a"), ex=20)
    yield r.ttl(key("a"))
    yield r.getex(key("a"))
    yield r.expire(key("a"), -1)
    yield r.get(key("a"))
    yield r.persist(key("a"))


def keys(r: Any, key: Key) -> Calls:
    yield r.set(key("a"), "1")
    yield r.rename(key("a"), key("b"))
    yield r.renamenx(key("b"), key("c"))
    yield r.copy(key("c"), key("d"))
    yield r.touch(key("c"), key("missing"))
    yield r.dbsize()
    yield r.object("encoding", key("c"))
    yield r.rpush(key("l"), "3", "1", "2")
    yield r.sort(key("l"), store=key("sorted"))
    yield r.lrange(key("sorted"), 0, -1)
    yield r.flushdb()
    yield r.dbsize()


def pipelines(r: Any, key: Key) -> Calls:
    for transaction in (False, True):
        pipe = r.pipeline(transaction=transaction)
        pipe.set(key("a"), "1").incr(key("n")).get(key("a")).hset(key("h"), mapping={"a": 1}).hgetall(key("h"))
        pipe.zadd(key("z"), {"m": 1.5}).zrange(key("z"), 0, -1, withscores=True).expire(key("a"), 30)
        pipe.setnx(key("once"), "1").setnx(key("once"), "2").persist(key("a")).get(key("missing"))
        yield pipe.execute()
        for n in range(1000):
            pipe.set(key(str(n)), str(n))
            pipe.get(key(str(n)))
        yield pipe.execute()
        pipe.set(key("text"), '"a"').incr(key("text")).get(key("text"))
        yield pipe.execute(raise_on_error=False)
        pipe.set(key("text"), '"b"').hset(key("text"), "a", 1).get(key("text"))
        yield pipe.execute
        yield r.get(key("text"))


def transactions(r: Any, key: Key) -> Calls:
    yield r.set(key("a"), "1")
    for touched in (False, True):
        pipe = r.pipeline()
        yield pipe.watch(key("a"))
        yield pipe.get(key("a"))
        if touched:
            yield r.set(key("a"), "2")
        pipe.multi()
        pipe.incr(key("a")).set(key("b"), "3")
        yield pipe.execute
        yield pipe.reset()
    pipe = r.pipeline()
    yield pipe.watch(key("a"))
    yield pipe.unwatch()
    yield pipe.reset()
    yield r.mget(key("a"), key("b"))


def databases(r: Any, key: Key) -> Calls:
    yield r.set(key("a"), "1")
    yield r.select(5)
    yield r.get(key("a"))
    yield r.set(key("a"), "5")
    pipe = r.pipeline()
    yield pipe.get(key("a")).execute()
    yield r.select(0)
    yield r.get(key("a"))
    yield r.move(key("a"), 6)
    yield r.get(key("a"))
    yield r.swapdb(0, 5)
    yield r.get(key("a"))
    yield r.flushall()
    yield r.get(key("a"))


def server(r: Any, key: Key) -> Calls:
    yield r.ping()
    yield r.echo("hello")
    yield r.config_get("maxmemory")
    yield r.client_getname()
    yield r.client_setname("quotes")
    yield r.client_getname()
    yield r.get(key("missing"))


def bits_places_and_counts(r: Any, key: Key) -> Calls:
    yield r.setbit(key("bits"), 7, 1)
    yield r.bitcount(key("bits"))
    yield r.bitop("NOT", key("not"), key("bits"))
    yield r.pfadd(key("hll"), "a", "b", "a")
    yield r.pfcount(key("hll"))
    yield r.pfmerge(key("merged"), key("hll"))
    yield r.geoadd(key("geo"), (72.83, 18.93, "BSE", 72.86, 19.06, "NSE"))
    yield r.geodist(key("geo"), "BSE", "NSE", "km")
    yield r.geosearch(key("geo"), member="BSE", radius=50, unit="km", withdist=True)


def streams(r: Any, key: Key) -> Calls:
    for n in range(1, 6):
        yield r.xadd(key("x"), {"price": 2900 + n}, id=f"{n}-0")
    yield r.xlen(key("x"))
    yield r.xrange(key("x"), "2-0", "3-0")
    yield r.xrevrange(key("x"), count=1)
    yield r.xread({key("x"): "3-0"})
    yield r.xread({key("x"): "9-0"}, block=10)
    yield r.xgroup_create(key("x"), "readers", id="0")
    yield r.xgroup_create(key("made"), "readers", mkstream=True)
    yield r.xreadgroup("readers", "one", {key("x"): ">"}, count=2)
    yield r.xpending(key("x"), "readers")
    yield r.xack(key("x"), "readers", "1-0")
    yield r.xclaim(key("x"), "readers", "two", 0, ["2-0"], justid=True)
    yield r.xautoclaim(key("x"), "readers", "three", 0)
    yield r.xtrim(key("x"), maxlen=3)
    yield r.xdel(key("x"), "5-0")
    yield r.xlen(key("x"))


def scripts(r: Any, key: Key) -> Calls:
    """What a script writes is its own business unless a rule says otherwise, so it is gone at the end of this row."""
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    yield add(keys=[key("n")], args=[40])
    yield add(keys=[key("n")], args=[2])
    pipe = r.pipeline()
    yield add(keys=[key("n")], args=[8], client=pipe)
    pipe.get(key("n"))
    yield pipe.execute()
    yield r.eval("return {1, 'two', {3}, redis.status_reply('OK')}", 0)
    yield lambda: r.eval("return redis.error_reply('MINE no')", 0)
    yield lambda: r.evalsha("0" * 40, 0)
    digest = yield r.script_load("return KEYS[1]")
    yield r.script_exists(digest, "0" * 40)
    yield r.evalsha(digest, 1, key("n"))
    yield r.eval_ro("return redis.call('GET', KEYS[1])", 1, key("n"))
    yield r.delete(key("n"))


def locks(r: Any, key: Key) -> Calls:
    mine, yours = r.lock(key("lock"), timeout=20), r.lock(key("lock"), timeout=40)
    yield mine.acquire()
    yield mine.owned()
    yield r.ttl(key("lock"))
    yield yours.acquire(blocking=False)
    yield yours.acquire(blocking_timeout=0.01)
    yield r.ttl(key("lock"))
    yield lambda: yours.release()
    yield mine.extend(10)
    yield r.ttl(key("lock"))
    yield mine.reacquire()
    yield r.ttl(key("lock"))
    yield mine.release()
    yield yours.acquire(blocking=False)
    yield lambda: mine.extend(10)
    yield lambda: mine.release()
    yield yours.locked()
    yield r.ttl(key("lock"))
    yield yours.release()
    yield yours.locked()


def blocking(r: Any, key: Key) -> Calls:
    yield r.rpush(key("l"), "1", "2", "3")
    yield r.blpop([key("missing"), key("l")], timeout=1)
    yield r.brpop(key("l"), timeout=1)
    yield r.blmove(key("l"), key("moved"), 1)
    yield r.blpop(key("l"), timeout=0.01)
    yield r.get(key("missing"))
    yield r.zadd(key("z"), {"a": 1, "b": 2})
    yield r.bzpopmin(key("z"), timeout=1)
    yield r.bzpopmax([key("missing"), key("z")], timeout=1)
    yield r.bzpopmin(key("z"), timeout=0.01)
    yield r.ping()


def messages(r: Any, key: Key) -> Calls:
    listener = r.pubsub()
    yield listener.subscribe(key("a"), key("b"))
    yield listener.psubscribe(key("*"))
    for _ in range(3):
        yield listener.get_message(timeout=5)
    yield r.publish(key("a"), "hello")
    yield r.publish(key("c"), b"\x00\xff")
    for _ in range(3):
        yield listener.get_message(timeout=5)
    yield r.pubsub_channels(key("a"))
    yield r.pubsub_numsub(key("a"), key("missing"))
    yield r.pubsub_numpat()
    yield listener.ping("are you there")
    yield listener.get_message(timeout=5)
    yield listener.unsubscribe(key("a"))
    yield listener.get_message(timeout=5)
    yield r.publish(key("b"), "still")
    for _ in range(2):
        yield listener.get_message(timeout=5)
    yield listener.unsubscribe()
    yield listener.punsubscribe()
    for _ in range(2):
        yield listener.get_message(timeout=5)
    yield r.publish(key("a"), "nobody")
    yield listener.aclose() if hasattr(listener, "aclose") else listener.close()


def mistakes(r: Any, key: Key) -> Calls:
    """Errors come in the server's own words."""
    yield r.set(key("text"), '"a"')
    for command in [
        ("GET",),
        ("GET", key("a"), key("b")),
        ("SET", key("a")),
        ("SET", key("a"), "1", "EX", "0"),
        ("SET", key("a"), "1", "EX", "soon"),
        ("SET", key("a"), "1", "NX", "XX"),
        ("SETEX", key("a"), "-1", "1"),
        ("INCR", key("text")),
        ("HSET", key("text"), "a", "1"),
        ("HSET", key("h"), "a"),
        ("ZADD", key("z"), "high", "m"),
        ("EXPIRE", key("text"), "soon"),
        ("LPUSH", key("text"), "1"),
        ("MSET", key("a")),
        ("SELECT", "99999"),
        ("SELECT", "first"),
        ("EXEC",),
        ("DISCARD",),
        ("NOSUCH", key("a")),
        ("OBJECT", "NOSUCH", key("a")),
        ("EVAL", "not lua", "0"),
    ]:
        yield lambda command=command: r.execute_command(*command)
    yield r.exists(key("a"))


# What the embedded store answers as Redis does.
EMBEDDED = [
    strings,
    many_at_once,
    counters,
    hashes,
    sorted_sets,
    lists,
    sets,
    large_values,
    scans,
    lifetimes,
    keys,
    pipelines,
    transactions,
]
ALL = [
    *EMBEDDED,
    binary,
    databases,
    server,
    bits_places_and_counts,
    streams,
    scripts,
    locks,
    blocking,
    messages,
    mistakes,
]


@pytest.mark.parametrize("prefix", [RULED, FREE], ids=["ruled", "free"])
@pytest.mark.parametrize("row", ALL)
def test_serve(row: Row, prefix: str, direct: Redis, upstream: Redis, serving: Sidecar, flavour: Flavour) -> None:
    check(row, prefix, direct.port, serving.port, flavour)
    with Client(upstream.port) as behind:
        check_lifetimes(behind)


@pytest.mark.parametrize("prefix", [RULED, FREE], ids=["ruled", "free"])
@pytest.mark.parametrize("row", EMBEDDED)
def test_dev(row: Row, prefix: str, direct: Redis, trying: Sidecar, flavour: Flavour) -> None:
    check(row, prefix, direct.port, trying.port, flavour)
    with Client(trying.port) as same:
        check_lifetimes(same)


def check(row: Row, prefix: str, expect_port: int, port: int, flavour: Flavour) -> None:
    """Every reply on the one port is the same as on the other."""
    expect, replies = ([*_replies(row, prefix, at, flavour)] for at in (expect_port, port))
    for number, (expected, reply) in enumerate(zip(expect, replies, strict=True), start=1):
        assert reply == expected, f"reply {number} of {row.__name__}"


def check_lifetimes(client: Client) -> None:
    """Every key that the rule is for has a lifetime, and not more than the rule's."""
    for key in client.redis.scan_iter(match=f"{RULED}*"):
        # A key that is not text never reaches a policy.
        if _is_text(key):
            left_ms = client.redis.pttl(key)
            assert 0 < left_ms <= RULED_MS, f"{key} lives {left_ms} ms"


def _replies(row: Row, prefix: str, port: int, flavour: Flavour) -> Generator[Any, None, None]:
    with Client(port, flavour) as client:
        client.wait(client.redis.flushall())
        calls = row(client.redis, lambda name: f"{prefix}{name}")
        try:
            call = next(calls)
            while True:
                reply = _reply(client, call)
                yield _comparable(reply)
                call = calls.send(reply)
        except StopIteration:
            return


def _is_text(key: bytes) -> bool:
    return key.decode(errors="replace").encode() == key


def _reply(client: Client, call: Any) -> Any:
    try:
        return client.wait(call() if callable(call) else call)
    except RedisError as error:
        return error


def _comparable(reply: Any) -> Any:
    match reply:
        case RedisError():
            return type(reply).__name__, str(reply)
        case list():
            return [_comparable(part) for part in reply]
        case redis.client.Pipeline() | redis.asyncio.client.Pipeline():
            return "what has been queued so far"
    return reply
