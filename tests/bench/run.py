#!/usr/bin/env python3
"""Requests per second and p99 of the sidecar against the Redis it stands in front of, in one run.

Each round measures every path once, in turn, so that a machine whose speed drifts is unfair to none; the medians of
the rounds are compared, and the ratio is that of each round's pair. Everything runs on this machine, over loopback.

    python3 tests/bench/run.py [--rounds 5] [--requests 400000] [--workers 1] [--binary target/dist/bellwether]
"""

import argparse
import contextlib
import os
import pathlib
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEY = "fyntrix:general:quote:__rand_int__"
VALUE = '{"symbol":"RELIANCE.NS","price":2950.5,"depth":"' + "x" * 200 + '"}'
COMMANDS = {"GET": ["GET", KEY], "SET": ["SET", KEY, VALUE]}
# What the sidecar makes of SET, sent by the client itself: the same work for Redis.
AS_SENT = {"SET": ["SET", KEY, VALUE, "PX", "60000"]}
CLIENTS = 50
KEYS = 10_000
PIPELINES = (1, 16)
# What redis-benchmark says of a command: requests a second and six latencies.
FIGURES = 7


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], port: int):
    """A server that listens on `port`, until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} does not listen on port {port}")
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def benchmark(port: int, command: list[str], pipeline: int, requests: int) -> dict[str, float]:
    """One run of redis-benchmark: requests a second and latencies in milliseconds."""
    arguments = ["-h", "127.0.0.1", "-p", str(port), "-c", str(CLIENTS), "-P", str(pipeline), "-r", str(KEYS)]
    arguments += ["-n", str(requests), "--csv", *command]
    done = subprocess.run(["redis-benchmark", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr:
        sys.exit(f"redis-benchmark failed: {done.stderr or done.stdout}")
    # The first field is the command, whose quotes are not escaped; the figures are the last ones.
    names, row = (line.rsplit(",", FIGURES) for line in done.stdout.splitlines())
    figures = {name.strip('"'): float(figure.strip('"')) for name, figure in zip(names[1:], row[1:], strict=True)}
    return {name: figures[name] for name in ("rps", "p50_latency_ms", "p99_latency_ms")}


def fill(port: int) -> None:
    """Puts the keys there, through the server itself and without lifetimes."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        for number in range(KEYS):
            client.sendall(f"SET {KEY.replace('__rand_int__', f'{number:012}')} '{VALUE}'\r\n".encode())
        client.sendall(b"PING\r\n")
        received = b""
        while not received.endswith(b"+PONG\r\n"):
            received = received[-16:] + client.recv(65536)


def measure(options: argparse.Namespace, direct: int, sidecar: int, near: int) -> None:
    print(f"{platform.platform()}, {options.cpus} cores; {CLIENTS} clients, {len(VALUE)}-byte values, {KEYS} keys, ", end="")
    print(f"{options.rounds} rounds of {options.requests} requests (a quarter of it unpipelined), medians\n")
    print("| command | pipeline | path | requests/s | p50 ms | p99 ms | ratio to direct (min–max of rounds) |")
    print("|---|---|---|---|---|---|---|")
    for name, command in COMMANDS.items():
        for pipeline in PIPELINES:
            paths = {"direct": (direct, command), "sidecar": (sidecar, command)}
            if name == "GET":
                paths["sidecar, near cache"] = (near, command)
            if name in AS_SENT:
                paths["direct, with PX"] = (direct, AS_SENT[name])
            requests = options.requests if pipeline > 1 else options.requests // 4
            for port in (direct,):
                fill(port)
            rounds = []
            for _ in range(options.rounds):
                rounds.append({path: benchmark(port, words, pipeline, requests) for path, (port, words) in paths.items()})
            for path in paths:
                figures = {n: statistics.median(one[path][n] for one in rounds) for n in rounds[0][path]}
                ratios = sorted(one[path]["rps"] / one["direct"]["rps"] for one in rounds)
                ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
                print(f"| {name} | {pipeline} | {path} | {figures['rps']:,.0f} | {figures['p50_latency_ms']:.3f} ", end="")
                print(f"| {figures['p99_latency_ms']:.3f} | {ratio} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400_000)
    parser.add_argument("--workers", type=int, default=1, help="worker threads of the sidecar")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/dist/bellwether")
    options = parser.parse_args()
    options.cpus = len(os.sched_getaffinity(0))
    if not options.binary.exists():
        sys.exit(f"there is no {options.binary}; type: cargo build --profile dist --locked")
    redis_port, sidecar_port, near_port = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(redis_port), "--save", "", "--dir", folder]
        upstream = f"redis://127.0.0.1:{redis_port}"
        sidecar = [str(options.binary), "serve", "--upstream", upstream, "--admin-listen", "off"]
        sidecar += ["--workers", str(options.workers), "--listen"]
        # The standard rule for these keys lets values be kept for a second.
        far = [*sidecar, f"127.0.0.1:{sidecar_port}", "--near-bytes-max", "0"]
        near = [*sidecar, f"127.0.0.1:{near_port}"]
        with running(redis, redis_port), running(far, sidecar_port), running(near, near_port):
            measure(options, redis_port, sidecar_port, near_port)


if __name__ == "__main__":
    main()
