"""The report: Markdown for people, from a run's raw data alone. It measures nothing."""

import plot
import servers
from results import Goal, Results, Spread, goals, named

# From here on a report says itself that its figures are not to be believed.
OTHERS_PERCENT_MAX = 10
# Of a core: the load generator hardly ever waited, so that it is what was measured.
LOAD_BUSY_MIN = 0.9
PLACEMENT = {
    False: "Nothing is pinned: the system places the processes, as it does in production.",
    True: "Pinned: the servers and proxies to the first half of the cores, the load generator to the others, the same "
    "for all.",
}


def markdown(raw: dict) -> str:
    """The whole report."""
    results = Results(raw["records"], raw["machine"]["cores"])
    parts = [heading(raw), goal_table(results), pictured(), closed(results), redis_benchmark(results), opened(results)]
    parts += [delayed(results), memory(results), growth(results), decisions(results), reading(raw)]
    return "\n\n".join(part for part in parts if part) + "\n"


def picture(raw: dict) -> str:
    """The picture beside it."""
    results = Results(raw["records"], raw["machine"]["cores"])
    series = ["sidecar", "sidecar, near", "haproxy", "twemproxy"]
    groups = []
    for case in results.cases("closed"):
        to = "direct, TTL" if "direct, TTL" in results.paths("closed", case) else "direct"
        values = {name: results.ratios("closed", case, name, to) for name in series}
        values = {named(name): spread for name, spread in values.items() if spread}
        groups.append((label(case, short=True), values))
    title = "Requests a second beside direct Redis (writes: beside Redis that sets the same lifetimes)"
    return plot.bars(title, [named(name) for name in series], groups)


def heading(raw: dict) -> str:
    """What was measured, where and how."""
    options, versions = raw["options"], raw["machine"]["versions"]
    lines = [f"# Benchmark of {raw['machine']['date']}", "", *machine_lines(raw)]
    for name, how in servers.ABSENT.items():
        said = versions[name]
        lines.append(f"- {named(name)}: {said + '; one thread' if said else f'was not there ({how})'}.")
    lines += [
        f"- All on one machine, over loopback. {PLACEMENT[options['pin']]}",
        f"- {options['rounds']} rounds, each measuring every path once for {options['seconds']:g} s after a warm-up; "
        "medians of the rounds. A ratio is that of two paths of the same round, and what stands in brackets is the "
        "least and the most of the rounds.",
        "- The load generator checks every reply; one that is wrong ends the run. Raw data: `raw.json`.",
    ]
    if "ended" in raw:
        lines += ["", f"**The run ended early:** `{raw['ended'].splitlines()[-1]}`"]
    return "\n".join(lines)


def machine_lines(raw: dict) -> list[str]:
    """What it was measured on."""
    machine, versions = raw["machine"], raw["machine"]["versions"]
    cores = f"{machine['cores']} cores{' of a virtual machine' if machine['virtual'] else ''}"
    return [
        f"- Machine: {machine['cpu']}, {cores}, {machine['memory_mib']} MiB, {machine['kernel']}.",
        f"- Load average before: {', '.join(str(load) for load in machine['load_average'])}. {noise(raw)}",
        f"- Sidecar: {versions['bellwether']}; workers: {raw['options']['workers']}; standard policies.",
        f"- Redis: {versions['redis']}.",
    ]


def noise(raw: dict) -> str:
    """What the machine did beside."""
    spent = raw.get("spent")
    if not spent or not spent["all"]:
        return ""
    share = lambda seconds: max(0.0, 100 * seconds / spent["all"])
    others, stolen = share(spent["all"] - spent["idle"] - spent["stolen"] - spent["ours"]), share(spent["stolen"])
    told = f"During the run others had {others:.0f} % of the processors' time, and the host took {stolen:.1f} %."
    return told if others + stolen < OTHERS_PERCENT_MAX else f"{told} **That is noise: measure on a quiet machine.**"


def goal_table(results: Results) -> str:
    """Every goal and what was reached."""
    lines = [
        "## Goals",
        "",
        "Busy: how much of a core the sidecar / Redis / the load generator had meanwhile. Allowed: the most that these "
        f"{results.cores} cores allow, one thread a process, for the CPU that each process took for a request; it would "
        "need all of them busy all the time. Bare: what a process came to in the same rounds that only shares one "
        "connection to Redis among all clients, counting bytes and reading none of them (for hits one that knows all "
        "replies, for a policy call a policy that does nothing): whoever looks at what passes does that and more.",
        "",
    ]
    lines += ["| | goal | reached | | bare | allowed | busy % |", "|---|---|---|---|---|---|---|"]
    for goal in goals(results):
        bound = f"{'≥' if goal.at_least else '≤'} {goal.form.format(goal.bound)}"
        busy = " / ".join(f"{goal.busy[of] * 100:.0f}" for of in ("proxy", "redis", "load") if of in goal.busy)
        bare = median(goal.bare, goal.form) if goal.bare else ""
        allowed = median(goal.allowed, "{:.2f} ×") if goal.allowed else ""
        lines.append(f"| {goal.what} | {bound} | {reached(goal)} | {verdict(goal)} | {bare} | {allowed} | {busy} |")
    return "\n".join(lines)


def reached(goal: Goal) -> str:
    """The figure, and what the rounds lie between."""
    spread = goal.reached
    if spread is None:
        return f"not measured{f': {goal.missing}' if goal.missing else ''}"
    number = goal.form.split()[0]
    return f"{goal.form.format(spread.median)} ({number.format(spread.low)} to {number.format(spread.high)})"


def verdict(goal: Goal) -> str:
    """Reached or not, and by how much."""
    met = goal.met()
    if met is None:
        return "–"
    if met:
        return "reached"
    return f"**not reached**, {goal.gap()}"


def pictured() -> str:
    """The picture, as the report shows it."""
    return "![Requests a second beside direct Redis](plot.svg)"


def closed(results: Results) -> str:
    """The closed loop, case by case."""
    cases = results.cases("closed")
    if not cases:
        return ""
    lines = [
        "## Closed loop",
        "",
        "Each client sends as soon as it has been answered. CPU is in seconds for a million requests, of the proxy "
        "/ of Redis / of the load generator. † the load generator's thread was busy for over 90 % of the time: it asked "
        "for no more.",
    ]
    for case in cases:
        writes = "direct, TTL" in results.paths("closed", case)
        beside = "beside direct" + (" | beside direct, TTL" if writes else "")
        lines += ["", f"### {label(case)}", ""]
        lines.append(f"| | requests/s | p50 µs | p99 µs | p99.9 µs | CPU | {beside} |")
        lines.append("|---" * (8 if writes else 7) + "|")
        for path in results.paths("closed", case):
            ratios = [ratio(results.ratios("closed", case, path, "direct"))]
            ratios += [ratio(results.ratios("closed", case, path, "direct, TTL"))] if writes else []
            lines.append(f"| {shown(results, 'closed', case, path)} | {' | '.join(ratios)} |")
    if any("near" in record["path"] and record["section"] == "closed" for record in results.records):
        lines += ["", "Hits of the near cache: " + "; ".join(hits(results, "closed")) + "."]
    return "\n".join(lines)


def shown(results: Results, section: str, case: dict, path: str) -> str:
    """The cells that every table of speeds has."""
    rate = median(results.spread(section, case, path, "requests_per_second"), "{:,.0f}")
    busy = " †" if results.busy(section, case, path).get("load", 0) > LOAD_BUSY_MIN else ""
    latencies = [results.spread(section, case, path, "latency_us", of) for of in ("p50", "p99", "p99.9")]
    cells = [named(path), rate + busy, *(median(latency, "{:,.0f}") for latency in latencies)]
    cpu = [results.cpu(section, case, path, of) for of in ("proxy", "redis", "load")]
    return " | ".join([*cells, " / ".join(median(one, "{:.2f}") for one in cpu)])


def hits(results: Results, section: str) -> list[str]:
    """The near cache's hits, by case."""
    told = []
    for case in results.cases(section):
        spread = results.spread(section, case, "sidecar, near", "near_hit_ratio")
        told += [f"{label(case)} {spread.median * 100:.1f} %"] if spread else []
    return told


def redis_benchmark(results: Results) -> str:
    """The same GETs by another tool."""
    cases = results.cases("redis-benchmark")
    if not cases:
        return ""
    lines = ["## The same by redis-benchmark", ""]
    lines += ["GET, 256 bytes, 50 clients; it does not look at what it is answered.", ""]
    lines += ["| pipeline | | requests/s | p50 µs | p99 µs | beside direct |", "|---|---|---|---|---|---|"]
    for case in cases:
        for path in results.paths("redis-benchmark", case):
            spreads = [results.spread("redis-benchmark", case, path, "requests_per_second")]
            spreads += [results.spread("redis-benchmark", case, path, "latency_us", of) for of in ("p50", "p99")]
            cells = " | ".join(median(spread, "{:,.0f}") for spread in spreads)
            beside = ratio(results.ratios("redis-benchmark", case, path, "direct"))
            lines.append(f"| {case['pipeline']} | {named(path)} | {cells} | {beside} |")
    return "\n".join(lines)


def opened(results: Results) -> str:
    """The open loop."""
    case = results.case("open")
    if not case:
        return ""
    lines = [
        f"## Open loop: {case['rate']:,.0f} GETs a second",
        "",
        "256 bytes, 50 clients, half of the slowest path's peak. Latency counts from when a request was due, so that a "
        "pause is paid for by all who had to wait. Sent late: how long after that it went out (p99), which is the "
        "load generator's doing or the machine's, and a part of the latency.",
        "",
        "| | p50 µs | p90 µs | p99 µs | p99.9 µs | max µs | sent late µs | CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in results.paths("open", case):
        spreads = [results.spread("open", case, path, "latency_us", of) for of in ("p50", "p90", "p99", "p99.9", "max")]
        spreads.append(results.spread("open", case, path, "lateness_us", "p99"))
        cpu = [results.cpu("open", case, path, of) for of in ("proxy", "redis", "load")]
        cells = [named(path), *(ranged(spread) for spread in spreads)]
        cells.append(" / ".join(median(one, "{:.2f}") for one in cpu))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def delayed(results: Results) -> str:
    """Redis a millisecond away."""
    cases = results.cases("delay")
    if not cases:
        return ""
    lines = ["## With 1 ms between sidecar and Redis", ""]
    lines.append(
        "GET, 256 bytes. The delay is a process of ours, half of it each way. Busy polling: the worker looks for more "
        "for 200 µs before it sleeps (`busy_poll_us`)."
    )
    for case in cases:
        lines += ["", f"### {case['label']}, {crowd(case)}", ""]
        lines += ["| | requests/s | p50 µs | p99 µs | p99.9 µs | CPU | hits | beside direct |", "|---" * 8 + "|"]
        for path in results.paths("delay", case):
            found = results.spread("delay", case, path, "near_hit_ratio")
            share = f"{found.median * 100:.1f} %" if found else ""
            beside = ratio(results.ratios("delay", case, path, "direct"))
            lines.append(f"| {shown(results, 'delay', case, path)} | {share} | {beside} |")
    return "\n".join(lines)


def memory(results: Results) -> str:
    """What a connection costs in memory."""
    if not results.cases("memory"):
        return ""
    lines = ["## Memory of a connection", ""]
    lines.append(
        "Growth of resident memory over 1,000 connections to a fresh process, KiB a connection. Busy: GET of 256 "
        "bytes, pipeline 16."
    )
    lines += ["", "| | idle, proxy | idle, Redis | busy, proxy | busy, Redis |", "|---|---|---|---|---|"]
    for path in results.paths("memory", {"state": "idle"}):
        cells = []
        for state in ("idle", "busy"):
            for of in ("proxy", "redis"):
                spread = results.spread("memory", {"state": state}, path, "kib_per_connection", of)
                cells.append(median(spread, "{:.1f}"))
        lines.append(f"| {named(path)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def growth(results: Results) -> str:
    """Cost as things grow."""
    lines = ["## As things grow"]
    for section, what in (("rules", "rules without a market"), ("markets", "rules, each with a market")):
        cases = [case for case in results.cases(section) if "start" not in case]
        if not cases:
            continue
        lines += ["", f"### Sidecars with so many {what}", ""]
        recur = "" if section == "rules" else " The markets recur where there are fewer than rules."
        lines += [f"50 clients, pipeline 16, 256 bytes, keys of all the rules.{recur}", ""]
        lines += ["| | start s | memory MiB | | requests/s | p99 µs | CPU of the sidecar | beside the fewest |"]
        lines += ["|---" * 8 + "|"]
        for case in cases:
            paths = results.paths(section, case)
            for path in paths:
                start = results.spread(section, {"start": True}, path, "start_seconds")
                kib = results.spread(section, {"start": True}, path, "resident_kib")
                cells = [f"{int(path):,}{' *' if refused(results, section, path) else ''}"]
                cells += [median(start, "{:.2f}"), f"{kib.median / 1024:.0f}" if kib else ""]
                cells += [case["mix"].upper()]
                cells += [median(results.spread(section, case, path, "requests_per_second"), "{:,.0f}")]
                cells += [median(results.spread(section, case, path, "latency_us", "p99"), "{:,.0f}")]
                cells += [median(results.cpu(section, case, path, "proxy"), "{:.2f}")]
                cells += [ratio(results.ratios(section, case, path, paths[0]))]
                lines.append(f"| {' | '.join(cells)} |")
        lines += refusals(results, section)
    cases = results.cases("connections")
    if cases:
        lines += ["", "### Connections", "", "GET, 256 bytes, pipeline 1; all of them busy.", ""]
        lines += ["| clients | | requests/s | p50 µs | p99 µs | p99.9 µs | CPU | beside direct |", "|---" * 8 + "|"]
        for case in cases:
            for path in results.paths("connections", case):
                beside = ratio(results.ratios("connections", case, path, "direct"))
                lines.append(f"| {case['clients']:,} | {shown(results, 'connections', case, path)} | {beside} |")
    return "\n".join(lines) if len(lines) > 1 else ""


def refused(results: Results, section: str, path: str) -> list[str]:
    """What a sidecar said that did not start."""
    found = results.values(section, {"start": True}, path, "refused")
    return found.get(0, [])


def refusals(results: Results, section: str) -> list[str]:
    """The sidecars that did not start, or only with higher limits."""
    lines = []
    for path in results.paths(section, {"start": True}):
        said = refused(results, section, path)
        if said:
            then = "and not with higher ones either" if len(said) > 1 else "and was measured with higher ones"
            last = said[0].splitlines()[-1]
            last = last if len(last) < 200 else f"{last[:80]} … {last[-80:]}"
            lines += ["", f"\\* {int(path):,} {section}: does not start with the default limits, {then}: `{last}`"]
    return lines


def decisions(results: Results) -> str:
    """What a decision takes."""
    cases = results.cases("decisions")
    if not cases:
        return ""
    lines = ["## Decisions", ""]
    lines += ["In a program of its own, which counts what is allocated (the host's side, not the guest's).", ""]
    lines += ["| | ns | allocations | bytes allocated |", "|---|---|---|---|"]
    for case in cases:
        of = lambda name: results.spread("decisions", case, "sidecar", name)
        nanoseconds, allocations, size = of("nanoseconds"), of("allocations"), of("bytes")
        cells = [case["what"], ranged(nanoseconds), median(allocations, "{:.3g}"), median(size, "{:.0f}")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def reading(raw: dict) -> str:
    """What to keep in mind."""
    cores = raw["machine"]["cores"]
    lines = ["## Reading this", ""]
    if cores <= 2:
        lines.append(
            f"- {cores} cores: with direct Redis two processes are at work, with a proxy three. What a proxy takes, "
            "Redis and the load generator lack; this holds for all proxies alike."
        )
    lines += [
        "- 10,000 keys (1,000 of 16 KiB), all equally likely. Quotes stay in the near cache for a second, and what is "
        "asked for twice in it is kept: so it has the more hits the fewer keys there are. The goals for hits are judged "
        "with the hot keys.",
        "- A proxy that bundles its clients' requests spares Redis system calls, so that it can be faster than direct "
        "Redis with many clients and no pipelines.",
        "- A hit of the near cache over loopback saves Redis's work alone; with Redis elsewhere it saves the way.",
    ]
    return "\n".join(lines)


def label(case: dict, short: bool = False) -> str:
    """A case in words."""
    size = case["value_bytes"]
    size = f"{size // 1024} KiB" if size >= 1024 else f"{size} B"
    mix = "MGET(10)" if case["mix"] == "mget" else case["mix"].upper()
    hot = f", {case['keys']} hot keys" if case.get("label") == "hot" else ""
    if short:
        return f"{mix} {size}, {case['clients']} clients, P {case['pipeline']}{', hot' if hot else ''}"
    return f"{mix}, {size}, {crowd(case)}{hot}"


def crowd(case: dict) -> str:
    """Clients and pipeline in words."""
    return f"{case['clients']} client{'s' if case['clients'] > 1 else ''}, pipeline {case['pipeline']}"


def median(spread: Spread | None, form: str) -> str:
    """The median, or nothing."""
    return form.format(spread.median) if spread else "–"


def ranged(spread: Spread | None) -> str:
    """The median, and what the rounds lie between."""
    return f"{spread.median:,.0f} ({spread.low:,.0f} to {spread.high:,.0f})" if spread else "–"


def ratio(spread: Spread | None) -> str:
    """A ratio, and what the rounds lie between."""
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})" if spread else "–"
