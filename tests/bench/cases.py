"""What is measured: the cases of each section, and the paths they are measured on.

Every section takes the bench and the servers it stands on, and leaves records; what they mean is the report's."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time

import servers
from measure import Bench, Path, redis_benchmark
from results import BARE, BARE_NEAR, BUSY, NEAR_BUSY

# What the sidecar makes of a write, sent by the client itself: the same work for Redis.
AS_SENT = {"set": "set-px", "hset": "hset-pexpire", "zadd": "zadd-pexpire"}
READS = ("get", "mget")
MIXES = ("get", "set", "hset", "zadd", "mget")
BUSY_CONNECTIONS = 1000
# Asked for so often within a second, for which quotes are kept, that almost every GET is a hit of the near cache.
HOT_KEYS = 100
# What bare processes are asked for; they know requests and replies by their lengths.
BARE_MIXES = ("get", "set")
BARE_VALUE_BYTES = 256
# The contract allows no more rules than the last.
RULES = (10, 100, 1_000, 10_000)
MARKETS = (1, 10, 100, 1_000)
GROWTH_ROUNDS = 3
CONNECTIONS = (1, 10, 100, 1_000, 10_000)
DELAY_MS = 1.0
# Longer than a client takes to ask again, and shorter than the delay.
BUSILY = ("--busy-poll-us", 200)


def closed_case(mix: str, clients: int, pipeline: int, value_bytes: int, **more) -> dict:
    """A case of the closed loop. Large values have fewer keys, so that they do not become a test of memory."""
    keys = 10_000 if value_bytes <= 1024 else 1_000
    more = {"warm_up_seconds": 0.2, "keys": keys} | more
    return {"verb": "closed", "mix": mix, "clients": clients, "pipeline": pipeline, "value_bytes": value_bytes} | more


def closed_cases(extent: str) -> list[dict]:
    """Which cases: all of them, or one thing varied at a time around GET of 256 bytes by 50 clients."""
    hot = [closed_case("get", 50, p, 256, keys=HOT_KEYS, label="hot") for p in (1, 16)]
    if extent == "full":
        sizes, crowds = (3, 256, 16_384), (1, 50, 200)
        return hot + [closed_case(m, c, p, v) for m in MIXES for c in crowds for p in (1, 16) for v in sizes]
    if extent == "quick":
        return hot + [closed_case(m, 50, p, 256) for m in ("get", "set") for p in (1, 16)]
    base = [closed_case(m, 50, p, 256) for m in MIXES for p in (1, 16)]
    crowds = [closed_case("get", c, p, 256) for c in (1, 200) for p in (1, 16)]
    sizes = [closed_case("get", 50, p, v) for v in (3, 16_384) for p in (1, 16)]
    return hot + base + crowds + sizes + [closed_case("set", 50, 1, v) for v in (3, 16_384)]


@contextlib.contextmanager
def standing(bench: Bench):
    """Redis and every path to it."""
    place = bench.place
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(place.redis())
        far = stack.enter_context(place.sidecar(redis.port))
        near = stack.enter_context(place.sidecar(redis.port, near=True))
        busy = stack.enter_context(place.sidecar(redis.port, name="sidecar busy", more=BUSILY))
        paths = {
            "direct": Path("direct", redis.port, {"redis": redis}),
            "direct, TTL": Path("direct, TTL", redis.port, {"redis": redis}, instead=AS_SENT),
            "sidecar": Path("sidecar", far.port, {"proxy": far, "redis": redis}),
            BUSY: Path(BUSY, busy.port, {"proxy": busy, "redis": redis}),
            "sidecar, near": Path("sidecar, near", near.port, {"proxy": near, "redis": redis}, near=near),
        }
        for name, start in (("haproxy", place.haproxy), ("twemproxy", place.twemproxy)):
            if servers.tool(name):
                server = stack.enter_context(start(redis.port))
                paths[name] = Path(name, server.port, {"proxy": server, "redis": redis})
        yield redis, paths


@contextlib.contextmanager
def bare(bench: Bench, redis: servers.Server):
    """The bare paths of a case, by what its requests are."""
    with contextlib.ExitStack() as stack:
        start = lambda *how: stack.enter_context(bench.place.bare(*how))
        paths = {}
        for mix in BARE_MIXES:
            server = start(redis.port, AS_SENT.get(mix, mix), BARE_VALUE_BYTES, 0)
            paths[mix] = [Path(BARE, server.port, {"proxy": server, "redis": redis}, instead=AS_SENT)]
        server = start(None, "get", BARE_VALUE_BYTES, HOT_KEYS)
        hot = Path(BARE_NEAR, server.port, {"proxy": server, "redis": redis})

        def of(case: dict) -> list[Path]:
            if case["value_bytes"] != BARE_VALUE_BYTES:
                return []
            more = [hot] if case["mix"] == "get" and case["keys"] <= HOT_KEYS else []
            return paths.get(case["mix"], []) + more

        yield of


def fill(bench: Bench, redis: servers.Server, case: dict) -> None:
    """Puts the case's keys there, without lifetimes: what was written through the sidecar has one and may be gone."""
    flags = {name: case[name] for name in ("keys", "value_bytes", "prefix", "namespaces") if name in case}
    bench.run("fill", redis.port, **flags)


def flush(bench: Bench, redis: servers.Server) -> None:
    """An empty Redis, so that no case pays for what another left."""
    with socket.create_connection(("127.0.0.1", redis.port), 60) as client:
        client.sendall(b"FLUSHALL\r\n")
        if client.recv(16) != b"+OK\r\n":
            raise servers.Failure(f"the Redis on port {redis.port} does not answer FLUSHALL")


def told(text: str) -> None:
    """Says how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def closed(bench: Bench, extent: str) -> None:
    """The closed loop, the same GETs by redis-benchmark, and the open loop."""
    with standing(bench) as (redis, paths), bare(bench, redis) as bare_of:
        for case in closed_cases(extent):
            told(f"{case['mix']}, {case['clients']} clients, pipeline {case['pipeline']}, {case['value_bytes']} bytes")
            flush(bench, redis)
            fill(bench, redis, case)
            without = "direct, TTL" if case["mix"] in READS else "sidecar, near"
            # For one client alone, which is whom it is for: every path makes the run longer.
            without = (without,) if case["clients"] == 1 else (without, BUSY)
            chosen = [path for name, path in paths.items() if name not in without] + bare_of(case)
            bench.rounds_of("closed", case, chosen, lambda path, seed, case=case: bench.load(path, case, seed))
        by_redis_benchmark(bench, redis, paths)
        open_loop(bench, redis, paths)


def by_redis_benchmark(bench: Bench, redis: servers.Server, paths: dict[str, Path]) -> None:
    """GET by the tool that everybody has."""
    if shutil.which("redis-benchmark") is None:
        told("redis-benchmark is left out: it is not there (apt-get install redis-tools)")
        return
    flush(bench, redis)
    fill(bench, redis, closed_case("get", 50, 1, 256))
    for pipeline, a_second in ((1, 60_000), (16, 500_000)):
        told(f"redis-benchmark, pipeline {pipeline}")
        case = {"mix": "get", "clients": 50, "pipeline": pipeline, "value_bytes": 256}
        requests = int(a_second * bench.seconds)
        chosen = [path for name, path in paths.items() if name not in ("direct, TTL", BUSY)]
        by = lambda path, _: redis_benchmark(bench, path.port, pipeline, requests)
        bench.rounds_of("redis-benchmark", case, chosen, by)


def open_loop(bench: Bench, redis: servers.Server, paths: dict[str, Path]) -> None:
    """GET at half of the peak: of the slowest path's, so that all are given the same and none is overloaded."""
    case = closed_case("get", 50, 1, 256)
    peaks = {}
    for record in bench.records:
        if record["section"] == "closed" and record["case"] == case:
            peaks.setdefault(record["path"], []).append(record["figures"]["requests_per_second"])
    rate = round(min(statistics.median(all_of) for all_of in peaks.values()) / 2, -2)
    case |= {"verb": "open", "rate": max(rate, 100.0), "warm_up_seconds": 0.5}
    told(f"open loop, {case['rate']:,.0f} requests a second")
    flush(bench, redis)
    fill(bench, redis, case)
    chosen = [path for name, path in paths.items() if name not in ("direct, TTL", BUSY)]
    bench.rounds_of("open", case, chosen, lambda path, seed: bench.load(path, case, seed, 2 * bench.seconds))


def delayed(bench: Bench) -> None:
    """Redis a millisecond away."""
    place = bench.place
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(place.redis())
        way = stack.enter_context(place.delay(redis.port, DELAY_MS))
        far = stack.enter_context(place.sidecar(way.port))
        near = stack.enter_context(place.sidecar(way.port, near=True))
        busy = stack.enter_context(place.sidecar(way.port, near=True, name="sidecar near busy", more=BUSILY))
        bare = stack.enter_context(place.bare(None, "get", BARE_VALUE_BYTES, HOT_KEYS))
        paths = [
            Path("direct", way.port, {"redis": redis}),
            Path("sidecar, miss", far.port, {"proxy": far, "redis": redis}),
            Path("sidecar, near", near.port, {"proxy": near, "redis": redis}, near=near),
            Path(NEAR_BUSY, busy.port, {"proxy": busy, "redis": redis}, near=busy),
        ]
        # The standard rule keeps quotes for a second, so that few keys are almost always there; history for ten.
        for label, clients, pipeline, more in (
            ("10 hot keys", 1, 1, {"keys": 10}),
            ("1,000 keys by Zipf, kept for 10 s", 1, 1, {"keys": 1_000, "zipf": 0.99, "prefix": "fyntrix:historical:"}),
            ("10 hot keys", 1, 16, {"keys": 10}),
            ("10 hot keys", 50, 1, {"keys": 10}),
        ):
            case = closed_case("get", clients, pipeline, 256, label=label, **({"warm_up_seconds": 0.5} | more))
            told(f"1 ms away, {label}, {clients} clients, pipeline {pipeline}")
            fill(bench, redis, case)
            more = [Path(BARE_NEAR, bare.port, {"proxy": bare, "redis": redis})] if case["keys"] <= HOT_KEYS else []
            bench.rounds_of("delay", case, paths + more, lambda path, seed, case=case: bench.load(path, case, seed))


def memory(bench: Bench) -> None:
    """Memory of a connection that does nothing, and of one that reads in pipelines: fresh processes for each."""
    place = bench.place
    starts = {"direct": None, "sidecar": place.sidecar, "haproxy": place.haproxy, "twemproxy": place.twemproxy}
    for name, start in starts.items():
        if name in servers.ABSENT and not servers.tool(name):
            continue
        for state in ("idle", "busy"):
            told(f"memory of {BUSY_CONNECTIONS} connections, {name}, {state}")
            with contextlib.ExitStack() as stack:
                redis = stack.enter_context(place.redis())
                proxy = stack.enter_context(start(redis.port)) if start else None
                all_of = {"redis": redis} | ({"proxy": proxy} if proxy else {})
                case = closed_case("get", 1, 16, 256)
                path = Path(name, (proxy or redis).port, {})
                fill(bench, redis, case)
                bench.load(path, case, 1, 0.2)
                before = {of: server.resident_kib() for of, server in all_of.items()}
                most = grown(bench, path.port, state, case, all_of)
                growth = {of: (most[of] - before[of]) / BUSY_CONNECTIONS for of in all_of}
                bench.keep("memory", {"state": state}, name, 0, {"kib_per_connection": growth, "before_kib": before})


def grown(bench: Bench, port: int, state: str, case: dict, processes: dict) -> dict:
    """The most memory each process had, with so many connections."""
    command = [str(bench.place.load), "hold", "--to", f"127.0.0.1:{port}", "--connections", str(BUSY_CONNECTIONS)]
    if state == "busy":
        flags = {**case, "clients": BUSY_CONNECTIONS, "seconds": 2, "warm_up_seconds": 0}
        command = [str(bench.place.load), flags.pop("verb"), "--to", f"127.0.0.1:{port}"]
        for flag, value in flags.items():
            command += [f"--{flag.replace('_', '-')}", str(value)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as load:
        if state == "idle" and not load.stdout.readline():
            raise servers.Failure(f"{' '.join(command)}\nfailed: {load.stderr.read().strip()}")
        most = dict.fromkeys(processes, 0)
        while load.poll() is None:
            for of, server in processes.items():
                most[of] = max(most[of], server.resident_kib())
            if state == "idle":
                break
            time.sleep(0.02)
        _, said = load.communicate()
        if load.returncode != 0:
            raise servers.Failure(f"{' '.join(command)}\nfailed: {said.strip()}")
    return most


def growth(bench: Bench, extent: str) -> None:
    """What it costs when there are more rules, more markets, more connections."""
    few = extent == "quick"
    bench = dataclasses.replace(bench, rounds=min(bench.rounds, GROWTH_ROUNDS))
    grow_rules(bench, "rules", RULES[:3] if few else RULES, lambda _: "")
    names = markets(bench)
    of = lambda number: f'market_from = "fixed"\nmarket = "{names[number % len(names)]}"\n'
    grow_rules(bench, "markets", MARKETS[:3] if few else MARKETS, of)
    with standing(bench) as (redis, paths):
        fill(bench, redis, closed_case("get", 1, 1, 256))
        for count in CONNECTIONS[:4] if few else CONNECTIONS:
            if count > servers.connections_max():
                told(f"{count} connections are left out: too few open files are allowed (ulimit -n)")
                continue
            told(f"{count} connections")
            case = closed_case("get", count, 1, 256, warm_up_seconds=0.5)
            names = ("direct", "sidecar", *(["haproxy"] if count <= servers.connections_max(2) else []))
            chosen = [paths[name] for name in names if name in paths]
            # A round of so many takes longer.
            seconds = bench.seconds + count / 5_000
            by = lambda path, seed, case=case, seconds=seconds: bench.load(path, case, seed, seconds)
            bench.rounds_of("connections", case, chosen, by)


def grow_rules(bench: Bench, section: str, counts: tuple[int, ...], extra) -> None:
    """Sidecars with so many rules each, on one Redis; requests are for keys of all the rules."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(bench.place.redis())
        cases = []
        for count in counts:
            folder = bench.place.folder / f"{section}-{count}"
            folder.mkdir()
            rule = 'prefix = "grow:{0:06}:"\n{1}'
            rules = "".join(f'[settings.rules."{n}"]\n{rule.format(n, extra(n))}' for n in range(count))
            (folder / "namespaces.toml").write_text(f"[settings]\ndefaults = false\n{rules}")
            told(f"a sidecar with {count} {section}")
            server, figures = start(bench, stack, redis, folder)
            bench.keep(section, {"start": True}, f"{count}", 0, figures)
            if server:
                cases.append((Path(f"{count}", server.port, {"proxy": server, "redis": redis}), count))
        for mix in ("set", "get"):
            case = closed_case(mix, 50, 16, 256, prefix="grow:", warm_up_seconds=0.5)
            for path, count in cases:
                fill(bench, redis, case | {"namespaces": count})
            # Which keys there are is the path's: each has its own number of rules.
            counts_of = {path.name: count for path, count in cases}
            by = lambda path, seed, case=case: bench.load(path, case | {"namespaces": counts_of[path.name]}, seed)
            bench.rounds_of(section, case, [path for path, _ in cases], by)


def start(bench: Bench, stack: contextlib.ExitStack, redis: servers.Server, policies: os.PathLike) -> tuple:
    """A sidecar with these policies, and what there is to say of it before the first request. Where it does not start
    with the default limits, that is said, and it is tried with more instructions to load a policy with."""
    figures = {}
    for more in ((), ("--policy-load-fuel-max", 10**12, "--policy-call-ms-max", 60_000)):
        try:
            named = {"name": f"sidecar with {os.path.basename(policies)}", "more": ("--policy-folder", policies, *more)}
            server = stack.enter_context(bench.place.sidecar(redis.port, **named))
        except servers.Failure as failure:
            figures["refused"] = [*figures.get("refused", []), str(failure)]
            told(str(failure))
            continue
        figures |= {"start_seconds": server.start_seconds, "resident_kib": server.resident_kib()}
        return server, figures
    return None, figures


def markets(bench: Bench) -> list[str]:
    """Every market that the sidecar knows."""
    listed = json.loads(bench.output([str(bench.place.binary), "market", "--json"], 60))
    return [market["market"] for market in listed]


def decisions(bench: Bench, program: os.PathLike) -> None:
    """What a decision takes, by the program that asks for nothing else."""
    told("decisions")
    for number in range(bench.rounds):
        for line in bench.output([str(program)], 120).splitlines():
            figure = json.loads(line)
            bench.keep("decisions", {"what": figure.pop("what")}, "sidecar", number, figure)

