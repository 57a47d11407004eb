"""Changes a lifetime while the sidecar runs: one file in the policy folder, no restart, no lost connection.

An argument names another program than the one in target/debug.
"""

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import redis

HERE = Path(__file__).resolve().parent
BINARY = sys.argv[1] if len(sys.argv) > 1 else HERE.parents[1] / "target" / "debug" / "bellwether"

KEY = "fyntrix:general:quote:RELIANCE.NS"
OPEN = datetime.fromisoformat("2026-11-23T10:00:00+05:30")
PATIENCE_SECONDS = 20

# Over the standard policy of the same name; everything that is not said stays as it is.
SETTINGS = """
[settings.namespaces."fyntrix:general"]
open_ttl_ms = 15000
"""


def main() -> None:
    """A lifetime by the standard policy, the file, and the lifetime by the file."""
    with tempfile.TemporaryDirectory() as folder, sidecar(folder) as (port, admin_port):
        with redis.Redis("127.0.0.1", port) as cache:
            before = generation(admin_port)
            print(f"generation {before}: a quote lives {lifetime_seconds(cache)} s")
            Path(folder, "ttl.toml").write_text(SETTINGS)
            print(f"ttl.toml:{SETTINGS.rstrip()}".replace("\n", "\n    "))
            after = next_generation(admin_port, before)
            print(f"generation {after}: a quote lives {lifetime_seconds(cache)} s")


def lifetime_seconds(cache: redis.Redis) -> int:
    """How long a quote lives that is written now."""
    cache.set(KEY, json.dumps({"price": 2950.5}))
    return cache.ttl(KEY)


def generation(admin_port: int) -> int:
    """Which set of policies is in force."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/policies") as page:
        return json.load(page)["generation"]


def next_generation(admin_port: int, before: int) -> int:
    """The one that follows, as soon as it is in force."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (now := generation(admin_port)) == before:
        if time.monotonic() > deadline:
            raise TimeoutError(f"still generation {before}")
        time.sleep(0.02)
    return now


@contextmanager
def sidecar(folder: str) -> Iterator[tuple[int, int]]:
    """`bellwether dev` on a Monday morning in Mumbai, with that policy folder: its port, and its admin port."""
    port, admin_port = free_ports()
    offset = round(OPEN.timestamp() - time.time())
    flags = [f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{admin_port}", f"--policy-folder={folder}"]
    process = subprocess.Popen(
        [BINARY, "dev", *flags, f"--clock-offset={offset}s", "--log=error"], stdout=subprocess.PIPE, text=True
    )
    try:
        if not any(re.search("bellwether listens", line) for line in process.stdout):
            raise RuntimeError(f"the sidecar ended before it listened; exit code {process.wait()}")
        yield port, admin_port
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def free_ports() -> tuple[int, int]:
    """Two ports that were free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


if __name__ == "__main__":
    main()
