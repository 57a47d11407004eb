"""The report on reloads and hostile policies: Markdown for people, from a run's raw data alone. It measures nothing."""

import statistics

from report import machine_lines, median
from results import Results, Spread

# Of the p99.9 of a round without reloads.
TAIL_RATIO_MAX = 1.5
# Of the memory once a tenth of the reloads was made: what is taken for flat.
GROWTH_RATIO_MAX = 1.1
# With fewer reloads a tenth is not enough for what is taken once to be taken.
RELOADS_MIN = 500
# By sort: those that decide, and those that are loaded.
SORTS_OF_HOSTILE = {
    "ttl": ("As a ttl policy", "A ttl policy, by its settings, and by what no compiler makes"),
    "market hours": ("As market hours, by the market", "A component of all roles, by its settings"),
    "WASI": ("With WASI", "With WASI"),
}
SORTS = {"settings": "other settings, nothing compiled", "component": "another component, compiled each time"}


def markdown(raw: dict) -> str:
    """The whole report."""
    results = Results(raw["records"], raw["machine"]["cores"])
    parts = [heading(raw), goal_table(raw), reloads(results), hostile(results, raw["options"]), loading(results)]
    return "\n\n".join([part for part in parts if part] + [reading(raw)]) + "\n"


def heading(raw: dict) -> str:
    """What was measured, where and how."""
    options = raw["options"]
    lines = [
        f"# Reloads and hostile policies, {raw['machine']['date']}",
        "",
        *machine_lines(raw),
        f"- Load: 50 clients, pipeline 16, `{options['mix']}`, 256 bytes, 10,000 keys, over loopback. Every reply is "
        "checked to be its own request's, to the last one that is owed; one that is wrong or missing ends the run.",
        f"- Reloads as fast as they come into force, one after the other; the sidecar looks at its folder every "
        f"{options['poll_ms']} ms and takes what two looks find the same. Raw data: `raw.json`.",
    ]
    if "ended" in raw:
        lines += ["", f"**The run ended early:** `{raw['ended'].splitlines()[-1]}`"]
    return "\n".join(lines)


def goal_table(raw: dict) -> str:
    """Every goal and what was reached."""
    results = Results(raw["records"], raw["machine"]["cores"])
    lines = ["## Goals", "", "| | goal | reached | |", "|---|---|---|---|"]
    wrong = 1 if "ended" in raw else 0
    checked = sum(record["figures"].get("requests", 0) for record in raw["records"])
    said = f"none of {checked:,}" if not wrong else "**the run ended early**"
    lines.append(f"| replies that are wrong, lost or out of order | 0 | {said} | {verdict(not wrong)} |")
    for section in SORTS:
        case = {"section": section}
        made = reloads_made(results, section)
        if not made:
            continue
        wanted = raw["options"]["wanted"][section]
        said = "reached" if made >= wanted else "time was over"
        lines.append(f"| reloads with {SORTS[section]} | {wanted:,} | {made:,} generations were in force | {said} |")
        tail = tails(results, section, case)
        bound = f"≤ {TAIL_RATIO_MAX} ×"
        lines.append(f"| p99.9 beside a round without | {bound} | {tail_said(tail)} | {tail_verdict(tail)} |")
        growth = memory_growth(results, section)
        if growth:
            said = f"{growth[1]:.0f} MiB, after a tenth {growth[0]:.0f} MiB"
            flat = verdict(growth[1] <= GROWTH_RATIO_MAX * growth[0])
            flat = flat if made >= RELOADS_MIN else "too few reloads to say"
            lines.append(f"| memory after the last reload | ≤ {GROWTH_RATIO_MAX} × | {said} | {flat} |")
    return "\n".join(lines + misbehaved(results))


def verdict(met: bool) -> str:
    """Reached or not."""
    return "reached" if met else "**not reached**"


def tails(results: Results, section: str, case: dict, of: str = "p99.9", beside: str = "reloading", to: str = "still"):
    """A tail beside the other's, round by round."""
    ours = results.values(section, case, beside, "latency_us", of)
    theirs = results.values(section, case, to, "latency_us", of)
    return Spread.of([ours[number] / theirs[number] for number in ours if number in theirs])


def tail_said(tail: Spread | None) -> str:
    """A ratio, and what the rounds lie between."""
    return f"{tail.median:.2f} × ({tail.low:.2f} to {tail.high:.2f})" if tail else "not measured"


def tail_verdict(tail: Spread | None) -> str:
    """Whether the median of the rounds is within the bound."""
    return verdict(tail.median <= TAIL_RATIO_MAX) if tail else "–"


def reloads_made(results: Results, section: str) -> int:
    """Generations that were put in force under load."""
    return sum(results.values(section, {"section": section}, "reloading", "generations").values())


def resident(results: Results, section: str) -> list[float]:
    """Memory after each reload."""
    rounds = results.values(section, {"section": section}, "reloading", "resident_mib")
    return [mib for number in sorted(rounds) for mib in rounds[number]]


def memory_growth(results: Results, section: str) -> tuple[float, float] | None:
    """Memory once a tenth of the reloads was made, and after the last: the medians of a tenth of the reloads each."""
    all_of = resident(results, section)
    tenth = len(all_of) // 10
    if not tenth:
        return None
    return statistics.median(all_of[tenth : 2 * tenth]), statistics.median(all_of[-tenth:])


def reloads(results: Results) -> str:
    """The rounds without and with reloads."""
    lines = ["## Reloads under load", ""]
    lines.append("Medians of the rounds; latencies in µs. CPU: how much of a core the sidecar / Redis had.")
    for section, what in SORTS.items():
        case = {"section": section}
        if not results.cases(section):
            continue
        lines += ["", f"### With {what}", ""]
        lines += ["| | rounds | requests | requests/s | p50 | p99 | p99.9 | max | CPU |", "|---" * 9 + "|"]
        for path in ("still", "reloading"):
            requests = results.values(section, case, path, "requests")
            cells = [f"{len(requests)}", f"{sum(requests.values()):,}"]
            cells += [median(results.spread(section, case, path, "requests_per_second"), "{:,.0f}")]
            for of in ("p50", "p99", "p99.9", "max"):
                cells.append(median(results.spread(section, case, path, "latency_us", of), "{:,.0f}"))
            cells.append(busy(results, section, case, path))
            lines.append(f"| {path} | {' | '.join(cells)} |")
        lines += ["", *ratios(results, section, case), *took(results, section), *memory(results, section)]
    return "\n".join(lines) if len(lines) > 3 else ""


def busy(results: Results, section: str, case: dict, path: str) -> str:
    """How much of a core the sidecar and Redis had."""
    shares = results.busy(section, case, path)
    return " / ".join(f"{shares[of] * 100:.0f} %" for of in ("proxy", "redis") if of in shares)


def ratios(results: Results, section: str, case: dict) -> list[str]:
    """Each percentile beside the round without."""
    told = (f"{of} {tail_said(tails(results, section, case, of))}" for of in ("p50", "p99", "p99.9", "max"))
    return [f"Reloading beside still, round by round: {'; '.join(told)}."]


def took(results: Results, section: str) -> list[str]:
    """How long reloads took."""
    case = {"section": section}
    rounds = results.values(section, case, "reloading", "seconds_each")
    each = sorted(seconds * 1e3 for round_of in rounds.values() for seconds in round_of)
    if not each:
        return []
    spent = sum(results.values(section, case, "reloading", "seconds").values())
    compiled = sum(results.values(section, case, "reloading", "components_compiled").values())
    late = each[min(len(each) - 1, len(each) * 99 // 100)]
    return [
        f"{reloads_made(results, section):,} generations came into force in {spent:.0f} s of load, and {compiled:,} "
        f"components were compiled. From the file to the generation: median {statistics.median(each):.0f} ms, "
        f"p99 {late:.0f} ms, at most {each[-1]:.0f} ms."
    ]


def memory(results: Results, section: str) -> list[str]:
    """The sidecar's memory along the way."""
    at = lambda path: results.spread(section, {"section": section, "memory": True}, path, "resident_mib")
    all_of = resident(results, section)
    if not all_of or not at("before"):
        return []
    steps = [all_of[len(all_of) * tenth // 10] for tenth in range(10)] + [all_of[-1]]
    along = ", ".join(f"{mib:.0f}" for mib in steps)
    ends = "; ".join(f"{path} {median(at(path), '{:.0f}')}" for path in ("after the last", "after a round more"))
    return [f"Resident memory, MiB: before {median(at('before'), '{:.0f}')}; at each tenth {along}; {ends}."]


def hostile(results: Results, options: dict) -> str:
    """What others notice of a policy that misbehaves when it decides."""
    cases = [case for case in results.cases("hostile") if "way" in case]
    if not cases:
        return ""
    rate = options["rate"]
    lines = [
        "## Hostile policies that decide",
        "",
        f"Each way to misbehave is asked for under a prefix of its own; the load goes to keys of other rules. Alone: "
        f"{rate:g} writes a second go to the prefix, and it misbehaves for all. Mixed: as many writes more for which "
        "the same component behaves, so that it is not left alone. Latencies in µs, of the other keys, and beside a "
        "sidecar in the same round that has no such policy. A reply to either that is wrong ends the run.",
    ]
    head = "| | p99 without | p99 alone | beside | p99 mixed | beside | p99.9 mixed | its own, p99 |"
    for sort, (what, _) in SORTS_OF_HOSTILE.items():
        rows = table(what, head, [deciding(results, case) for case in cases if case["sort"] == sort])
        after = results.spread("hostile", {"memory": True}, sort, "resident_mib")
        lines += [*rows, "", f"Resident memory of the sidecar at the end: {median(after, '{:.0f}')} MiB."] if rows else []
    return "\n".join(lines)


def table(what: str, head: str, rows: list[str]) -> list[str]:
    """A table with its heading; nothing where it would be empty."""
    return ["", f"### {what}", "", head, "|---" * (head.count("|") - 1) + "|", *rows] if rows else []


def deciding(results: Results, case: dict) -> str:
    """The row of one way."""
    of = lambda path, name: results.spread("hostile", case, path, "latency_us", name)
    own = results.values("hostile", case, "beside", "others")
    own = [figures["latency_us"]["p99"] for others in own.values() for figures in others.values()]
    cells = [case["way"], median(of("without", "p99"), "{:,.0f}")]
    for path in ("beside", "mixed"):
        cells += [median(of(path, "p99"), "{:,.0f}"), tail_said(tails(results, "hostile", case, "p99", path, "without"))]
    cells += [median(of("mixed", "p99.9"), "{:,.0f}"), median(Spread.of(own), "{:,.0f}")]
    return f"| {' | '.join(cells)} |"


def loading(results: Results) -> str:
    """What others notice of a policy that misbehaves while it is loaded."""
    cases = results.cases("loading")
    if not cases:
        return ""
    lines = [
        "## Hostile policies that are loaded",
        "",
        "Each is put into the folder again and again, and is loaded, or refused with the words that stand here: anything "
        "else ends the run. The latencies are those of other keys.",
    ]
    head = "| | what comes of it | times | p99 without | p99 beside | | p99.9 without | p99.9 beside | |"
    for sort, (_, what) in SORTS_OF_HOSTILE.items():
        lines += table(what, head, [loaded(results, case) for case in cases if case["sort"] == sort])
    return "\n".join(lines)


def loaded(results: Results, case: dict) -> str:
    """The row of one policy."""
    each = results.values("loading", case, "beside", "seconds_each").values()
    refused = results.values("loading", case, "beside", "is_refused_for")
    said = next((why for why in refused.values() if why), None)
    cells = [case["way"], f"refused: {said}" if said else "loaded", str(sum(map(len, each)))]
    for name in ("p99", "p99.9"):
        of = lambda path, name=name: results.spread("loading", case, path, "latency_us", name)
        cells += [median(of("without"), "{:,.0f}"), median(of("beside"), "{:,.0f}")]
        cells.append(tail_said(tails(results, "loading", case, name, "beside", "without")))
    return f"| {' | '.join(cells)} |"


def misbehaved(results: Results) -> list[str]:
    """The rows of the goals for hostile policies: the p99 of other keys beside each, in one line."""
    lines = []
    for section, what, path in (
        ("hostile", "ways to misbehave in a decision, p99 of other keys", "mixed"),
        ("loading", "components and settings that misbehave while they are loaded, p99 of other keys", "beside"),
    ):
        cases = [case for case in results.cases(section) if "way" in case and case["way"] != "well"]
        of = [tails(results, section, case, "p99", path, "without") for case in cases]
        all_of = Spread.of([tail.median for tail in of if tail])
        if all_of:
            lines.append(f"| {len(cases)} {what} | stated | {tail_said(all_of)} beside a sidecar without | below |")
    return lines


def reading(raw: dict) -> str:
    """What to keep in mind."""
    cores = raw["machine"]["cores"]
    lines = ["## Reading this", ""]
    if cores <= 2:
        lines.append(
            f"- {cores} cores: the load generator, the sidecar and Redis want more than that between them, so that "
            "whatever else runs (compiling, a hostile policy's loop) is taken from them."
        )
    lines.append(
        "- A closed loop with 800 requests on their way: a pause of the sidecar shows in all of them, and the p50 is "
        "mostly waiting for one's turn."
    )
    return "\n".join(lines)
