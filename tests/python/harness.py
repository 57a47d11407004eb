"""Three nouns for a test: a Redis, a Sidecar in front of it, a Client of either. Each ends with its test."""

import asyncio
import inspect
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import redis
import redis.asyncio

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("BELLWETHER_BIN", ROOT / "target" / "debug" / "bellwether")).resolve()

# How long a test waits for anything.
PATIENCE_SECONDS = 20.0

# What the sidecar's clock says when a test starts: the National Stock Exchange is open, and will be for hours. At a
# fixed moment every lifetime is a number that a test may name.
MARKET_OPEN = datetime.fromisoformat("2026-11-23T10:00:00+05:30")

Seen = TypeVar("Seen")


def poll(what: str, look: Callable[[], Seen | None]) -> Seen:
    """Looks until there is something to see."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.005)
    return seen


def free_port() -> int:
    """A port that was free a moment ago, below those that the system takes by itself: of these, one may be some
    connection's by the time that its server listens."""
    while True:
        port = random.randrange(12_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


def environment(**variables: str) -> dict[str, str]:
    """The outer environment without what the sidecar or an example would read, and with what is given."""
    outer = {name: text for name, text in os.environ.items() if not name.startswith(("REDIS_", "BELLWETHER_"))}
    # All tests share it: the standard policies are compiled once.
    return outer | {"BELLWETHER_COMPILED_FOLDER": str(ROOT / "target/tmp/compiled")} | variables


def clock_at(moment: datetime) -> str:
    """The clock offset with which it is that moment now."""
    return f"{round(moment.timestamp() - time.time())}s"


class Process:
    """A running program, and what it has printed so far."""

    def __init__(self, *command: str | Path, **variables: str) -> None:
        self._output = tempfile.NamedTemporaryFile(prefix="bellwether-test-")
        self._running = subprocess.Popen(
            command,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.kill()
        self._running.wait()
        self._output.close()

    def printed(self) -> str:
        """Everything so far."""
        return Path(self._output.name).read_text()

    def wait_for(self, pattern: str) -> str:
        """The first group of the pattern, once a whole line with it has been printed."""

        def look() -> re.Match[str] | None:
            assert self._running.poll() is None, f"it ended; it printed:\n{self.printed()}"
            return re.search(f"{pattern}.*\n", self.printed())

        try:
            return poll(pattern, look).group(1)
        except AssertionError:
            self.__exit__()
            raise

    def stop(self) -> int:
        """Asks it to stop, and waits for that: its exit code."""
        self._running.send_signal(signal.SIGTERM)
        return self._running.wait(PATIENCE_SECONDS)


class Redis(Process):
    """A real redis-server of the test's own, with nothing in it."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        own = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        super().__init__("redis-server", *own, *options)
        self.wait_for("(Ready to accept connections)")


class Sidecar(Process):
    """The real binary, on ports that it picks itself; the market is open unless a flag says otherwise."""

    def __init__(self, verb: str, *flags: str, **variables: str) -> None:
        own = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--policy-folder", ""]
        clock = {"BELLWETHER_CLOCK_OFFSET": clock_at(MARKET_OPEN)}
        super().__init__(BINARY, verb, *own, *flags, **clock | variables)
        self.port = int(self.wait_for(r"bellwether listens on 127\.0\.0\.1:(\d+)"))
        self.admin_port = int(self.wait_for(r"admin server listens address=127\.0\.0\.1:(\d+)"))

    @classmethod
    def before(cls, server: Redis, *flags: str) -> Self:
        """In front of a Redis."""
        return cls("serve", "--upstream", f"redis://127.0.0.1:{server.port}", *flags)

    def metric(self, sample: str) -> float:
        """The value of a sample of the metrics page; what has not been counted yet is 0."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics") as page:
            found = re.search(rf"^{re.escape(sample)} (\S+)$", page.read().decode(), re.MULTILINE)
        return float(found.group(1)) if found else 0.0


@dataclass(frozen=True)
class Flavour:
    """One of the ways in which an application may use redis-py."""

    protocol: int
    asynchronous: bool

    def __str__(self) -> str:
        return f"{'async' if self.asynchronous else 'sync'}-resp{self.protocol}"


FLAVOURS = [Flavour(protocol, asynchronous) for asynchronous in (False, True) for protocol in (2, 3)]


class Client:
    """A redis-py client. What its calls return goes through `wait`, so that one test is for sync and asyncio both."""

    def __init__(self, port: int, flavour: Flavour = FLAVOURS[0], **options: Any) -> None:
        kind = redis.asyncio.Redis if flavour.asynchronous else redis.Redis
        self._runner = asyncio.Runner()
        self.redis = kind(**{"host": "127.0.0.1", "port": port, "protocol": flavour.protocol} | options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        close = getattr(self.redis, "aclose", self.redis.close)
        self.wait(close())
        self._runner.close()

    def wait(self, result: Any) -> Any:
        """The result itself. Iterators come as sorted lists: a scan may go through a hash in any order."""
        if inspect.isawaitable(result):
            return self._runner.run(_awaited(result))
        if hasattr(result, "__aiter__"):
            return sorted(self._runner.run(_collected(result)))
        if inspect.isgenerator(result):
            return sorted(result)
        return result


async def _awaited(result: Any) -> Any:
    return await result


async def _collected(results: Any) -> list[Any]:
    return [result async for result in results]
