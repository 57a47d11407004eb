"""What most tests share: servers that start once, and clients that find them empty."""

from collections.abc import Iterator

import pytest

from harness import FLAVOURS, Client, Flavour, Redis, Sidecar


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names a row by what it is, not by its number."""
    return getattr(val, "__name__", None) or (str(val) if isinstance(val, Flavour) else None)


@pytest.fixture(scope="session")
def direct() -> Iterator[Redis]:
    """A Redis that clients talk to without a sidecar, to compare with."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def upstream() -> Iterator[Redis]:
    """The Redis behind the sidecar."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def serving(upstream: Redis) -> Iterator[Sidecar]:
    """A sidecar that no test stops."""
    with Sidecar.before(upstream) as sidecar:
        yield sidecar


@pytest.fixture(scope="session")
def trying() -> Iterator[Sidecar]:
    """`bellwether dev`, that no test stops."""
    with Sidecar("dev") as sidecar:
        yield sidecar


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """Every way to use redis-py."""
    return request.param


@pytest.fixture
def client(serving: Sidecar, flavour: Flavour) -> Iterator[Client]:
    """A client of the sidecar, that finds nothing in it."""
    with Client(serving.port, flavour) as client:
        client.wait(client.redis.flushall())
        yield client


@pytest.fixture
def other(serving: Sidecar, flavour: Flavour) -> Iterator[Client]:
    """A second client of the same sidecar."""
    with Client(serving.port, flavour) as client:
        yield client
