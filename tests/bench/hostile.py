"""What clients notice of policies that misbehave: when they decide, as market hours, with WASI, and while they are
loaded. Keys of other rules are asked for, beside a sidecar without such policies."""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
from collections.abc import Callable

import servers
from cases import told
from change import Changes, resident_mib
from measure import Bench
from stand import Stand, case_of, load, standing

# What is called by these names misbehaves in its own way; `well` behaves.
TTL = (
    *("loop", "grow", "recurse", "unreachable", "index", "error", "huge-error", "huge-reason", "bomb-reason"),
    *("huge-line", "lines", "line-flood", "lines-and-trap", "market-flood", "markets", "markets-more", "zero"),
    *("ten-years", "negative", "year-10000", "spread", "valid-negative", "valid-max", "valid-past", "well"),
)
MARKETS = (
    *("find-loop", "find-trap", "find-any", "loop", "trap", "grow", "recurse", "line-flood", "other-time"),
    *("backwards", "zero", "negative", "beyond", "well"),
)
WASI = ("panic", "exit", "flood", "hold", "wait", "print", "well")
# Settings of tests/hostile, and of tests/hostile-roles, that misbehave when they are loaded, and what the refusal says.
# None: they are put in force.
SETTINGS = {
    **{f'configure = "{how}"': "failed while it was configured" for how in ("loop", "trap", "grow")},
    'configure = "slow"': None,
    'describe = "loop"': "failed to describe itself",
    'describe = "huge"': None,
}
ROLES = {
    **{f'rules = "{how}"': "failed to give its rules" for how in ("loop", "trap", "grow", "giant")},
    'rules = "error"': "e e e",
    'rules = "many"': "gave 10001 rules; at most 10000 are allowed",
    'rules = "long"': "must end in ':' and have at most 512 bytes",
    'rules = "longest"': 'rule "r0": the prefix "ppp',
    'rules = "same"': 'two rules are called "same"',
    'rules = "nameless"': "a rule's name must have 1 to 64 bytes",
    'symbols = "loop"': "failed to give its symbols",
    'symbols = "many"': "symbols; at most 10000 are allowed",
    'symbols = "same"': "stands twice in the symbol table",
    "nonsense = 1": 'unknown setting "nonsense"',
    'start = "slow"': None,
}
# Lower than by default, so that what is refused for them is refused sooner; what takes all time takes some memory too.
LIMITS = ("--policy-compile-bytes-max", 1 << 30, "--policy-compile-ms-max", 6_000)
FALLBACK_MS = 7_777


@dataclasses.dataclass(frozen=True)
class Ways:
    """Which are measured, of those that decide and of those that are loaded."""

    ttl: tuple[str, ...] = TTL
    markets: tuple[str, ...] = MARKETS
    wasi: tuple[str, ...] = WASI
    settings: tuple[str, ...] = tuple(SETTINGS)
    roles: tuple[str, ...] = tuple(ROLES)
    # Of the odd components, by what is odd. None: all of them.
    odd: tuple[str, ...] | None = None


ALL = Ways()
QUICK = Ways(
    ("loop", "grow", "recurse", "unreachable", "bomb-reason", "line-flood", "market-flood", "error", "well"),
    ("find-loop", "loop", "trap"),
    ("panic", "flood", "hold"),
    ('configure = "loop"', 'configure = "slow"'),
    ('rules = "grow"',),
    ("all memory to compile", "no end of the beginning"),
)
ONE_SETTING, ONE_RULE = ('configure = "trap"',), ('rules = "error"',)
SMOKE = Ways(("unreachable", "well"), ("trap",), ("panic",), ONE_SETTING, ONE_RULE, ("many tables",))


@dataclasses.dataclass
class Extent:
    """How much is measured."""

    ways: Ways
    seconds: float
    rounds: int
    # Writes a second to the keys of a hostile policy.
    rate: float
    # Rounds end earlier after so many requests.
    requests: int | None = None


@dataclasses.dataclass(frozen=True)
class Load:
    """What misbehaves while it is loaded."""

    # Puts it there; the number makes it another one each time.
    put: Callable[[Stand, int], None]
    # What its refusal says. None: it is put in force.
    refused: str | None


@dataclasses.dataclass
class Sort:
    """Hostile policies of a sort: their files, which keys they misbehave and behave for, and whose load is measured."""

    name: str
    files: dict[str, bytes]
    # By way.
    keys: dict[str, tuple[str, str]]
    # Settings that are put there, or components that are, by what they are called in the report.
    loaded: dict[str, Load]
    # What is taken away when it has been.
    late: str
    prefix: str = "fyntrix:general:"


def misbehaving(bench: Bench, sections: list[str], extent: Extent, components: dict[str, bytes], poll_ms: int) -> None:
    """A sidecar with the hostile policies of each sort, beside one that has none of them."""
    with bench.place.redis() as redis, standing(bench, {}, poll_ms, redis) as alone:
        for sort in (ttl(bench, extent, components), markets(extent, components), wasi(extent, components)):
            with standing(bench, sort.files, poll_ms, redis, LIMITS) as beside:
                both = {"without": alone, "beside": beside}
                for number in range(extent.rounds):
                    told(f"hostile: {sort.name}, round {number + 1} of {extent.rounds}")
                    for way in sort.keys if "hostile" in sections else ():
                        deciding(bench, extent, both, sort, way, number, redis)
                    for what in sort.loaded if "loading" in sections else ():
                        loading(bench, extent, both, sort, what, number, redis)
                memory = {"resident_mib": resident_mib(beside.sidecar)}
                bench.keep("hostile", {"memory": True}, sort.name, 0, memory)


def ttl(bench: Bench, extent: Extent, components: dict[str, bytes]) -> Sort:
    """One policy for each way, so that none pays for what another has done."""
    ways = extent.ways
    keys = {way: (f"hostile:{way}:", f"calm-{way}:well:") for way in ways.ttl}
    of = lambda way: rule(f"hostile:{way}:", f"hostile-{way}") + rule(f"calm-{way}:", f"hostile-{way}")
    files = {"hostile.wasm": components["hostile"], "namespaces.toml": "".join(map(of, keys)).encode()}
    files |= {f"hostile-{way}.toml": b'component = "hostile"\n' for way in ways.ttl}
    loaded = {f"`{setting}`": Load(settings_of(setting), SETTINGS[setting]) for setting in ways.settings}
    return Sort("ttl", files, keys, loaded | odd(bench, ways, components["first"]), "late")


def markets(extent: Extent, components: dict[str, bytes]) -> Sort:
    """Market hours that misbehave for a market; a rule's market has the name of the way."""
    ways = extent.ways
    names = dict.fromkeys((*ways.markets, "well"))
    text = "".join(rule(f"of-{way}:", "hostile", f'market = "{way}"\n') for way in names)
    files = {"hostile.wasm": components["hostile"], "market-hours.wasm": components["hostile-roles"]}
    files["namespaces.toml"] = text.encode()
    keys = {way: (f"of-{way}:well:", "of-well:well:") for way in ways.markets}
    loaded = {f"`{setting}`": Load(roles_of(setting), ROLES[setting]) for setting in ways.roles}
    # These are the market hours of all: keys without a market do not ask them.
    return Sort("market hours", files, keys, loaded, "market-hours", prefix="fyntrix:context:")


def wasi(extent: Extent, components: dict[str, bytes]) -> Sort:
    """A policy that imports WASI."""
    files = {"outside.wasm": components["outside"], "namespaces.toml": rule("outside:", "outside").encode()}
    keys = {way: (f"outside:{way}:", "outside:well:") for way in extent.ways.wasi}
    return Sort("WASI", files, keys, {}, "")


def rule(prefix: str, policy: str, more: str = "") -> str:
    """A rule of its own for a prefix."""
    name = prefix.replace(":", "-").strip("-")
    lines = f'prefix = "{prefix}"\nttl_policy = "{policy}"\nfallback_ttl_ms = {FALLBACK_MS}\n'
    return f'[settings.rules."{name}"]\n{lines}{more}'


def settings_of(setting: str) -> Callable[[Stand, int], None]:
    """A policy more, which misbehaves while it is loaded; each time another one."""
    text = 'component = "hostile"\n[settings]\n{0}\nttl_ms = {1}\n'
    return lambda stand, number: stand.folder.put("late.toml", text.format(setting, 1000 + number).encode())


def roles_of(setting: str) -> Callable[[Stand, int], None]:
    """Other settings of what has all roles."""
    other = "symbols" if setting.startswith("start") else "start"
    text = '[settings]\n{0}\n{1} = "{2}"\n'
    return lambda stand, number: stand.folder.put("market-hours.toml", text.format(setting, other, number).encode())


def odd(bench: Bench, ways: Ways, component: bytes) -> dict[str, Load]:
    """Components with what no compiler makes, each time with other bytes."""
    of, into = bench.place.folder / "first.wasm", bench.place.folder / "odd"
    of.write_bytes(component)
    into.mkdir()
    made = json.loads(bench.output([str(bench.place.load), "odd", "--of", str(of), "--into", str(into)], 60))
    put = lambda file: lambda stand, number: stand.folder.other_component("late", file, number)
    of_all = {one["what"]: Load(put(pathlib.Path(one["file"]).read_bytes()), one["refused"]) for one in made}
    return of_all if ways.odd is None else {what: of_all[what] for what in ways.odd}


def deciding(bench: Bench, extent: Extent, both: dict[str, Stand], sort: Sort, way: str, number: int, redis) -> None:
    """One way: without it; with writes for which it misbehaves; and with as many others in between."""
    case = case_of(extent.seconds, extent.requests, prefix=sort.prefix)
    bad, well = sort.keys[way]
    states = {"without": (), "beside": (bad,), "mixed": (bad, well)}
    order = list(states) if number % 2 == 0 else list(reversed(states))
    for state in order:
        stand = both["without" if state == "without" else "beside"]
        with writes(bench, extent, stand, states[state]) as others:
            figures = load(bench, stand.path, case, number + 1, redis)
        bench.keep("hostile", {"sort": sort.name, "way": way}, state, number, figures | {"others": others})


@contextlib.contextmanager
def writes(bench: Bench, extent: Extent, stand: Stand, prefixes: tuple[str, ...]):
    """Writes at a steady rate under each prefix, beside what is measured; every reply is checked here too."""
    seconds = extent.requests / extent.rate / 100 if extent.requests else extent.seconds + 0.2
    running, others = [], {}
    for number, prefix in enumerate(prefixes):
        words = [bench.place.load, "open", "--to", f"127.0.0.1:{stand.path.port}", "--mix", "set", "--prefix", prefix]
        words += ["--rate", extent.rate, "--clients", 4, "--seconds", seconds, "--warm-up-seconds", 0.1]
        words = [str(word) for word in words] + ["--seed", str(number + 1)]
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        yield others
        for number, (prefix, process) in enumerate(zip(prefixes, running)):
            out, error = process.communicate(timeout=60)
            if process.returncode != 0:
                raise servers.Failure(f"writes of {prefix}: {error.strip()}")
            others["for which it behaves" if number else "its own"] = json.loads(out)
    finally:
        for process in running:
            process.kill()
            process.wait()


def loading(bench: Bench, extent: Extent, both: dict[str, Stand], sort: Sort, what: str, number: int, redis) -> None:
    """What misbehaves while it is loaded: it is put there again and again."""
    case = case_of(extent.seconds, extent.requests, prefix=sort.prefix)
    beside, given = both["beside"], sort.loaded[what]
    changes = Changes(beside.sidecar, lambda n: given.put(beside, n), given.refused)
    for state in ("without", "beside") if number % 2 == 0 else ("beside", "without"):
        with changes.during(10**6 if state == "beside" else 0) as during:
            figures = load(bench, both[state].path, case, number + 1, redis)
        figures |= during | {"is_refused_for": given.refused}
        bench.keep("loading", {"sort": sort.name, "way": what}, state, number, figures)
    for ending in ("toml", "wasm"):
        # The component of what has all roles stays.
        if (sort.late, ending) != ("market-hours", "wasm"):
            beside.folder.take(f"{sort.late}.{ending}")
    changes.wait_until_accepted()
