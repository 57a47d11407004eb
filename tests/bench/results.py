"""Records, asked for by what they are of; and the goals, each with what was reached. Pure: records in, numbers out."""

import dataclasses
import statistics

PROXIES = ("haproxy", "twemproxy")
# A worker that looks for requests for a while before it sleeps, without and with the near cache.
BUSY, NEAR_BUSY = "sidecar, busy", "sidecar, near, busy"
# What does the least between clients and Redis, and the least without Redis.
BARE, BARE_NEAR = "bare", "bare, near"


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of the rounds, and what they lie between."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: list[float]) -> "Spread | None":
        """None: there were no rounds."""
        return Spread(statistics.median(values), min(values), max(values)) if values else None


@dataclasses.dataclass(frozen=True)
class Goal:
    """What was to be reached, and what was."""

    what: str
    # What the figure is, as text with `{}` for the number.
    form: str
    bound: float
    # The figure must not be less; otherwise it must not be more.
    at_least: bool
    reached: Spread | None
    # Why there is none.
    missing: str = ""
    # How much of a core each process had meanwhile.
    busy: dict[str, float] = dataclasses.field(default_factory=dict)
    # What the processors allow.
    allowed: Spread | None = None
    # What was reached by what does the least.
    bare: Spread | None = None

    def met(self) -> bool | None:
        """Whether the median reached it."""
        if self.reached is None:
            return None
        return self.reached.median >= self.bound if self.at_least else self.reached.median <= self.bound

    def gap(self) -> str:
        """By how much it was passed or missed."""
        if not self.bound:
            return f"by {abs(self.reached.median):.3g}"
        return f"by {abs(self.reached.median / self.bound - 1) * 100:.0f} %"


class Results:
    """Records of a run."""

    def __init__(self, records: list[dict], cores: int):
        self.records = records
        self.cores = cores

    def cases(self, section: str) -> list[dict]:
        """The cases of a section, in the order in which they were measured."""
        cases = []
        for record in self.records:
            if record["section"] == section and record["case"] not in cases:
                cases.append(record["case"])
        return cases

    def paths(self, section: str, case: dict) -> list[str]:
        """The paths of a case."""
        found = [r["path"] for r in self.records if r["section"] == section and r["case"] == case]
        return sorted(dict.fromkeys(found), key=order)

    def values(self, section: str, case: dict, path: str, *names: str) -> dict[int, float]:
        """A figure of a path, by round. A figure's names lead into it: `"latency_us", "p99"`."""
        values = {}
        for record in self.records:
            if (record["section"], record["case"], record["path"]) != (section, case, path):
                continue
            figure = record["figures"]
            for name in names:
                figure = (figure or {}).get(name)
            if figure is not None:
                values[record["round"]] = figure
        return values

    def spread(self, section: str, case: dict, path: str, *names: str) -> Spread | None:
        """A figure's median and spread."""
        return Spread.of(list(self.values(section, case, path, *names).values()))

    def ratios(self, section: str, case: dict, path: str, to: str) -> Spread | None:
        """Requests a second beside another path's of the same round."""
        ours = self.values(section, case, path, "requests_per_second")
        theirs = self.values(section, case, to, "requests_per_second")
        return Spread.of([ours[number] / theirs[number] for number in ours if number in theirs])

    def cpu(self, section: str, case: dict, path: str, of: str) -> Spread | None:
        """CPU seconds of a process for a million requests."""
        seconds = self.values(section, case, path, "cpu_seconds", of)
        requests = self.values(section, case, path, "requests")
        return Spread.of([seconds[number] / requests[number] * 1e6 for number in seconds])

    def busy(self, section: str, case: dict, path: str) -> dict[str, float]:
        """How much of a core each process had."""
        seconds = self.values(section, case, path, "seconds")
        shares = {}
        for of in ("proxy", "redis", "load"):
            cpu = self.values(section, case, path, "cpu_seconds", of)
            if cpu:
                shares[of] = statistics.median(cpu[number] / seconds[number] for number in cpu)
        return shares

    def allowed(self, section: str, case: dict, path: str, to: str) -> Spread | None:
        """The most requests a second that a path's processes can answer if each has one thread, all have the machine's
        cores, and a request takes the CPU that it took; beside what another path did in the same round."""
        requests, theirs = self.values(section, case, path, "requests"), self.values(section, case, to, "requests_per_second")
        taken = [self.values(section, case, path, "cpu_seconds", of) for of in ("proxy", "redis", "load")]
        most = {}
        for number in requests:
            each = [seconds[number] / requests[number] for seconds in taken if number in seconds]
            most[number] = min([self.cores / sum(each), 1 / max(each)]) if each and sum(each) else 0.0
        return Spread.of([most[number] / theirs[number] for number in most if number in theirs and most[number]])

    def ratio_goal(self, what: str, section: str, case: dict | None, path: str, to: str, bound: float) -> Goal:
        """A goal for requests a second beside another path's."""
        if case is None:
            return Goal(what, "{:.2f} ×", bound, True, None)
        missing = "" if to in self.paths(section, case) else f"{to} was not there"
        reached, busy = self.ratios(section, case, path, to), self.busy(section, case, path)
        bare = self.ratios(section, case, BARE_NEAR if "near" in path else BARE, to)
        return Goal(what, "{:.2f} ×", bound, True, reached, missing, busy, self.allowed(section, case, path, to), bare)

    def case(self, section: str, **like) -> dict | None:
        """The first case that has these values."""
        like = {"label": None} | like if section == "closed" else like
        fits = (case for case in self.cases(section) if all(case.get(name) == value for name, value in like.items()))
        return next(fits, None)


def order(path: str) -> tuple:
    """Paths as a reader wants them; numbers by size."""
    known = ("direct", "direct, TTL", "sidecar", BUSY, "sidecar, miss", "sidecar, near", NEAR_BUSY)
    known += (*PROXIES, BARE, BARE_NEAR)
    if path.isdigit():
        return (1, int(path), path)
    return (0, known.index(path), path) if path in known else (2, 0, path)


def goals(results: Results) -> list[Goal]:
    """Every goal, in its order."""
    all_of = []
    for pipeline, direct, proxies in ((1, 1.0, 1.0), (16, 0.85, 1.3)):
        beside = [("get", "direct", direct), ("set", "direct, TTL", direct), ("set", "direct", direct)]
        for mix, to, bound in [*beside, *(("get", proxy, proxies) for proxy in PROXIES)]:
            case = results.case("closed", mix=mix, clients=50, pipeline=pipeline, value_bytes=256)
            what = f"pass-through, {mix.upper()}, 50 clients, pipeline {pipeline}, beside {named(to)}"
            all_of.append(results.ratio_goal(what, "closed", case, "sidecar", to, bound))
    for pipeline, bound in ((16, 1.5), (1, 1.0)):
        case = results.case("closed", mix="get", clients=50, pipeline=pipeline, value_bytes=256, label="hot")
        what = f"near-cache hit, 50 clients, pipeline {pipeline}"
        all_of.append(results.ratio_goal(what, "closed", case, "sidecar, near", "direct", bound))
    what = "near-cache hit with 1 ms to Redis, one client"
    case = results.case("delay", clients=1, pipeline=1)
    all_of.append(results.ratio_goal(what, "delay", case, "sidecar, near", "direct", 15.0))
    all_of.append(results.ratio_goal(f"{what}, with busy polling", "delay", case, NEAR_BUSY, "direct", 15.0))
    return [*all_of, *decision_goals(results), added_p99(results), cpu_goal(results)]


def decision_goals(results: Results) -> list[Goal]:
    """What a decision may take."""
    all_of = []
    for what, figure, form, bound in (
        ("memoized", "nanoseconds", "{:.0f} ns", 60.0),
        ("memoized", "allocations", "{:.3g} allocations", 0.0),
        ("policy call", "nanoseconds", "{:.0f} ns", 600.0),
    ):
        reached = results.spread("decisions", {"what": what}, "sidecar", figure)
        least = results.spread("decisions", {"what": f"{what}, of a policy that does nothing"}, "sidecar", figure)
        all_of.append(Goal(f"decision, {what}", form, bound, False, reached, bare=least))
    return all_of


def added_p99(results: Results) -> Goal:
    """The open loop's p99 over HAProxy's, round by round."""
    case = results.case("open")
    reached, missing = None, ""
    if case:
        ours = results.values("open", case, "sidecar", "latency_us", "p99")
        theirs = results.values("open", case, "haproxy", "latency_us", "p99")
        reached = Spread.of([ours[number] - theirs[number] for number in ours if number in theirs])
        missing = "" if theirs else "haproxy was not there"
    what = "added p99 over HAProxy TCP, 50 clients, open loop at half of the peak"
    busy = results.busy("open", case, "sidecar") if case else {}
    return Goal(what, "{:.0f} µs", 20.0, False, reached, missing, busy)


def cpu_goal(results: Results) -> Goal:
    """The sidecar's CPU beside twemproxy's, round by round."""
    case = results.case("closed", mix="get", clients=50, pipeline=16, value_bytes=256)
    reached, missing = None, ""
    if case:
        per = {}
        for path in ("sidecar", "twemproxy"):
            seconds = results.values("closed", case, path, "cpu_seconds", "proxy")
            requests = results.values("closed", case, path, "requests")
            per[path] = {number: seconds[number] / requests[number] for number in seconds}
        common = [number for number in per["sidecar"] if number in per["twemproxy"]]
        reached = Spread.of([per["sidecar"][number] / per["twemproxy"][number] for number in common])
        missing = "" if per["twemproxy"] else "twemproxy was not there"
    return Goal("CPU for a million GETs, pipeline 16, beside twemproxy's", "{:.2f} ×", 1.0, False, reached, missing)


def named(path: str) -> str:
    """A path, as it is called in a sentence."""
    names = {
        "direct": "direct",
        "direct, TTL": "direct with the same lifetimes",
        "sidecar": "sidecar",
        "sidecar, near": "sidecar, near cache",
        BUSY: "sidecar, busy polling",
        NEAR_BUSY: "sidecar, near cache, busy polling",
        "haproxy": "HAProxy TCP",
        "twemproxy": "twemproxy",
        BARE: "bare",
        BARE_NEAR: "bare, without Redis",
    }
    return names.get(path, path)
