"""redis-py over unix sockets on both sides, as the URL says it, and as a user of the sidecar's own."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.exceptions import ConnectionError

from harness import Client, Flavour, Redis, Sidecar


class SocketClient(Client):
    """A client as its URL says."""

    def __init__(self, url: str, flavour: Flavour) -> None:
        super().__init__(0, flavour)
        kind = redis.asyncio.Redis if flavour.asynchronous else redis.Redis
        self.redis = kind.from_url(url, protocol=flavour.protocol)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both sockets: a Redis on one, a sidecar on the other that knows a user."""
    folder = tmp_path_factory.mktemp("sockets")
    digest = hashlib.sha256("open sesame".encode()).hexdigest()
    (folder / "users.toml").write_text(f'[users.app]\nsha256 = "{digest}"\n[users.default]\nenabled = false\n')
    with Redis("--unixsocket", str(folder / "redis.sock")):
        flags = ["--upstream", f"unix://{folder}/redis.sock?db=2", "--listen-unix", f"{folder}/sidecar.sock"]
        with Sidecar("serve", *flags, "--users-file", f"{folder}/users.toml"):
            yield folder


def test_unix_sockets(folder: Path, flavour: Flavour) -> None:
    direct = SocketClient(f"unix://{folder}/redis.sock?db=2", flavour)
    sidecar = SocketClient(f"unix://app:open%20sesame@{folder}/sidecar.sock?db=2", flavour)
    with direct, sidecar as client:
        assert client.wait(client.redis.set("fyntrix:general:a", b'"' + b"x" * 1_000_000 + b'"'))
        assert len(direct.wait(direct.redis.get("fyntrix:general:a"))) == 1_000_002
        assert 0 < direct.wait(direct.redis.ttl("fyntrix:general:a")) <= 60
        pipeline = client.redis.pipeline()
        for _ in range(100):
            pipeline.incr("n")
        first = client.wait(pipeline.execute())[0]
        assert client.wait(client.redis.get("n")) == str(first + 99).encode()


def test_users(folder: Path, flavour: Flavour) -> None:
    with SocketClient(f"unix://app:wrong@{folder}/sidecar.sock", flavour) as client:
        # asyncio wraps what it means.
        with pytest.raises(ConnectionError, match="invalid username-password pair or user is disabled"):
            client.wait(client.redis.ping())
    with SocketClient(f"unix://{folder}/sidecar.sock", flavour) as client:
        # With RESP3 it is HELLO that is refused, which redis-py tells in its own way.
        with pytest.raises(ConnectionError, match="Authentication required|HELLO|Protocol"):
            client.wait(client.redis.ping())
