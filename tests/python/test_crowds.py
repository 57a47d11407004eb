"""Many clients at once: pools, transactions that race, locks that are fought for, messages that all receive."""

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import WatchError

from harness import PATIENCE_SECONDS, Client, Flavour, Sidecar, poll

THREADS, TASKS, ROUNDS = 50, 200, 20

KEY = "fyntrix:general:{}"


def expected(who: int, round_: int) -> str:
    """A value that nobody else writes; each tenth is too large to share a lane."""
    return json.dumps({"who": who, "round": round_, "filler": "x" * (100_000 if round_ % 10 == 9 else who)})


@pytest.mark.parametrize("protocol", [2, 3])
def test_threads(protocol: int, serving: Sidecar) -> None:
    """One pool for all threads, and each gets the replies to its own commands."""
    with redis.Redis("127.0.0.1", serving.port, protocol=protocol, decode_responses=True) as r:

        def work(who: int) -> None:
            key, counter = KEY.format(who), KEY.format(f"counter:{who}")
            r.delete(counter)
            for round_ in range(ROUNDS):
                value = expected(who, round_)
                assert r.set(key, value) is True
                assert r.get(key) == value
                with r.pipeline(transaction=round_ % 2 == 0) as pipe:
                    assert pipe.get(key).incr(counter).echo(str(who)).execute() == [value, round_ + 1, str(who)]

        with ThreadPoolExecutor(THREADS) as threads:
            assert [*threads.map(work, range(THREADS))] == [None] * THREADS


@pytest.mark.parametrize("protocol", [2, 3])
def test_tasks(protocol: int, serving: Sidecar) -> None:
    async def work(r: Any, who: int) -> None:
        key, counter = KEY.format(who), KEY.format(f"counter:{who}")
        await r.delete(counter)
        for round_ in range(ROUNDS):
            value = expected(who, round_)
            assert await r.set(key, value) is True
            assert await r.get(key) == value
            async with r.pipeline(transaction=round_ % 2 == 0) as pipe:
                assert await pipe.get(key).incr(counter).echo(str(who)).execute() == [value, round_ + 1, str(who)]

    async def crowd() -> None:
        options = {"protocol": protocol, "decode_responses": True, "max_connections": TASKS}
        async with redis.asyncio.Redis(host="127.0.0.1", port=serving.port, **options) as r:
            await asyncio.gather(*(work(r, who) for who in range(TASKS)))

    asyncio.run(crowd())


def test_one_of_two_transactions_wins(client: Client, other: Client) -> None:
    key = KEY.format("balance")
    client.wait(client.redis.set(key, "0"))
    pipes = [each.redis.pipeline() for each in (client, other)]
    for each, pipe in zip((client, other), pipes, strict=True):
        each.wait(pipe.watch(key))
        assert each.wait(pipe.get(key)) == b"0"
        pipe.multi()
        pipe.incr(key)
    outcomes = Counter(_executed(each, pipe) for each, pipe in zip((client, other), pipes, strict=True))
    assert outcomes == {True: 1, False: 1}
    assert client.wait(client.redis.get(key)) == b"1"


def _executed(client: Client, pipe: Any) -> bool:
    try:
        return client.wait(pipe.execute()) == [1]
    except WatchError:
        return False
    finally:
        client.wait(pipe.reset())


def test_increments_that_are_tried_again_add_up(serving: Sidecar) -> None:
    """`Redis.transaction` watches, reads, writes, and begins anew when somebody else was quicker."""
    key, threads, rounds = KEY.format("sum"), 8, 10
    with redis.Redis("127.0.0.1", serving.port) as r:
        r.set(key, "0")

        def add(pipe: Any) -> None:
            before = int(pipe.get(key))
            pipe.multi()
            pipe.set(key, before + 1)

        def work(_: int) -> None:
            for _ in range(rounds):
                assert r.transaction(add, key) == [True]

        with ThreadPoolExecutor(threads) as crowd:
            assert [*crowd.map(work, range(threads))] == [None] * threads
        assert int(r.get(key)) == threads * rounds


def test_locks_are_held_by_one(serving: Sidecar) -> None:
    """What only the holder may do is done by one at a time, and a lock that is waited for comes."""
    with redis.Redis("127.0.0.1", serving.port) as r:
        held: list[int] = []

        def work(who: int) -> None:
            with r.lock(KEY.format("lock"), timeout=30, sleep=0.005, blocking_timeout=PATIENCE_SECONDS):
                held.append(who)
                r.ping()
                assert held == [who]
                held.clear()

        with ThreadPoolExecutor(10) as crowd:
            assert [*crowd.map(work, range(20))] == [None] * 20


def test_a_blocked_pop_wakes_up(client: Client, serving: Sidecar, flavour: Flavour) -> None:
    """Blocked clients hold up nobody, and each gets one of the elements that come."""
    key, count = KEY.format("queue"), 5
    with ThreadPoolExecutor(count) as crowd:

        def pop() -> bytes:
            with Client(serving.port, flavour, socket_timeout=None) as blocked:
                return blocked.wait(blocked.redis.blpop(key, timeout=PATIENCE_SECONDS))[1]

        waiting = [crowd.submit(pop) for _ in range(count)]
        poll("blocked", lambda: client.wait(client.redis.info("clients"))["blocked_clients"] == count)
        client.wait(client.redis.rpush(key, *range(count)))
        assert sorted(pop.result() for pop in waiting) == [str(n).encode() for n in range(count)]


def test_a_listening_thread(serving: Sidecar) -> None:
    heard: list[Any] = []
    with redis.Redis("127.0.0.1", serving.port, decode_responses=True) as r:
        listener = r.pubsub(ignore_subscribe_messages=True)
        listener.subscribe(**{"ticks": lambda message: heard.append(message["data"])})
        thread = listener.run_in_thread(sleep_time=0.05)
        poll("a listener", lambda: r.publish("ticks", "0"))
        for n in range(1, 100):
            r.publish("ticks", str(n))
        poll("all messages", lambda: len(heard) == 100)
        thread.stop()
        thread.join()
    assert heard == [str(n) for n in range(100)]


@pytest.mark.parametrize("protocol", [2, 3])
def test_listening_tasks(protocol: int, serving: Sidecar) -> None:
    """Twenty listeners on a channel and on a pattern, all of which hear everything in order."""

    async def listen(r: Any, ready: asyncio.Semaphore, last: str) -> list[str]:
        heard = []
        async with r.pubsub() as listener:
            await listener.subscribe("ticks")
            await listener.psubscribe("news.*")
            async for message in listener.listen():
                if message["type"] == "psubscribe":
                    ready.release()
                if message["type"].endswith("message"):
                    heard.append(message["data"])
                if message["data"] == last:
                    return heard
        return heard

    async def crowd() -> None:
        options = {"protocol": protocol, "decode_responses": True}
        async with redis.asyncio.Redis(host="127.0.0.1", port=serving.port, **options) as r:
            ready = asyncio.Semaphore(0)
            listeners = [asyncio.create_task(listen(r, ready, "49")) for _ in range(20)]
            for _ in listeners:
                await ready.acquire()
            for n in range(50):
                assert await r.publish("ticks" if n % 2 else "news.markets", str(n)) == 20
            for heard in await asyncio.gather(*listeners):
                assert heard == [str(n) for n in range(50)]

    asyncio.run(asyncio.wait_for(crowd(), PATIENCE_SECONDS))


# What the embedded store does not have.
ABSENT = [
    ("XADD", "fyntrix:general:x", "*", "a", "1"),
    ("EVAL", "return 1", "0"),
    ("BLPOP", "fyntrix:general:l", "1"),
    ("PUBLISH", "ticks", "1"),
]


@pytest.mark.parametrize("command", ABSENT, ids=lambda command: command[0])
def test_what_dev_does_not_have(command: tuple[str, ...], trying: Sidecar, flavour: Flavour) -> None:
    check_absent(trying, flavour, lambda client: client.wait(client.redis.execute_command(*command)))


def test_dev_has_no_subscriptions(trying: Sidecar, flavour: Flavour) -> None:
    def subscribe(client: Client) -> None:
        listener = client.redis.pubsub()
        client.wait(listener.subscribe("ticks"))
        try:
            client.wait(listener.get_message(timeout=5))
        finally:
            client.wait(listener.aclose() if flavour.asynchronous else listener.close())

    check_absent(trying, flavour, subscribe)


def check_absent(trying: Sidecar, flavour: Flavour, use: Any) -> None:
    """The error names the store and says what to do; the connection goes on."""
    with Client(trying.port, flavour) as client:
        with pytest.raises(redis.ResponseError, match="is not in Bellwether's embedded store; run a Redis server"):
            use(client)
        assert client.wait(client.redis.ping()) is True
