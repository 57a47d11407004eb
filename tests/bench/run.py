#!/usr/bin/env python3
"""The benchmark: the sidecar beside direct Redis, HAProxy and twemproxy, in one interleaved run.

    just bench [--quick | --full] [--rounds 5] [--seconds 0.5] [--pin] [--only closed,delay] [--release]
    python3 tests/bench/run.py --binary PATH --load PATH --decisions PATH ...

It leaves report.md, plot.svg and raw.json in target/bench, or with --release in tests/bench/results/DATE, to be
committed. Needs Linux, redis-server and redis-tools; haproxy and nutcracker are measured where they are installed.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

import cases
import machine
import report
import servers
import smoke
from measure import Bench

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = ROOT / "target/dist"
# `closed` has the open loop and redis-benchmark in it: they stand on the same servers.
SECTIONS = ("closed", "delay", "memory", "growth", "decisions")
# Rounds, and seconds of one measurement; the default takes some twelve minutes.
EXTENTS = {"quick": (3, 0.4), "default": (5, 0.5), "full": (5, 1.0)}


def main() -> None:
    """Does what was asked, or says what is missing."""
    options = arguments()
    try:
        if options.report:
            write(options.report.parent, json.loads(options.report.read_text()))
        elif options.smoke:
            smoke.run(options)
        else:
            measure(options)
    except servers.Failure as failure:
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", dest="extent", action="store_const", const="quick", help="a few cases, four minutes")
    extent.add_argument("--full", dest="extent", action="store_const", const="full", help="every case, an hour")
    extent.add_argument("--smoke", action="store_true", help="a few hundred requests, to see that it works")
    extent.add_argument("--report", type=pathlib.Path, metavar="RAW", help="write the report of a raw.json anew")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of one measurement")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--pin", action="store_true", help="servers on the first half of the cores, load on the others")
    parser.add_argument("--workers", type=int, default=1, help="of the sidecar")
    parser.add_argument("--binary", type=pathlib.Path, default=BUILT / "bellwether")
    parser.add_argument("--load", type=pathlib.Path, default=BUILT / "bench-load")
    parser.add_argument("--decisions", type=pathlib.Path, default=BUILT / "bench-decisions")
    parser.add_argument("--release", action="store_true", help="results to tests/bench/results/DATE")
    options = parser.parse_args()
    options.extent = options.extent or "default"
    unknown = [section for section in options.only.split(",") if section not in SECTIONS]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    return options


def measure(options: argparse.Namespace) -> None:
    """Measures everything that was asked for, and writes it down."""
    rounds, seconds = EXTENTS[options.extent]
    server_cores, load_cores = halves() if options.pin else (None, None)
    sections = options.only.split(",")
    servers.allow_connections()
    with tempfile.TemporaryDirectory() as folder:
        place = servers.Place(pathlib.Path(folder), options.binary, options.load, options.workers, server_cores)
        servers.check_machine(place)
        if "decisions" in sections and not options.decisions.is_file():
            raise servers.Failure(
                f"there is no {options.decisions}. Type `just bench`, or: cargo build --profile dist --locked "
                "-p bench-decisions; or leave it out with --only"
            )
        bench = Bench(place, options.rounds or rounds, options.seconds or seconds, load_cores)
        raw = {"machine": machine.description(place), "options": noted(options, bench), "records": bench.records}
        before = machine.spent()
        try:
            for section in sections:
                run_section(section, bench, options)
        except servers.Failure as failure:
            # What was measured before is not lost.
            raw["ended"] = str(failure)
        raw["spent"] = {of: after - before[of] for of, after in machine.spent().items()}
    date = time.strftime("%Y-%m-%d")
    complete = "ended" not in raw
    write(ROOT / "tests/bench/results" / date if options.release and complete else ROOT / "target/bench", raw)
    if not complete:
        raise servers.Failure(raw["ended"])


def run_section(section: str, bench: Bench, options: argparse.Namespace) -> None:
    """Measures what a section is about."""
    match section:
        case "closed":
            cases.closed(bench, options.extent)
        case "delay":
            cases.delayed(bench)
        case "memory":
            cases.memory(bench)
        case "growth":
            cases.growth(bench, options.extent)
        case "decisions":
            cases.decisions(bench, options.decisions)


def noted(options: argparse.Namespace, bench: Bench) -> dict:
    """The options that a reader of the figures needs."""
    kept = {"extent": options.extent, "pin": options.pin, "workers": options.workers, "only": options.only}
    return kept | {"rounds": bench.rounds, "seconds": bench.seconds}


def write(folder: pathlib.Path, raw: dict) -> None:
    """Leaves the report, the picture and the data, and shows the goals."""
    folder.mkdir(parents=True, exist_ok=True)
    records = ",\n".join(json.dumps(record, separators=(",", ":")) for record in raw["records"])
    head = json.dumps({name: value for name, value in raw.items() if name != "records"}, indent=1)
    (folder / "raw.json").write_text(head.removesuffix("\n}") + ',\n "records": [\n' + records + "\n]}\n")
    (folder / "plot.svg").write_text(report.picture(raw))
    (folder / "report.md").write_text(report.markdown(raw))
    print(report.goal_table(report.Results(raw["records"], raw["machine"]["cores"])))
    print(f"\n{folder / 'report.md'}")


def halves() -> tuple[set[int], set[int]]:
    """The cores of the servers, and those of the load generator."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise servers.Failure("--pin needs two cores at least")
    half = (len(cores) + 1) // 2
    return set(cores[:half]), set(cores[half:])


if __name__ == "__main__":
    main()
