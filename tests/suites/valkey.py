"""Valkey's TCL suite as Debian's source package has it, with Debian's server and client of the same version. Both are
fetched by apt into a folder of their own and run from there, with the C library and loader that they were built for."""

import hashlib
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

SUITE = "trixie"
VERSION = "8.1.1"
SOURCE_SHA256 = "d9bbd82eecb82f359e649a0007ad3dc1b47cc15afa626348ca86b73c4ae2c7ee"
# The server's package is a link to what is in the tools' package.
PACKAGES = (
    "valkey-tools libc6 libatomic1 libjemalloc2 liblzf1 libssl3t64 libsystemd0 libcap2 libzstd1 zlib1g libstdc++6 libgcc-s1"
)
TAGS = "-needs:repl -needs:debug -needs:save -slow -large-memory"
# How long one unit may take; the longest direct one takes a quarter of it.
UNIT_SECONDS_MAX = 240
# Lines of a run: [ok]: name (3 ms); [err]: name in tests/unit/x.tcl …
LINE = re.compile(r"^\[(ok|err|exception|skip|ignore|timeout)\]: (.*?)(?: \(\d+ ms\)| in tests/\S+\.tcl.*)?$")


def fetch(work: Path) -> None:
    """The suite's source, and the server, unpacked."""
    source, root, whole = work / f"valkey-{VERSION}", work / "valkey-root", work / f"valkey-{VERSION}.whole"
    if whole.is_file():
        return
    apt = work / "apt"
    (apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    by = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian"
    (apt / "sources.list").write_text(f"deb {by} {SUITE} main\ndeb-src {by} {SUITE} main\n")
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache", "APT::Sandbox::User": "", "Acquire::Languages": "none",
    }
    words = ["apt-get", "--quiet", "--quiet"] + [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    for arguments in (["update"], ["source", "--download-only", "--tar-only", "valkey"], ["download", *PACKAGES.split()]):
        subprocess.run([*words, *arguments], cwd=apt, check=True)
    archive = next(apt.glob(f"valkey_{VERSION}*.orig.tar.xz"))
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f"{archive} is not the source that is expected")
    for package in apt.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    with tarfile.open(archive) as packed:
        packed.extractall(work, filter="data")
    (source / "src").mkdir(exist_ok=True)
    for name, of in {"server": "check-rdb", "cli": "cli", "benchmark": "benchmark"}.items():
        words = " ".join(f"'{word}'" for word in program(work, f"valkey-{name}", f"valkey-{of}"))
        path = source / "src" / f"valkey-{name}"
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(0o755)
    whole.touch()


def program(work: Path, name: str, of: str) -> list[str]:
    """The words that run a program of the fetched packages under a name."""
    usr = work / "valkey-root" / "usr"
    libraries = next((usr / "lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux*.so.*"))
    return [str(loader), "--argv0", name, "--library-path", str(libraries), str(usr / "bin" / of)]


def server(work: Path) -> list[str]:
    """The words that start the server."""
    return program(work, "valkey-server", "valkey-check-rdb")


def run(work: Path, serving: Callable[[], AbstractContextManager[int]], log: Path, only: str | None) -> dict[str, str]:
    """Runs the suite unit by unit. One in which something fails takes nothing else with it: the next one has a server of
    its own."""
    source = work / f"valkey-{VERSION}"
    listed = subprocess.run(["./runtest", "--list-tests"], cwd=source, capture_output=True, text=True, check=True)
    # The others start servers of their own, of which the sidecar knows nothing.
    units = [unit for unit in listed.stdout.split() if not unit.startswith(("integration/", "unit/cluster/"))]
    if only:
        units = [unit for unit in units if re.search(only, unit)]
    outcomes: dict[str, str] = {}
    with log.open("w") as output:
        while units:
            with serving() as port:
                whole = True
                while units and whole:
                    unit = units.pop(0)
                    text = run_unit(source, unit, port)
                    output.write(f"=== {unit}\n{text}\n")
                    output.flush()
                    found = list(read_lines(unit, text))
                    # What a failed test leaves behind would fail others.
                    whole = all(outcome == "ok" for outcome, _ in found)
                    for outcome, test in found:
                        name, count = test, 2
                        while name in outcomes:
                            name, count = f"{test} #{count}", count + 1
                        outcomes[name] = outcome
    return outcomes


def run_unit(source: Path, unit: str, port: int) -> str:
    """Runs one unit: what it prints."""
    words = ["./runtest", "--host", "127.0.0.1", "--port", str(port), "--clients", "1", "--durable",
             "--timeout", str(UNIT_SECONDS_MAX), "--tags", TAGS, "--single", unit]
    ran = subprocess.run(words, cwd=source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         env=os.environ | {"TERM": "dumb"}, check=False)
    return re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout.decode(errors="replace"))


def read_lines(unit: str, text: str) -> Iterator[tuple[str, str]]:
    """The outcomes in what a unit has printed, with their tests."""
    for line in text.splitlines():
        found = LINE.match(line)
        if found and found[1] not in ("skip", "ignore"):
            # An exception's text is not a test's name.
            yield found[1], f"{unit}: {found[2] if found[1] in ('ok', 'err') else 'ends in an exception'}"
