"""A typhoon drill: Hong Kong is closed for a day by one line of settings, under traffic, and opened again.

What is shown, and checked: new lifetimes of Hong Kong's keys follow within a second; those of the keys that are there
already follow by the sidecar's own walk; keys of other markets stay as they are; nothing restarts and no call fails.
An argument names another program than the one in target/debug.
"""

import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import redis

HERE = Path(__file__).resolve().parent
BINARY = sys.argv[1] if len(sys.argv) > 1 else HERE.parents[1] / "target" / "debug" / "bellwether"

# A Tuesday before Hong Kong opens: its prices stand still until 09:30, and those of Mumbai until 09:15 there.
MORNING = datetime.fromisoformat("2026-11-24T05:00:00+08:00")
CLOSED = '[settings]\noverrides = ["XHKG closed 2026-11-24 # typhoon signal 10"]\n'
OPEN_AS_EVER = "[settings]\noverrides = []\n"
HELD = 2000
PATIENCE_SECONDS = 30
QUOTE = json.dumps({"price": 401.2})


def main() -> None:
    """The drill, told as it goes."""
    with tempfile.TemporaryDirectory() as folder, sidecar(folder) as (process, port, log):
        with redis.Redis("127.0.0.1", port) as cache, traffic(port) as served:
            hong_kong = [f"fyntrix:general:quote:{number:04}.HK" for number in range(HELD)]
            others = [f"fyntrix:general:quote:{number:04}.{of}" for number in range(HELD // 2) for of in ("L", "T")]
            for key in hong_kong + others:
                cache.set(key, QUOTE)
            print(f"before: {told(cache, hong_kong)} of Hong Kong, {told(cache, others)} of others")
            kept = deadlines(cache, others)
            switch(cache, folder, log, CLOSED, hong_kong, is_longer=True)
            switch(cache, folder, log, OPEN_AS_EVER, hong_kong, is_longer=False)
            moved = sum(abs(now - then) > 2 for now, then in zip(deadlines(cache, others), kept))
            print(f"keys of others whose end has moved: {moved} of {len(others)}")
            assert moved == 0
        print(f"served meanwhile: {served['calls']} calls, {served['failures']} failures")
        assert served["calls"] > 100 and served["failures"] == 0
        assert process.poll() is None
        print(f"still the same process: {process.pid}")


def switch(
    cache: redis.Redis, folder: str, log: list[str], settings: str, keys: list[str], *, is_longer: bool
) -> None:
    """Writes the settings, and waits for new keys and for those that are there."""
    new, ends = "fyntrix:general:quote:9999.HK", deadlines(cache, keys)
    before, begun, lines = lifetime_seconds(cache, new), time.monotonic(), len(log)
    # Renamed into place, so that the sidecar never sees half of it.
    Path(folder, "new").write_text(settings)
    Path(folder, "new").rename(Path(folder, "market-hours.toml"))
    print(f"\nmarket-hours.toml: {settings.splitlines()[1]}")
    wait_for(lambda: abs(lifetime_seconds(cache, new) - before) > 3600)
    took = time.monotonic() - begun
    print(f"a new key lives {hours(lifetime_seconds(cache, new))}, {took:.2f} s later")
    assert took < 1
    wait_for(lambda: any("retimed" in line for line in log[lines:]))
    # The line goes on with the keys that were right already, such as the new one.
    print(next(line.split("INFO ")[-1].split(",")[0] for line in log[lines:] if "retimed" in line))
    sign = 1 if is_longer else -1
    changed = sum(sign * (now - then) > 3600 for now, then in zip(deadlines(cache, keys), ends))
    word = "longer" if is_longer else "shorter"
    print(f"keys that were there: {changed} of {len(keys)} live {word}, {told(cache, keys)}")
    assert changed == len(keys)


def lifetime_seconds(cache: redis.Redis, key: str) -> int:
    """How long a value lives that is written now."""
    cache.set(key, QUOTE)
    return cache.ttl(key)


def deadlines(cache: redis.Redis, keys: list[str]) -> list[float]:
    """When each key ends, in seconds of the monotonic clock."""
    pipeline = cache.pipeline(transaction=False)
    for key in keys:
        pipeline.pttl(key)
    now = time.monotonic()
    return [now + left / 1000 for left in pipeline.execute()]


def told(cache: redis.Redis, keys: list[str]) -> str:
    """Between which bounds keys live, in words."""
    now, ends = time.monotonic(), deadlines(cache, keys)
    return f"{hours(min(ends) - now)} to {hours(max(ends) - now)} left"


def hours(seconds: float) -> str:
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02} min"


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(is_so)
        time.sleep(0.01)


@contextmanager
def traffic(port: int) -> Iterator[dict[str, int]]:
    """Reads and writes of another connection, until the end; counted."""
    served, is_over = {"calls": 0, "failures": 0}, threading.Event()

    def work() -> None:
        with redis.Redis("127.0.0.1", port) as cache:
            while not is_over.is_set():
                number = served["calls"] % 100
                try:
                    cache.set(f"fyntrix:scores:{number}.NS", "7")
                    cache.get(f"fyntrix:scores:{number}.NS")
                    served["calls"] += 2
                except redis.RedisError:
                    served["failures"] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield served
    finally:
        is_over.set()
        thread.join()


@contextmanager
def sidecar(folder: str) -> Iterator[tuple[subprocess.Popen, int, list[str]]]:
    """`bellwether dev` on that morning, with that policy folder: the process, its port, and the lines of its log."""
    port = free_port()
    offset = round(MORNING.timestamp() - time.time())
    flags = [f"--listen=127.0.0.1:{port}", "--admin-listen=off", f"--policy-folder={folder}"]
    process = subprocess.Popen(
        [BINARY, "dev", *flags, f"--clock-offset={offset}s"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log: list[str] = []
    reader = threading.Thread(target=lambda: [log.append(line) for line in process.stderr], daemon=True)
    reader.start()
    try:
        if not any(re.search("bellwether listens", line) for line in process.stdout):
            raise RuntimeError(f"the sidecar ended before it listened; exit code {process.wait()}")
        yield process, port, log
    finally:
        process.terminate()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


if __name__ == "__main__":
    main()
