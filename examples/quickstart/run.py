"""Runs the same application on Redis alone and behind the sidecar, and prints how long each of its keys lives.

The sidecar runs twice, with its clock set to an hour when the market is closed and to one when it is open, so that the
answer is the same whenever this is run. An argument names another program than the one in target/debug.
"""

import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from app import connect

HERE = Path(__file__).resolve().parent
BINARY = sys.argv[1] if len(sys.argv) > 1 else HERE.parents[1] / "target" / "debug" / "bellwether"

PATHS = ["/quote/RELIANCE.NS", "/history/RELIANCE.NS", "/scores", "/levels/RELIANCE.NS", "/context/planner"]
CLOSED = datetime.fromisoformat("2026-11-22T10:00:00+05:30")
OPEN = datetime.fromisoformat("2026-11-23T10:00:00+05:30")

Lifetimes = dict[str, str]


def main() -> None:
    """Three columns: Redis alone, and behind the sidecar on a Sunday and on a Monday."""
    columns: dict[str, Lifetimes] = {}
    if shutil.which("redis-server"):
        port = free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
        with running(command, r"(Ready to accept connections)"):
            columns["Redis alone"] = lifetimes(port)
    else:
        print("There is no redis-server here, so the first column is left out.", file=sys.stderr)
    for moment in (CLOSED, OPEN):
        offset = round(moment.timestamp() - time.time())
        flags = ["--listen=127.0.0.1:0", "--admin-listen=off", "--policy-folder=", "--log=error"]
        command = [BINARY, "dev", *flags, f"--clock-offset={offset}s"]
        with running(command, r"bellwether listens on 127\.0\.0\.1:(\d+)") as port:
            columns[f"sidecar, {moment:%a %H:%M}"] = lifetimes(int(port))
    print_table(columns)


def lifetimes(port: int) -> Lifetimes:
    """Starts the application on that port, asks for every page, and looks at what it has left behind."""
    variables = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port), "REDIS_DB": "0", "REDIS_PASSWORD": ""}
    with running([sys.executable, HERE / "app.py"], r"app listens on (\S+)", variables) as address:
        for path in PATHS:
            with urllib.request.urlopen(address + path) as answer:
                answer.read()
    with connect(variables) as cache:
        return {key: span(cache.pttl(key)) for key in sorted(cache.scan_iter("fyntrix:*"))}


def span(ms: int) -> str:
    """A lifetime as a person says it."""
    if ms < 0:
        return "no end"
    seconds = math.ceil(ms / 1000)
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    if seconds <= 60:
        return f"{seconds} s"
    return f"{minutes} min" if hours == 0 else f"{hours} h {minutes:02} min"


def print_table(columns: dict[str, Lifetimes]) -> None:
    """One line for each key."""
    keys = sorted({key for column in columns.values() for key in column})
    width = max(len(key) for key in keys)
    print(f"{'key':{width}}", *(f"{title:>20}" for title in columns))
    for key in keys:
        print(f"{key:{width}}", *(f"{column.get(key, '-'):>20}" for column in columns.values()))


@contextmanager
def running(command: list[str | Path], says: str, variables: dict[str, str] | None = None) -> Iterator[str]:
    """A program that runs meanwhile, from when it says what is waited for: the first group of the pattern."""
    process = subprocess.Popen(command, env=os.environ | (variables or {}), stdout=subprocess.PIPE, text=True)
    try:
        found = next(filter(None, (re.search(says, line) for line in process.stdout)), None)
        if found is None:
            sys.exit(f"{command[0]} ended before it was ready; exit code {process.wait()}")
        yield found.group(1)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


if __name__ == "__main__":
    main()
