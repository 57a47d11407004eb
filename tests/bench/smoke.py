"""The benchmark's own test: a few hundred requests through everything it is made of. No speed is judged, only bounds
that hold however slow a machine is: a delay delays, a lie is caught, a pause is seen."""

import argparse
import contextlib
import pathlib
import socketserver
import tempfile
import threading
import time
import xml.etree.ElementTree

import cases
import machine
import plot
import report
import servers
from measure import Bench
from results import PROXIES, Results, Spread, goals

PAUSE_SECONDS = 0.4


class Answers(socketserver.StreamRequestHandler):
    """Answers PING, and GETs of values of three bytes: rightly, unless the server says otherwise."""

    def handle(self) -> None:
        """Reads commands until the client leaves."""
        # Who was lied to leaves at once.
        with contextlib.suppress(OSError):
            while head := self.rfile.readline():
                words = [self.rfile.readline() for _ in range(2 * int(head[1:]))][1::2]
                if words[0].strip() == b"PING":
                    self.wfile.write(b"+PONG\r\n")
                    continue
                number = int(words[-1].strip()[-12:])
                self.wfile.write(self.server.disturb(b"$3\r\n%d\r\n" % (100 + number % 900)))


class Scripted(socketserver.ThreadingTCPServer):
    """A server of the test's own."""

    daemon_threads = True
    allow_reuse_address = True


@contextlib.contextmanager
def scripted(disturb):
    """A server whose replies go through a function."""
    with Scripted(("127.0.0.1", 0), Answers) as server:
        server.disturb = disturb
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def run(options: argparse.Namespace) -> None:
    """Runs every check."""
    servers.allow_connections()
    with tempfile.TemporaryDirectory() as folder:
        place = servers.Place(pathlib.Path(folder), options.binary, options.load)
        servers.check_machine(place)
        # What ends a run is the number of its requests; so many seconds are for a machine that hardly moves.
        bench = Bench(place, 2, 20.0)
        lies_are_caught(bench)
        pauses_are_seen(bench)
        delays_delay(bench)
        absent_programs_are_named(place)
        measured(bench)
        reported(bench)
        goals_are_judged()
    print("bench: smoke passed")


def check(holds: bool, what: str) -> None:
    """Ends the run where something does not hold."""
    if not holds:
        raise servers.Failure(f"smoke: {what}")


def fails(act, *words: str) -> None:
    """Something that must not succeed, and what it must say."""
    try:
        act()
    except servers.Failure as failure:
        for word in words:
            check(word in str(failure), f"{word!r} is not said: {failure}")
        return
    raise servers.Failure(f"smoke: nothing failed, and {words} was to be said")


def lies_are_caught(bench: Bench) -> None:
    """One wrong reply ends a run, whatever sort of wrong it is."""
    for verb, more in (("closed", {}), ("open", {"rate": 2000})):
        for lie in (b"$3\r\n099\r\n", b"$-1\r\n", b":1\r\n", b"-ERR no\r\n", b"$2\r\n10\r\n"):
            told = iter(range(10**9))
            with scripted(lambda reply, lie=lie, told=told: lie if next(told) == 50 else reply) as port:
                flags = {"clients": 1, "value_bytes": 3, "keys": 100, "seconds": 20} | more
                fails(lambda: bench.run(verb, port, **flags), "wrong reply", lie[:2].decode())
    with scripted(lambda reply: reply * 2) as port:
        fails(lambda: bench.run("closed", port, clients=1, value_bytes=3, seconds=20), "wrong reply")
    # One of two clients is never answered, and the other one is.
    told = iter(range(10**9))
    with scripted(lambda reply: b"" if next(told) == 50 else reply) as port:
        flags = {"clients": 2, "value_bytes": 3, "seconds": 20, "requests": 200}
        fails(lambda: bench.run("closed", port, **flags), "no reply for", "1 are owed")
    fails(lambda: bench.run("closed", servers.free_port(), clients=1, seconds=1), "nothing listens")


def pauses_are_seen(bench: Bench) -> None:
    """A server stops once: in the open loop, all who were to be answered meanwhile have waited."""
    told = iter(range(10**9))

    def disturb(reply: bytes) -> bytes:
        if next(told) == 100:
            time.sleep(PAUSE_SECONDS)
        return reply

    with scripted(disturb) as port:
        flags = {"clients": 1, "value_bytes": 3, "keys": 10, "warm_up_seconds": 0}
        figures = bench.run("open", port, rate=500, seconds=1, **flags)
    # Some 200 of 500 were due while it stopped, and a tenth of all waited for more than half of it.
    check(figures["requests"] == 500, f"{figures['requests']} of 500 requests are counted")
    p90 = figures["latency_us"]["p90"]
    check(p90 >= PAUSE_SECONDS / 2 * 1e6, f"p90 is {p90} µs, and the server stopped for {PAUSE_SECONDS} s")


def delays_delay(bench: Bench) -> None:
    """What goes through the delay is later by all of it, and as much of it at once as before."""
    ms = 40
    with bench.place.redis() as redis, bench.place.delay(redis.port, ms) as way:
        bench.run("fill", redis.port, keys=100)
        flags = {"clients": 1, "keys": 100, "warm_up_seconds": 0}
        alone = bench.run("closed", way.port, requests=5, seconds=20, **flags)
        many = bench.run("closed", way.port, requests=1000, seconds=20, pipeline=1000, **flags)
    for figures in (alone, many):
        p50 = figures["latency_us"]["p50"]
        check(p50 >= ms * 1e3 * 0.999, f"p50 through {ms} ms is {p50} µs")
    check(many["requests"] >= 1000, f"{many['requests']} requests of pipelines of 1000")


def absent_programs_are_named(place: servers.Place) -> None:
    """Who lacks something is told what to type."""
    for part, words in (("binary", "--profile dist"), ("load", "-p bench-load")):
        lacking = servers.Place(place.folder, place.binary, place.load)
        setattr(lacking, part, place.folder / "none")
        fails(lambda lacking=lacking: servers.check_machine(lacking), "there is no", words)


def measured(bench: Bench) -> None:
    """Every request, over every path that the machine has, with replies that are checked."""
    with cases.standing(bench) as (redis, paths), cases.bare(bench, redis) as bare_of:
        for mix in cases.MIXES:
            case = cases.closed_case(mix, 3, 4, 256, keys=cases.HOT_KEYS, warm_up_seconds=0, requests=60)
            cases.flush(bench, redis)
            cases.fill(bench, redis, case)
            by = lambda path, seed, case=case: bench.load(path, case, seed)
            bare = bare_of(case)
            check(len(bare) == {"get": 2, "set": 1}.get(mix, 0), f"{mix} has {len(bare)} bare paths")
            bench.rounds_of("closed", case, list(paths.values()) + bare, by)
        opened = {"verb": "open", "rate": 300, "requests": 60}
        case = cases.closed_case("get", 2, 1, 3, keys=200, zipf=1.1, warm_up_seconds=0) | opened
        cases.fill(bench, redis, case)
        bench.rounds_of("open", case, list(paths.values()), lambda path, seed: bench.load(path, case, seed))
        case = cases.closed_case("get:9,set:1", 2, 2, 40, keys=200, requests=60)
        cases.fill(bench, redis, case)
        bench.load(paths["sidecar, near"], case, 1)
    check({"direct", "sidecar", "sidecar, near"} <= set(paths), f"only {set(paths)} were measured")


def reported(bench: Bench) -> None:
    """A report is written of what was measured, and the picture is a picture."""
    raw = {"machine": machine.description(bench.place), "records": bench.records}
    raw["options"] = {"workers": 1, "pin": False, "rounds": bench.rounds, "seconds": bench.seconds}
    text = report.markdown(raw)
    headings = ("## Goals", "### MGET(10), 256 B, 3 clients, pipeline 4")
    for word in (*headings, "| direct | ", "| sidecar, near cache | ", "| bare | "):
        check(word in text, f"{word!r} is not in the report:\n{text}")
    for record in bench.records:
        cpu = record["figures"]["cpu_seconds"]
        check("load" in cpu and "redis" in cpu, f"no CPU time in {record}")
    picture = xml.etree.ElementTree.fromstring(report.picture(raw))
    bars = [rect for rect in picture.iter("{http://www.w3.org/2000/svg}rect") if rect.get("x") == str(plot.LEFT)]
    drawn = ("sidecar", "sidecar, near", *PROXIES)
    shown = [r for r in bench.records if r["section"] == "closed" and r["path"] in drawn]
    check(len(bars) * bench.rounds == len(shown) > 0, f"{len(bars)} bars in the picture, of {len(shown)} measurements")


def goals_are_judged() -> None:
    """Figures that are known give verdicts that are known."""

    def record(path: str, number: int, rate: float, cpu: float, case: dict) -> dict:
        figures = {"requests": 1e6, "seconds": 10.0, "requests_per_second": rate, "cpu_seconds": {"proxy": cpu}}
        return {"section": "closed", "case": case, "path": path, "round": number, "figures": figures}

    case = cases.closed_case("get", 50, 16, 256)
    hot = case | {"keys": cases.HOT_KEYS, "label": "hot"}
    records = []
    # The machine is half as fast in the second round: the ratios of the rounds do not know it.
    for number, speed in enumerate((1.0, 0.5, 1.0)):
        for path, rate, cpu in (("direct", 100, 0), ("sidecar", 80, 2), ("twemproxy", 50, 4), ("sidecar, near", 50, 1)):
            records.append(record(path, number, rate * speed, cpu, case))
        for path, rate in (("direct", 100), ("sidecar, near", 160)):
            records.append(record(path, number, rate * speed, 1, hot))
    judged = {goal.what: goal for goal in goals(Results(records, 2))}
    for what, reached, met in (
        ("pass-through, GET, 50 clients, pipeline 16, beside direct", 0.8, False),
        ("pass-through, GET, 50 clients, pipeline 16, beside twemproxy", 1.6, True),
        ("pass-through, GET, 50 clients, pipeline 16, beside HAProxy TCP", None, None),
        ("near-cache hit, 50 clients, pipeline 16", 1.6, True),
        ("near-cache hit, 50 clients, pipeline 1", None, None),
        ("CPU for a million GETs, pipeline 16, beside twemproxy's", 0.5, True),
    ):
        goal = judged[what]
        expected = None if reached is None else Spread(reached, reached, reached)
        check(goal.reached == expected, f"{what}: {goal.reached}, and {expected} is right")
        check(goal.met() == met, f"{what}: {goal.met()}, and {met} is right")
    missed = judged["pass-through, GET, 50 clients, pipeline 16, beside direct"]
    check(missed.busy == {"proxy": 0.2}, f"the proxy had 0.2 of a core, and not {missed.busy}")
    # Two seconds of one thread for a million requests, beside a hundred a second; half as many in the second round.
    allowed = Spread(5_000.0, 5_000.0, 10_000.0)
    check(missed.allowed == allowed, f"the processors allow {allowed}, and not {missed.allowed}")
    check("by 6 %" in report.verdict(missed), f"no gap is told: {report.verdict(missed)}")
