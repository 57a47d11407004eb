#!/usr/bin/env python3
"""What clients notice of policies that are replaced, and of policies that misbehave: rounds with and without, in turn.

    just bench-reload [--quick] [--reloads 1000] [--seconds 5] [--budget-seconds 240] [--workers 1]
                      [--only settings,component,hostile,loading]
    python3 tests/bench/reload.py --binary PATH --load PATH ...

It leaves report.md and raw.json in target/bench/reload. Needs Linux, redis-server, and Rust with the target
wasm32-unknown-unknown for the components, unless they are named."""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import machine
import reload_report
import servers
from cases import closed_case, flush, told
from change import Changes, Folder, resident_mib
from measure import Bench, Path

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = ROOT / "target/dist"
SECTIONS = ("settings", "component", "hostile", "loading")
# Reads, writes with a lifetime in them, and writes behind which an expiry is sent whose reply nobody is given.
MIX = "get:5,set:2,hset:1,zadd:1,mget:1"
CLIENTS, PIPELINE = 50, 16
# A Monday morning in Mumbai, so that quotes live for a minute whenever this runs.
AT = 1_795_408_200
# Like `policy` in Cargo.toml: what is shipped is small, and compiled sooner.
AS_SHIPPED = {"OPT_LEVEL": "s", "LTO": "true", "CODEGEN_UNITS": "1", "PANIC": "abort", "STRIP": "true"}
# How tests/hostile misbehaves when it decides. The last one behaves.
WAYS = (
    *("loop", "grow", "recurse", "unreachable", "index", "error", "huge-error", "huge-reason", "bomb-reason"),
    *("huge-line", "lines", "line-flood", "lines-and-trap", "market-flood", "markets", "markets-more", "zero"),
    *("ten-years", "negative", "year-10000", "spread", "valid-negative", "valid-max", "valid-past", "well"),
)
QUICK_WAYS = ("loop", "grow", "recurse", "unreachable", "bomb-reason", "line-flood", "market-flood", "error", "well")
# And when it is loaded.
LOADING = ('configure = "loop"', 'configure = "slow"', 'configure = "trap"', 'configure = "grow"')
LOADING += ('describe = "loop"', 'describe = "huge"')


@dataclasses.dataclass
class Extent:
    """How much is measured."""

    # Reloads with other settings, and with another component.
    settings: int
    component: int
    # Of one measurement of reloads, and of the hostile.
    seconds: float
    hostile_seconds: float
    hostile_rounds: int
    # Writes a second to the keys of a hostile policy.
    rate: float
    ways: tuple[str, ...]
    loading: tuple[str, ...]
    # Rounds end earlier after so many requests.
    requests: int | None = None
    # Reloads of a sort end after so long, however many there were: compiling gives way to the load.
    budget_seconds: float = 240.0


EXTENTS = {
    "quick": Extent(150, 50, 3.0, 0.5, 1, 100.0, QUICK_WAYS, LOADING[:2], budget_seconds=40.0),
    "default": Extent(1000, 1000, 5.0, 0.7, 2, 100.0, WAYS, LOADING),
    # However slow a machine is, so many requests come to an end.
    "smoke": Extent(3, 2, 20.0, 20.0, 1, 20.0, ("unreachable", "well"), LOADING[2:3], 2_000, 300.0),
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
    extent.add_argument("--quick", dest="extent", action="store_const", const="quick", help="two minutes")
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
    parser.add_argument("--ttl", type=pathlib.Path, help="the ttl component; otherwise it is built")
    parser.add_argument("--hostile", type=pathlib.Path, help="the hostile component; otherwise it is built")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/bench/reload")
    options = parser.parse_args()
    options.extent = options.extent or "default"
    unknown = [section for section in options.only.split(",") if section not in SECTIONS]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    return options


def measure(options: argparse.Namespace, extent: Extent) -> None:
    """Measures everything that was asked for, and writes it down."""
    more = {"seconds": options.seconds, "rate": options.rate, "budget_seconds": options.budget_seconds}
    more |= {"settings": options.reloads, "component": options.reloads}
    extent = dataclasses.replace(extent, **{name: value for name, value in more.items() if value})
    with tempfile.TemporaryDirectory() as folder:
        place = servers.Place(pathlib.Path(folder), options.binary, options.load, options.workers)
        servers.check_machine(place)
        components = {
            "ttl": built(options.ttl, place, ROOT / "policies/ttl"),
            "hostile": built(options.hostile, place, ROOT / "tests/hostile"),
        }
        bench = Bench(place, 1, extent.seconds)
        noted = {"extent": options.extent, "workers": options.workers, "poll_ms": options.poll_ms}
        noted |= {name: getattr(extent, name) for name in ("seconds", "hostile_seconds", "rate")} | {"mix": MIX}
        noted |= {"wanted": {section: getattr(extent, section) for section in ("settings", "component")}}
        raw = {"machine": machine.description(place), "options": noted, "records": bench.records}
        before = machine.spent()
        try:
            sections = options.only.split(",")
            for section in ("settings", "component"):
                if section in sections:
                    reloads(bench, section, extent, components["ttl"], options.poll_ms)
            if "hostile" in sections or "loading" in sections:
                misbehaving(bench, sections, extent, components["hostile"], options.poll_ms)
        except servers.Failure as failure:
            # What was measured before is not lost.
            raw["ended"] = str(failure)
        raw["spent"] = {of: after - before[of] for of, after in machine.spent().items()}
    write(options.out, raw)
    if "ended" in raw:
        raise servers.Failure(raw["ended"])


def built(given: pathlib.Path | None, place: servers.Place, project: pathlib.Path) -> bytes:
    """A component, built by the sidecar's own verb unless it was named."""
    if given is None:
        told(f"building {project.relative_to(ROOT)}")
        given = place.folder / f"{project.name}.wasm"
        command = [place.binary, "policy", "build", project, "--out", given, "--", "--locked"]
        as_shipped = {f"CARGO_PROFILE_RELEASE_{name}": value for name, value in AS_SHIPPED.items()}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | as_shipped)
        if done.returncode != 0:
            raise servers.Failure(f"{project} is not built: {done.stderr.strip() or done.stdout.strip()}")
    try:
        return given.read_bytes()
    except OSError as error:
        raise servers.Failure(f"cannot read a component: {error}") from None


@contextlib.contextmanager
def standing(bench: Bench, files: dict[str, bytes], poll_ms: int, redis: servers.Server):
    """A sidecar with a policy folder of its own, and the folder."""
    with tempfile.TemporaryDirectory(dir=bench.place.folder) as path:
        folder = Folder(pathlib.Path(path) / "policies.d")
        for name, content in files.items():
            folder.put(name, content)
        # Compiled code of its own too: otherwise a second run would find what the first one compiled.
        more = ("--policy-folder", folder.path, "--compiled-folder", pathlib.Path(path) / "compiled")
        more += ("--policy-poll-ms", poll_ms, "--clock-offset", f"{AT - int(time.time())}s")
        with bench.place.sidecar(redis.port, more=more) as sidecar:
            yield sidecar, folder


def case_of(extent: Extent, seconds: float) -> dict:
    """The load, of which every reply is checked."""
    more = {"requests": extent.requests} if extent.requests else {}
    return closed_case(MIX, CLIENTS, PIPELINE, 256, warm_up_seconds=0.3, **more) | {"seconds": seconds}


def load(bench: Bench, path: Path, case: dict, seed: int, redis: servers.Server) -> dict:
    """One measurement, from keys that are there, and without lifetimes that have begun earlier."""
    flush(bench, redis)
    bench.run("fill", redis.port, keys=case["keys"], value_bytes=case["value_bytes"])
    case = dict(case)
    figures = bench.load(path, case, seed, case.pop("seconds"))
    if path.processes["proxy"].process.poll() is not None:
        raise servers.Failure("the sidecar has ended")
    return figures


def reloads(bench: Bench, section: str, extent: Extent, ttl: bytes, poll_ms: int) -> None:
    """Rounds without and with reloads, until there were as many as are to be."""
    wanted = getattr(extent, section)
    case = {"section": section}
    with bench.place.redis() as redis, standing(bench, {"ttl.wasm": ttl}, poll_ms, redis) as (sidecar, folder):
        path = Path("sidecar", sidecar.port, {"proxy": sidecar, "redis": redis})
        requests = case_of(extent, extent.seconds)
        load(bench, path, requests, 1, redis)
        bench.keep(section, case | {"memory": True}, "before", 0, {"resident_mib": resident_mib(sidecar)})
        change = folder.other_settings if section == "settings" else lambda n: folder.other_component(ttl, n)
        changes = Changes(sidecar, change)
        deadline, number = time.monotonic() + extent.budget_seconds, 0
        while changes.made < wanted and (time.monotonic() < deadline or number < 2):
            for reloading in (False, True) if number % 2 == 0 else (True, False):
                with changes.during(wanted if reloading else 0) as during:
                    figures = load(bench, path, requests, number + 1, redis)
                bench.keep(section, case, "reloading" if reloading else "still", number, figures | during)
            told(f"{section}: {changes.made} of {wanted} reloads")
            number += 1
        after = {"reloads": changes.made, "resident_mib": resident_mib(sidecar)} | changes.compiled()
        # One was in force before the first reload.
        if after["generations"] != changes.made + 1:
            raise servers.Failure(f"{changes.made} reloads, and {after['generations']} generations were in force")
        bench.keep(section, case | {"memory": True}, "after the last", 0, after)
        figures = load(bench, path, requests, 1, redis)
        more = {"resident_mib": resident_mib(sidecar)}
        bench.keep(section, case | {"memory": True}, "after a round more", 0, figures | more)


def misbehaving(bench: Bench, sections: list[str], extent: Extent, hostile: bytes, poll_ms: int) -> None:
    """A sidecar with one hostile policy a way, beside one that has none of them."""
    rules = "".join(rules_of(way) for way in extent.ways)
    files = {"hostile.wasm": hostile, "namespaces.toml": rules.encode()}
    files |= {f"hostile-{way}.toml": b'component = "hostile"\n' for way in extent.ways}
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(bench.place.redis())
        alone, _ = stack.enter_context(standing(bench, {}, poll_ms, redis))
        beside, folder = stack.enter_context(standing(bench, files, poll_ms, redis))
        paths = {
            name: Path(name, sidecar.port, {"proxy": sidecar, "redis": redis})
            for name, sidecar in (("without", alone), ("beside", beside))
        }
        for number in range(extent.hostile_rounds):
            if "hostile" in sections:
                told(f"hostile: round {number + 1} of {extent.hostile_rounds}")
                for way in extent.ways:
                    deciding(bench, extent, paths, way, number, redis)
            if "loading" in sections:
                told(f"loading: round {number + 1} of {extent.hostile_rounds}")
                for setting in extent.loading:
                    loading(bench, extent, paths, folder, setting, number, redis)
        memory = {"resident_mib": resident_mib(beside)}
        bench.keep("hostile", {"memory": True}, "after", 0, memory)


def rules_of(way: str) -> str:
    """Two rules of one hostile policy: keys for which it misbehaves, and keys for which it does not."""
    rule = f'ttl_policy = "hostile-{way}"\nfallback_ttl_ms = 7777\n'
    return (
        f'[settings.rules.hostile-{way}]\nprefix = "hostile:{way}:"\n{rule}'
        f'[settings.rules.calm-{way}]\nprefix = "calm-{way}:well:"\n{rule}'
    )


def deciding(bench: Bench, extent: Extent, paths: dict[str, Path], way: str, number: int, redis) -> None:
    """One way: without it; with writes for which it misbehaves; and with as many others in between."""
    case = case_of(extent, extent.hostile_seconds)
    states = {"without": (), "beside": (f"hostile:{way}:",), "mixed": (f"hostile:{way}:", f"calm-{way}:well:")}
    order = list(states) if number % 2 == 0 else list(reversed(states))
    for state in order:
        path = paths["without" if state == "without" else "beside"]
        with writes(bench, extent, path, states[state]) as others:
            figures = load(bench, path, case, number + 1, redis)
        bench.keep("hostile", {"way": way}, state, number, figures | {"others": others})


@contextlib.contextmanager
def writes(bench: Bench, extent: Extent, path: Path, prefixes: tuple[str, ...]):
    """Writes at a steady rate under each prefix, beside what is measured; every reply is checked here too."""
    seconds = extent.requests / extent.rate / 100 if extent.requests else extent.hostile_seconds + 0.2
    running, others = [], {}
    for prefix in prefixes:
        words = [bench.place.load, "open", "--to", f"127.0.0.1:{path.port}", "--mix", "set", "--prefix", prefix]
        words += ["--rate", extent.rate, "--clients", 4, "--seconds", seconds, "--warm-up-seconds", 0.1]
        words = [str(word) for word in words]
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        yield others
        for prefix, process in zip(prefixes, running):
            out, error = process.communicate(timeout=60)
            if process.returncode != 0:
                raise servers.Failure(f"writes of {prefix}: {error.strip()}")
            others[prefix] = json.loads(out)
    finally:
        for process in running:
            process.kill()
            process.wait()


def loading(bench: Bench, extent: Extent, paths, folder: Folder, setting: str, number: int, redis) -> None:
    """A policy that misbehaves while it is loaded: it is put there again and again."""
    case = case_of(extent, extent.hostile_seconds)
    changes = Changes(paths["beside"].processes["proxy"], lambda n: folder.hostile(setting, n), refused=True)
    for state in ("without", "beside") if number % 2 == 0 else ("beside", "without"):
        path = paths[state]
        with changes.during(10**6 if state == "beside" else 0) as during:
            figures = load(bench, path, case, number + 1, redis)
        bench.keep("loading", {"way": setting}, state, number, figures | during)
    folder.take("late.toml")
    changes.wait_until_accepted()


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
