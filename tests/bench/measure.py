"""Single measurements, and rounds of them. A round measures every path once, in turn, so that a machine whose speed
drifts is unfair to none; the paths' order turns from round to round, so that none is always the first.

It knows the load generator's and redis-benchmark's words; it does not know what is compared or why."""

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable

import servers

# What a run may take beyond its own time before it is given up.
SLACK_SECONDS = 60


@dataclasses.dataclass
class Path:
    """A way to Redis: where clients connect, and what they send."""

    name: str
    port: int
    # Whose time on the processors is counted, by what each is.
    processes: dict[str, servers.Server]
    # Requests in place of the case's, by their names.
    instead: dict[str, str] = dataclasses.field(default_factory=dict)
    # Whose hits and misses are counted.
    near: servers.Server | None = None


@dataclasses.dataclass
class Bench:
    """What is measured with, and what was measured."""

    place: servers.Place
    rounds: int
    seconds: float
    # The processors of the load generator. None: all.
    load_cores: set[int] | None = None
    records: list[dict] = dataclasses.field(default_factory=list)

    def run(self, verb: str, to: int, **flags) -> dict:
        """One run of the load generator."""
        command = [str(self.place.load), verb, "--to", f"127.0.0.1:{to}"]
        for name, value in flags.items():
            command += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        return json.loads(self.output(command, flags.get("seconds", 0) + SLACK_SECONDS))

    def output(self, command: list[str], seconds: float) -> str:
        """What a program of the load prints."""
        pin = None if self.load_cores is None else lambda: os.sched_setaffinity(0, self.load_cores)
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, preexec_fn=pin)
        except subprocess.TimeoutExpired:
            raise servers.Failure(f"{' '.join(command)}\ndid not end within {seconds:g} s") from None
        if done.returncode != 0:
            raise servers.Failure(f"{' '.join(command)}\nfailed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def load(self, path: Path, case: dict, seed: int, seconds: float | None = None) -> dict:
        """One measurement of a path: the load generator's figures, its processes by what they are."""
        flags = {name: value for name, value in case.items() if name not in ("verb", "label")}
        flags["mix"] = ",".join(path.instead.get(part, part) for part in flags["mix"].split(","))
        flags |= {"seconds": seconds or self.seconds, "seed": seed}
        flags["cpu_of"] = ",".join(str(server.id) for server in path.processes.values()) or None
        before = path.near.near_reads() if path.near else None
        figures = self.run(case["verb"], path.port, **flags)
        if before:
            hits, misses = (after - was for after, was in zip(path.near.near_reads(), before))
            figures["near_hit_ratio"] = hits / (hits + misses) if hits + misses else 0.0
        names = {str(server.id): name for name, server in path.processes.items()}
        figures["cpu_seconds"] = {names.get(of, of): seconds for of, seconds in figures["cpu_seconds"].items()}
        return figures

    def rounds_of(self, section: str, case: dict, paths: list[Path], measure: Callable[[Path, int], dict]) -> None:
        """Measures every path in every round, and keeps what came out."""
        for number in range(self.rounds):
            turn = number % len(paths)
            for path in paths[turn:] + paths[:turn]:
                figures = measure(path, number + 1)
                self.keep(section, case, path.name, number, figures)

    def keep(self, section: str, case: dict, path: str, number: int, figures: dict) -> None:
        """Keeps one measurement."""
        self.records.append({"section": section, "case": case, "path": path, "round": number, "figures": figures})


def redis_benchmark(bench: Bench, port: int, pipeline: int, requests: int) -> dict:
    """GET by the tool that comes with Redis, which does not look at what it is answered."""
    key = "fyntrix:general:quote:__rand_int__"
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "50", "-P", str(pipeline), "-r", "10000"]
    lines = bench.output([*command, "-n", str(requests), "--csv", "GET", key], 300).splitlines()
    # The first field is the command, whose quotes are not escaped; the figures are the last ones.
    names, row = (line.rsplit(",", 7) for line in lines[-2:])
    figures = {name.strip('"'): float(figure.strip('"')) for name, figure in zip(names[1:], row[1:], strict=True)}
    latency = {of: figures[f"{of}_latency_ms"] * 1e3 for of in ("p50", "p99")}
    return {"requests": requests, "requests_per_second": figures["rps"], "latency_us": latency}
