"""What is measured: Redis and what may stand before it, each a process of this run that listens on 127.0.0.1.

It knows how each is started, and reads its memory; it does not know what is sent."""

import contextlib
import dataclasses
import os
import pathlib
import random
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

# More than any case connects, so that no server's own limit is what is measured.
CONNECTIONS_MAX = 12_000
# Files that are no connections.
OTHER_FILES = 500
PATIENCE_SECONDS = 60.0
# How to get what is not there.
ABSENT = {"haproxy": "apt-get install haproxy", "twemproxy": "apt-get install nutcracker"}


class Failure(Exception):
    """Something a person has to mend; its text says what, and how."""


@dataclasses.dataclass
class Server:
    """A process that listens."""

    name: str
    port: int
    process: subprocess.Popen
    # The port of its metrics.
    admin: int | None = None
    # From its start until it listened.
    start_seconds: float = 0.0

    @property
    def id(self) -> int:
        """The number of the process."""
        return self.process.pid

    def resident_kib(self) -> int:
        """Its memory now."""
        status = pathlib.Path(f"/proc/{self.id}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1])

    def near_reads(self) -> tuple[float, float]:
        """Hits and misses of its near cache so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as answer:
            all_of = answer.read().decode().splitlines()
        lines = [line for line in all_of if line.startswith("bellwether_near_reads_total{")]
        counts = {"hit": 0.0, "miss": 0.0}
        for line in lines:
            for outcome in counts:
                counts[outcome] += float(line.split()[-1]) if f'"{outcome}"' in line else 0.0
        return counts["hit"], counts["miss"]


@dataclasses.dataclass
class Place:
    """Where servers are started: a folder for their files, and the processors they may use."""

    folder: pathlib.Path
    binary: pathlib.Path
    load: pathlib.Path
    workers: int = 1
    # None: all of them.
    cores: set[int] | None = None

    @contextlib.contextmanager
    def running(self, name: str, command: list, port: int, admin: int | None = None) -> Iterator[Server]:
        """A server that listens on `port`, until the block ends."""
        log = self.folder / f"{name.replace(' ', '-')}-{port}.log"
        pin = None if self.cores is None else lambda: os.sched_setaffinity(0, self.cores)
        begun = time.monotonic()
        with log.open("w") as out:
            words = [str(word) for word in command]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=pin)
        try:
            wait_for(process, port, name, log)
            yield Server(name, port, process, admin, time.monotonic() - begun)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def redis(self):
        """A Redis that writes nothing to disk."""
        port = free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
        command += ["--dir", self.folder, "--maxclients", connections_max()]
        return self.running("redis", command, port)

    def sidecar(self, redis: int, near: bool = False, name: str = "", more: tuple = ()):
        """A sidecar with the standard policies, and with more flags where there are some."""
        port, admin = free_port(), free_port()
        command = [self.binary, "serve", "--upstream", f"redis://127.0.0.1:{redis}", "--workers", self.workers]
        command += ["--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"]
        command += ["--clients-max", connections_max()]
        command += [] if near else ["--near-bytes-max", "0"]
        command += more
        return self.running(name or ("sidecar near" if near else "sidecar"), command, port, admin)

    def haproxy(self, redis: int):
        """HAProxy that copies bytes, on one thread."""
        port = free_port()
        file = self.folder / f"haproxy-{port}.cfg"
        file.write_text(
            f"global\n  nbthread 1\n  maxconn {connections_max(2)}\n"
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen redis\n  bind 127.0.0.1:{port}\n  server redis 127.0.0.1:{redis}\n"
        )
        return self.running("haproxy", [tool("haproxy"), "-f", file, "-db"], port)

    def twemproxy(self, redis: int):
        """twemproxy with one server behind it; it has one thread."""
        port, statistics = free_port(), free_port()
        file = self.folder / f"twemproxy-{port}.yml"
        file.write_text(
            f"bench:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: modula\n  redis: true\n"
            f"  backlog: 1024\n  preconnect: true\n  servers:\n   - 127.0.0.1:{redis}:1\n"
        )
        command = [tool("twemproxy"), "-c", file, "-a", "127.0.0.1", "-s", statistics, "-v", "4"]
        return self.running("twemproxy", command, port)

    def bare(self, to: int | None, mix: str, value_bytes: int, keys: int):
        """The least that a process between clients and `to` does, for one sort of request; or it answers by itself."""
        port = free_port()
        command = [self.load, "bare", "--listen", f"127.0.0.1:{port}", "--mix", mix, "--value-bytes", value_bytes]
        command += ["--keys", keys] if to is None else ["--to", f"127.0.0.1:{to}"]
        return self.running("bare", command, port)

    def delay(self, to: int, ms: float):
        """A way to `to` that is longer by so much, there and back together."""
        port = free_port()
        command = [self.load, "delay", "--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{to}", "--ms", ms]
        return self.running("delay", command, port)


def tool(name: str) -> str | None:
    """The program of a proxy, where the machine has it."""
    # Debian puts servers where a user's path may not look.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which({"twemproxy": "nutcracker"}.get(name, name), path=path)


def connections_max(files_each: int = 1) -> int:
    """How many connections a server may be given, where each takes so many open files: two for HAProxy."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, (files - OTHER_FILES) // files_each)


def allow_connections() -> None:
    """As many open files as are needed, or as the system lets us have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS_MAX + OTHER_FILES
    with contextlib.suppress(ValueError, OSError):
        hard = most if most == resource.RLIM_INFINITY else max(most, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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


def wait_for(process: subprocess.Popen, port: int, name: str, log: pathlib.Path) -> None:
    """Waits until the process listens."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:].strip()
            raise Failure(f"{name} does not listen on port {port}. It said:\n{said or '(nothing)'}")
        time.sleep(0.005)


def check_machine(place: Place, needs_sidecar: bool = True) -> None:
    """Says what is missing before anything is measured."""
    if sys.platform != "linux":
        raise Failure("the benchmark reads /proc, so it runs on Linux only")
    if shutil.which("redis-server") is None:
        raise Failure("there is no redis-server: apt-get install redis-server (or Redis 7 from elsewhere, in the PATH)")
    if needs_sidecar and not place.binary.is_file():
        raise Failure(
            f"there is no {place.binary}. Type `just bench`, or: cargo build --profile dist --locked; or name another "
            "one with --binary"
        )
    if not place.load.is_file():
        raise Failure(
            f"there is no {place.load}. Type `just bench`, or: cargo build --profile dist --locked -p bench-load; or "
            "name another one with --load"
        )
