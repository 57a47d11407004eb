#!/usr/bin/env python3
"""Runs test suites that others wrote, against a server and against a sidecar in front of another, and compares them
test by test. A test whose outcome differs must have a row in allowed.toml, with the reason; a row that no longer differs
is a failure too. Everything that is fetched and written stands below target/suites.

Needs Python 3.11, redis-server, and target/debug/bellwether (cargo build). The suite `valkey` needs tclsh and fetches
Valkey's source and server by apt, into its own folder: nothing is installed.
"""

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import tomllib
import xml.etree.ElementTree
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import valkey

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "target" / "suites"
BINARY = Path(os.environ.get("BELLWETHER_BIN", ROOT / "target" / "debug" / "bellwether"))
PYTHON = WORK / "python" / "bin" / "python"

# How long a server may take to answer.
PATIENCE_SECONDS = 20.0
# How long one test may take; the longest direct one takes a quarter of it.
TEST_SECONDS_MAX = 60

# What a test came to, by its name.
Outcomes = dict[str, str]


@dataclass(frozen=True)
class Suite:
    """Tests of one source, run in one way."""

    # The folder of the source, below target/suites.
    source: str
    # What pytest is given.
    tests: tuple[str, ...]
    # Variables; {port} stands for the server's.
    variables: dict[str, str] = field(default_factory=dict)
    # The tests know port 6379 only, so that it is written over in a copy of them.
    rewrites_port: bool = False
    # The quick ones are what a change is tried with.
    quick: bool = False


@dataclass(frozen=True)
class Allowed:
    """A row of allowed.toml."""

    suite: str
    test: str
    reason: str

    def covers(self, suite: str, test: str) -> bool:
        """Whether the row is about this test."""
        return bool(re.fullmatch(self.suite, suite) and re.fullmatch(self.test, test))


# Tests of a cluster, of TLS, of modules and of services are about servers that are not behind the sidecar.
NOT_REDIS_PY = "not onlycluster and not redismod and not ssl and not cp_integration and not multidb_integration and not replica"


def redis_py(protocol: int, *tests: str) -> Suite:
    """redis-py's tests with one protocol."""
    flags = ("--redis-url", "redis://127.0.0.1:{port}/9", "--redis-mod-url", "redis://127.0.0.1:{port}/9")
    return Suite("redis-8.1.0", (*tests, *flags, "--protocol", str(protocol), "-m", NOT_REDIS_PY))


SYNC = tuple(
    f"tests/test_{name}.py"
    for name in (
        "cache client command_parser commands connect connection connection_pool credentials encoding function helpers "
        "keyspace_notifications legacy_responses_arg lock max_connections_error monitor multiprocessing pipeline pubsub "
        "retry scripting utils vsets"
    ).split()
)
ASYNC = tuple(
    f"tests/test_asyncio/test_{name}.py"
    for name in (
        "client commands connect connection connection_pool credentials cwe_404 encoding keyspace_notifications lock "
        "monitor pipeline pubsub retry scripting vsets"
    ).split()
)

SUITES: dict[str, Suite] = {
    "rq": Suite(
        "rq-3.0.0",
        tuple(f"tests/test_{name}.py" for name in "queue job scheduler registry results".split()),
        {"PYTHONPATH": f"{HERE / 'rq'}:.", "SUITE_REDIS_PORT": "{port}"},
        rewrites_port=True,
        quick=True,
    ),
    "dogpile.cache": Suite(
        "dogpile_cache-1.5.0",
        ("tests/cache/test_redis_backend.py",),
        {"PYTHONPATH": ".", "DOGPILE_REDIS_PORT": "{port}"},
        quick=True,
    ),
    "redis-py-sync-2": redis_py(2, *SYNC),
    "redis-py-sync-3": redis_py(3, *SYNC),
    "redis-py-async-2": redis_py(2, *ASYNC),
    "redis-py-async-3": redis_py(3, *ASYNC),
}


def main() -> int:
    """Runs what was asked for: 1 where something differs that may not."""
    names = [*SUITES, "valkey"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="+", choices=[*names, "quick", "redis-py", "all"], metavar="SUITE",
                        help=f"{', '.join(names)}; redis-py: its four; quick: rq and dogpile.cache; all")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--direct-only", action="store_true", help="against a server, and nothing is compared")
    only.add_argument("--sidecar-only", action="store_true", help="compare with the last outcomes of the server")
    parser.add_argument("--only", metavar="WORD", help="only tests that pytest's -k picks by this, or units of valkey with it in their name")
    asked = parser.parse_args()
    chosen = []
    for name in asked.suite:
        chosen += {
            "quick": [name for name, suite in SUITES.items() if suite.quick],
            "redis-py": [name for name in SUITES if name.startswith("redis-py")],
            "all": names,
        }.get(name, [name])
    WORK.mkdir(parents=True, exist_ok=True)
    with (HERE / "allowed.toml").open("rb") as file:
        allowed = [Allowed(**row) for row in tomllib.load(file)["allowed"]]
    unexplained = 0
    for name in dict.fromkeys(chosen):
        unexplained += run_suite(name, allowed, asked)
    return 1 if unexplained else 0


def run_suite(name: str, allowed: list[Allowed], asked: argparse.Namespace) -> int:
    """Runs one suite in both ways: how many differences nobody has explained."""
    if name == "valkey":
        valkey.fetch(WORK)
    else:
        fetch(SUITES[name])
    outcomes: dict[str, Outcomes] = {}
    for way in ("direct", "sidecar"):
        last = WORK / f"{name}.{way}.txt"
        if (way == "sidecar" and asked.direct_only) or (way == "direct" and asked.sidecar_only):
            if way == "direct":
                outcomes[way] = dict(line.split("\t", 1)[::-1] for line in last.read_text().splitlines())
            continue
        started = time.monotonic()
        outcomes[way] = run_valkey(way, asked.only) if name == "valkey" else run_pytest(name, way, asked.only)
        if not outcomes[way]:
            raise SystemExit(f"{name} {way}: no test ran; {WORK}/{name}.{way}.log may say why")
        if not asked.only:
            last.write_text("".join(f"{outcome}\t{test}\n" for test, outcome in outcomes[way].items()))
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes[way].values()).items()))
        print(f"{name} {way}: {counts} in {time.monotonic() - started:.0f} s", flush=True)
        if not outcomes[way]:
            return 1
    if asked.direct_only:
        return 0
    return compare(name, outcomes["direct"], outcomes["sidecar"], allowed, whole=not asked.only)


def compare(name: str, direct: Outcomes, sidecar: Outcomes, allowed: list[Allowed], whole: bool) -> int:
    """Prints what differs: how much of it nobody has explained, with the rows that explain nothing."""
    different = [test for test in {**direct, **sidecar} if direct.get(test) != sidecar.get(test)]
    if not whole:
        different = [test for test in different if test in sidecar]
    rows = [row for row in allowed if re.fullmatch(row.suite, name)]
    unexplained = 0
    used = set()
    missing: Counter[str] = Counter()
    for test in different:
        reasons = [row for row in rows if row.covers(name, test)]
        used.update(reasons)
        unexplained += not reasons
        if name == "valkey" and not reasons and test not in sidecar:
            missing[test.split(":")[0]] += 1
            continue
        said = f"allowed: {reasons[0].reason}" if reasons else "NOT ALLOWED"
        print(f"  {test}: {direct.get(test, 'absent')} direct, {sidecar.get(test, 'absent')} through the sidecar; {said}")
    for unit, count in missing.items():
        print(f"  {unit}: {count} tests absent through the sidecar, behind the one that ended it; NOT ALLOWED")
    # A row for several suites may be needed by one of them only; a row that no test of this one has is not its own.
    for row in rows:
        if whole and row not in used and row.suite == name:
            unexplained += 1
            print(f"  allowed.toml has a row for {row.test!r}, which does not differ: take it out")
    same = len({**direct, **sidecar}) - len(different)
    print(f"{name}: {same} tests the same, {len(different)} different, {unexplained} of them not allowed", flush=True)
    return unexplained


def fetch(suite: Suite) -> None:
    """The suite's source and the Python it runs in."""
    wanted = (HERE / "requirements.txt").read_text()
    marker = WORK / "python.txt"
    if not marker.exists() or marker.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", PYTHON.parents[1]], check=True)
        pip("install", "-r", str(HERE / "requirements.txt"))
        marker.write_text(wanted)
    if not (WORK / suite.source).is_dir():
        archive = WORK / f"{suite.source}.tar.gz"
        if not archive.exists():
            pip("download", "--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(WORK),
                "-r", str(HERE / "sources.txt"))
        with tarfile.open(archive) as packed:
            packed.extractall(WORK, filter="data")


def pip(*words: str) -> None:
    """Runs pip, quietly."""
    subprocess.run([PYTHON, "-m", "pip", words[0], "--quiet", "--disable-pip-version-check", *words[1:]], check=True)


def run_pytest(name: str, way: str, only: str | None) -> Outcomes:
    """Runs a Python suite."""
    with serving(way, name) as port:
        return run_pytest_at(name, way, port, only)


def run_pytest_at(name: str, way: str, port: int, only: str | None) -> Outcomes:
    """Runs a Python suite against who listens there."""
    suite = SUITES[name]
    source = WORK / suite.source
    if suite.rewrites_port:
        copy = WORK / f"{name}.{way}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        for path in (copy / "tests").glob("*.py"):
            path.write_text(path.read_text().replace(":6379", f":{port}"))
        source = copy
    report = WORK / f"{name}.{way}.xml"
    report.unlink(missing_ok=True)
    variables = {key: value.replace("{port}", str(port)) for key, value in suite.variables.items()}
    words = [word.replace("{port}", str(port)) for word in suite.tests] + (["-k", only] if only else [])
    with (WORK / f"{name}.{way}.log").open("wb") as log:
        subprocess.run(
            [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--timeout", str(TEST_SECONDS_MAX),
             "--junitxml", report, "-o", "junit_family=xunit2", *words],
            cwd=source, env=environment() | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
    return dict(read_report(report)) if report.exists() else {}


def read_report(report: Path) -> Iterator[tuple[str, str]]:
    """The outcomes in a JUnit file. A test that fails and then fails to clean up has two cases; the first stands."""
    seen = set()
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        # A port in a parameter would make two tests of one.
        name = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", name)
        if name not in seen:
            seen.add(name)
            kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            yield name, {"failure": "failed", "error": "error", "skipped": "skipped"}[kinds[0]] if kinds else "passed"


def run_valkey(way: str, only: str | None) -> Outcomes:
    """Runs Valkey's TCL suite."""
    return valkey.run(WORK, lambda: serving(way, "valkey"), WORK / f"valkey.{way}.log", only)


@contextmanager
def serving(way: str, suite: str) -> Iterator[int]:
    """A fresh server, and a sidecar in front of it if that is the way: the port to connect to."""
    command = valkey.server(WORK) if suite == "valkey" else ["redis-server"]
    folder = WORK / f"{suite}.{way}.data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    upstream = free_port()
    flags = ["--port", upstream, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder,
             "--enable-debug-command", "yes"]
    with running([*command, *flags], upstream, folder / "server.log"):
        if way == "direct":
            yield upstream
            return
        port = free_port()
        sidecar = [BINARY, "serve", "--listen", f"127.0.0.1:{port}", "--admin-listen", "off",
                   "--upstream", f"redis://127.0.0.1:{upstream}", "--policy-folder", HERE / "policies"]
        with running(sidecar, port, folder / "sidecar.log"):
            yield port


@contextmanager
def running(command: list[object], port: int, log: Path) -> Iterator[None]:
    """A program that listens, for as long as it is needed."""
    words = [str(word) for word in command]
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{words[0]} did not come up; see {log}")
            time.sleep(0.02)
        yield
        if process.poll() is not None:
            print(f"{words[0]} ended by itself with {process.returncode}; see {log}", flush=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def environment() -> dict[str, str]:
    """The outer environment without what a suite or the sidecar would read."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("REDIS_", "BELLWETHER_", "PYTEST_"))}


def answers(port: int) -> bool:
    """Whether somebody answers PING there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(5).startswith(b"+PONG")
    except OSError:
        return False


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


if __name__ == "__main__":
    sys.exit(main())
