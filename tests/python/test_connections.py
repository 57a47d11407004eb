"""Connections as the application makes them: the environment, passwords, databases, names, health checks, and a Redis
that is restarted."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthenticationError, ConnectionError

from harness import Client, Flavour, Redis, Sidecar, free_port, poll


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the first application makes of its environment."""
    return {
        "host": environment.get("REDIS_HOST", "localhost"),
        "port": int(environment.get("REDIS_PORT", "6379")),
        "db": int(environment.get("REDIS_DB", "0")),
        "password": environment.get("REDIS_PASSWORD") or None,
    }


def trying(flavour: Flavour, times: int) -> Any:
    """How often redis-py tries a call again."""
    kind = redis.asyncio.retry.Retry if flavour.asynchronous else redis.retry.Retry
    return kind(ConstantBackoff(0.02), retries=times)


# Without a password, and with one, in another database.
ENVIRONMENTS = [{}, {"REDIS_DB": "3", "REDIS_PASSWORD": "open sesame/ñ:@"}]


@pytest.fixture(scope="module", params=ENVIRONMENTS, ids=["plain", "password"])
def environments(request: pytest.FixtureRequest) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """What the application runs with before there is a sidecar, and after: another port is all that differs."""
    variables: dict[str, str] = request.param
    options = ["--requirepass", variables["REDIS_PASSWORD"]] if variables else []
    with Redis(*options) as server:
        before = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)} | variables
        with Sidecar("serve", **before) as sidecar:
            yield before, before | {"REDIS_PORT": str(sidecar.port)}


def connected(environment: Mapping[str, str], flavour: Flavour, **options: Any) -> Client:
    """A client as the application makes it."""
    known = from_environment(environment)
    return Client(known.pop("port"), flavour, **known | options)


def test_environment(environments: tuple[dict[str, str], dict[str, str]], flavour: Flavour) -> None:
    before, after = environments
    with connected(before, flavour) as direct, connected(after, flavour) as client:
        client.wait(client.redis.set("fyntrix:general:a", '{"a": 1}'))
        assert direct.wait(direct.redis.get("fyntrix:general:a")) == b'{"a": 1}'
        assert 0 < direct.wait(direct.redis.ttl("fyntrix:general:a")) <= 60
        assert "db=" + before.get("REDIS_DB", "0") in str(client.redis.connection_pool)


@pytest.mark.parametrize("environments", ENVIRONMENTS[1:], ids=["password"], indirect=True)
@pytest.mark.parametrize("password", [None, "wrong"])
def test_wrong_passwords(
    password: str | None, environments: tuple[dict[str, str], dict[str, str]], flavour: Flavour
) -> None:
    """As at a Redis with a password: the same kind of error, and the same words until they differ between versions."""
    refusals = [_refusal(environment, flavour, password) for environment in environments]
    assert refusals[0] == refusals[1]


def _refusal(environment: Mapping[str, str], flavour: Flavour, password: str | None) -> str:
    with (
        connected(environment, flavour, password=password, retry=trying(flavour, 0)) as client,
        pytest.raises(AuthenticationError) as refused,
    ):
        client.wait(client.redis.get("fyntrix:general:a"))
    return str(refused.value).split(",")[0]


def test_addresses_as_urls(serving: Sidecar) -> None:
    for options in ("", "?protocol=2", "?protocol=3", "?decode_responses=True&client_name=url"):
        with redis.Redis.from_url(f"redis://127.0.0.1:{serving.port}/0{options}") as client:
            assert client.ping() is True


def test_nothing_but_host_and_port(serving: Sidecar) -> None:
    """What redis-py itself chooses today: its protocol, its handshake."""
    with redis.Redis("127.0.0.1", serving.port) as client:
        client.set("fyntrix:general:a", "1")
        assert client.get("fyntrix:general:a") == b"1"


def test_decoded_replies(serving: Sidecar, flavour: Flavour) -> None:
    with Client(serving.port, flavour, decode_responses=True) as client:
        r, wait = client.redis, client.wait
        wait(r.flushall())
        wait(r.hset("fyntrix:general:h", mapping={"नाम": "रिलायंस", "price": 2950.5}))
        assert wait(r.hgetall("fyntrix:general:h")) == {"नाम": "रिलायंस", "price": "2950.5"}
        assert wait(r.scan_iter()) == ["fyntrix:general:h"]


def test_databases(serving: Sidecar, upstream: Redis, flavour: Flavour) -> None:
    """Each client sees its own database, with the rules' lifetimes there too."""
    with Client(serving.port, flavour) as zero, Client(serving.port, flavour, db=7) as seven:
        for client, value in ((zero, "0"), (seven, "7")):
            client.wait(client.redis.set("fyntrix:general:a", value))
        assert zero.wait(zero.redis.get("fyntrix:general:a")) == b"0"
        assert seven.wait(seven.redis.get("fyntrix:general:a")) == b"7"
    with Client(upstream.port, db=7) as behind:
        assert behind.redis.get("fyntrix:general:a") == b"7"
        assert 0 < behind.redis.ttl("fyntrix:general:a") <= 60


def test_names_and_numbers(client: Client, serving: Sidecar, flavour: Flavour) -> None:
    with Client(serving.port, flavour, client_name="planner") as named:
        assert named.wait(named.redis.client_getname()) in (b"planner", "planner")
        mine, other = (of.wait(of.redis.client_id()) for of in (client, named))
        assert mine != other
        listed = {int(entry["id"]): entry for entry in client.wait(client.redis.client_list())}
        assert listed[other]["name"] == "planner"
        assert listed[mine]["name"] == ""
        assert int(client.wait(client.redis.client_info())["id"]) == mine
        client.wait(client.redis.client_setname("quotes"))
        assert client.wait(client.redis.client_getname()) in (b"quotes", "quotes")
        assert client.wait(client.redis.client_kill_filter(_id=str(other))) == 1


def test_health_checks(serving: Sidecar, flavour: Flavour) -> None:
    """A connection that has been idle for long is asked whether it lives, before it is used again."""
    with Client(serving.port, flavour, health_check_interval=3_600) as client:
        r, wait = client.redis, client.wait
        listener = r.pubsub()
        wait(listener.subscribe("a"))
        assert wait(listener.get_message(timeout=5))["type"] == "subscribe"
        connection = wait(r.connection_pool.get_connection())
        connection.next_health_check = listener.connection.next_health_check = 1
        wait(r.connection_pool.release(connection))
        assert wait(r.ping()) is True
        assert connection.next_health_check > 1
        wait(listener.check_health())
        wait(r.publish("a", "after"))
        message = poll("the message", lambda: wait(listener.get_message(ignore_subscribe_messages=True, timeout=5)))
        assert message["data"] == b"after"
        wait(listener.aclose() if flavour.asynchronous else listener.close())


def test_restarted_server(flavour: Flavour) -> None:
    """While the Redis behind the sidecar is away the application sees what it would have seen without a sidecar: lost
    connections. A call that may be tried again, as redis-py does by itself, succeeds once it is back."""
    port = free_port()
    with Redis(port=port) as server, Sidecar.before(server) as sidecar:
        with (
            Client(sidecar.port, flavour, retry=trying(flavour, 500)) as client,
            Client(sidecar.port, flavour, retry=trying(flavour, 0)) as other,
            ThreadPoolExecutor() as threads,
        ):
            for each in (client, other):
                each.wait(each.redis.set("fyntrix:general:a", "1"))
            server.stop()
            poll("a lost connection", lambda: _lost(other))
            waiting = threads.submit(lambda: client.wait(client.redis.set("fyntrix:general:a", "2")))
            with Redis(port=port):
                assert waiting.result() is True
                assert client.wait(client.redis.get("fyntrix:general:a")) == b"2"
                assert poll("a connection", lambda: not _lost(other))


def _lost(client: Client) -> bool:
    try:
        client.wait(client.redis.ping())
    except ConnectionError:
        return True
    return False
