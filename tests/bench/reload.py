#!/usr/bin/env python3
"""What clients notice of policies that are replaced, and of policies that misbehave: rounds with and without, in turn.

    just bench-reload [--quick] [--reloads 1000] [--seconds 5] [--budget-seconds 480] [--workers 1]
                      [--only settings,component,hostile,loading]
    python3 tests/bench/reload.py --binary PATH --load PATH ...

It leaves report.md and raw.json in target/bench/reload. Needs Linux, redis-server, and Rust with the targets
wasm32-unknown-unknown and wasm32-wasip2 for the components, unless a folder has them."""

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile
import time

import hostile
import machine
import reload_report
import servers
import stand
from cases import told
from change import Changes, resident_mib
from measure import Bench

BUILT = stand.ROOT / "target/dist"
SECTIONS = ("settings", "component", "hostile", "loading")


@dataclasses.dataclass
class Extent:
    """How much is measured."""

    # Reloads with other settings, and with another component.
    settings: int
    component: int
    # Of one measurement of reloads.
    seconds: float
    # Reloads of a sort end after so long, however many there were: compiling gives way to the load.
    budget_seconds: float
    hostile: hostile.Extent
    # However soon there were enough: what a machine does by itself is not to be taken for what a reload does.
    rounds_min: int = 2
    # Rounds end earlier after so many requests.
    requests: int | None = None


EXTENTS = {
    "quick": Extent(150, 50, 3.0, 40.0, hostile.Extent(hostile.QUICK, 0.5, 1, 100.0)),
    "default": Extent(1000, 1000, 5.0, 480.0, hostile.Extent(hostile.ALL, 0.7, 2, 100.0), rounds_min=15),
    # However slow a machine is, so many requests come to an end.
    "smoke": Extent(3, 2, 20.0, 300.0, hostile.Extent(hostile.SMOKE, 20.0, 1, 20.0, 2_000), requests=2_000),
}


def main() -> None:
    """Does what was asked, or says what is missing."""
    options = arguments()
    try:
        if options.report:
            write(options.report.parent, json.loads(options.report.read_text()))
        else:
            measure(options, EXTENTS[options.extent])
    except servers.Failure as failure:
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", dest="extent", action="store_const", const="quick", help="three minutes")
    extent.add_argument("--smoke", dest="extent", action="store_const", const="smoke", help="to see that it works")
    extent.add_argument("--report", type=pathlib.Path, metavar="RAW", help="write the report of a raw.json anew")
    parser.add_argument("--reloads", type=int, help="of each sort")
    parser.add_argument("--seconds", type=float, help="of one measurement of reloads")
    parser.add_argument("--budget-seconds", type=float, help="for reloads of each sort, however many there were")
    parser.add_argument("--rate", type=float, help="writes a second to the keys of a hostile policy")
    parser.add_argument("--poll-ms", type=int, default=10, help="how often the sidecar looks at its policy folder")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--workers", type=int, default=1, help="of the sidecar")
    parser.add_argument("--binary", type=pathlib.Path, default=BUILT / "bellwether")
    parser.add_argument("--load", type=pathlib.Path, default=BUILT / "bench-load")
    parser.add_argument("--components", type=pathlib.Path, help="a folder that has them; otherwise they are built")
    parser.add_argument("--out", type=pathlib.Path, default=stand.ROOT / "target/bench/reload")
    options = parser.parse_args()
    options.extent = options.extent or "default"
    unknown = [section for section in options.only.split(",") if section not in SECTIONS]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    return options


def measure(options: argparse.Namespace, extent: Extent) -> None:
    """Measures everything that was asked for, and writes it down."""
    more = {"seconds": options.seconds, "budget_seconds": options.budget_seconds}
    more |= {"settings": options.reloads, "component": options.reloads}
    extent = dataclasses.replace(extent, **{name: value for name, value in more.items() if value})
    extent.hostile.rate = options.rate or extent.hostile.rate
    with tempfile.TemporaryDirectory() as folder:
        place = servers.Place(pathlib.Path(folder), options.binary, options.load, options.workers)
        servers.check_machine(place)
        components = stand.components(place, options.components)
        bench = Bench(place, 1, extent.seconds)
        noted = {"extent": options.extent, "workers": options.workers, "poll_ms": options.poll_ms}
        noted |= {"seconds": extent.seconds, "mix": stand.MIX}
        noted |= {"hostile_seconds": extent.hostile.seconds, "rate": extent.hostile.rate}
        noted |= {"wanted": {section: getattr(extent, section) for section in ("settings", "component")}}
        raw = {"machine": machine.description(place), "options": noted, "records": bench.records}
        before = machine.spent()
        try:
            sections = options.only.split(",")
            for section in ("settings", "component"):
                if section in sections:
                    reloads(bench, section, extent, components["ttl"], options.poll_ms)
            if "hostile" in sections or "loading" in sections:
                hostile.misbehaving(bench, sections, extent.hostile, components, options.poll_ms)
        except servers.Failure as failure:
            # What was measured before is not lost.
            raw["ended"] = str(failure)
        raw["spent"] = {of: after - before[of] for of, after in machine.spent().items()}
    write(options.out, raw)
    if "ended" in raw:
        raise servers.Failure(raw["ended"])


def reloads(bench: Bench, section: str, extent: Extent, ttl: bytes, poll_ms: int) -> None:
    """Rounds without and with reloads, until there were as many as are to be."""
    wanted = getattr(extent, section)
    # The last round has as many as any other; a run that is to come to an end has no more than were wanted.
    most = wanted if extent.requests else 10**6
    case = {"section": section}
    files = {"ttl.wasm": ttl}
    with bench.place.redis() as redis, stand.standing(bench, files, poll_ms, redis) as (sidecar, folder, path):
        requests = stand.case_of(extent.seconds, extent.requests)
        stand.load(bench, path, requests, 1, redis)
        bench.keep(section, case | {"memory": True}, "before", 0, {"resident_mib": resident_mib(sidecar)})
        change = folder.other_settings if section == "settings" else lambda n: folder.other_component("ttl", ttl, n)
        changes = Changes(sidecar, change)
        deadline, number = time.monotonic() + extent.budget_seconds, 0
        while number < extent.rounds_min or (changes.made < wanted and time.monotonic() < deadline):
            for reloading in (False, True) if number % 2 == 0 else (True, False):
                with changes.during(most if reloading else 0) as during:
                    figures = stand.load(bench, path, requests, number + 1, redis)
                bench.keep(section, case, "reloading" if reloading else "still", number, figures | during)
            told(f"{section}: {changes.made} of {wanted} reloads")
            number += 1
        after = {"reloads": changes.made, "resident_mib": resident_mib(sidecar)} | changes.compiled()
        # One was in force before the first reload.
        if after["generations"] != changes.made + 1:
            raise servers.Failure(f"{changes.made} reloads, and {after['generations']} generations were in force")
        bench.keep(section, case | {"memory": True}, "after the last", 0, after)
        figures = stand.load(bench, path, requests, 1, redis)
        more = {"resident_mib": resident_mib(sidecar)}
        bench.keep(section, case | {"memory": True}, "after a round more", 0, figures | more)


def write(folder: pathlib.Path, raw: dict) -> None:
    """Leaves the report and the data, and shows the goals."""
    folder.mkdir(parents=True, exist_ok=True)
    records = ",\n".join(json.dumps(record, separators=(",", ":")) for record in raw["records"])
    head = json.dumps({name: value for name, value in raw.items() if name != "records"}, indent=1)
    (folder / "raw.json").write_text(head.removesuffix("\n}") + ',\n "records": [\n' + records + "\n]}\n")
    (folder / "report.md").write_text(reload_report.markdown(raw))
    print(reload_report.goal_table(raw))
    print(f"\n{folder / 'report.md'}")


if __name__ == "__main__":
    main()
