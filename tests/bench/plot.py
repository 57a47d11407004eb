"""The picture: requests a second beside direct Redis, one group of bars a case. Its colours follow the reader's, light
or dark. It knows numbers and labels only."""

from html import escape

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .small { font-size: 11px; fill: #59636e }
.ground { fill: #ffffff } .grid { stroke: #d1d9e0 } .one { stroke: #1f2328; stroke-dasharray: 4 3 }
.spread { stroke: #1f2328; stroke-width: 1.2 }
.c0 { fill: #0969da } .c1 { fill: #1a7f37 } .c2 { fill: #bc4c00 } .c3 { fill: #8250df } .c4 { fill: #59636e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .ground { fill: #0d1117 } .grid { stroke: #3d444d }
.one, .spread { stroke: #e6edf3 }
.c0 { fill: #4493f8 } .c1 { fill: #3fb950 } .c2 { fill: #f0883e } .c3 { fill: #ab7df8 } .c4 { fill: #9198a1 }
}
"""
WIDTH, LEFT, RIGHT, TOP = 860, 250, 40, 74
BAR, GAP = 9, 10


def bars(title: str, series: list[str], groups: list[tuple[str, dict]]) -> str:
    """An SVG file: for every group and series a bar from 0 to its median, with a line from its low to its high."""
    top = max([spread.high for _, values in groups for spread in values.values()] + [1.0])
    step = next(step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1e9) if top / step <= 8)
    most = (int(top / step) + 1) * step
    scale = lambda value: LEFT + value / most * (WIDTH - LEFT - RIGHT)
    present_in = lambda values: [(at, values[name]) for at, name in enumerate(series) if name in values]
    rows = [(label, present_in(values)) for label, values in groups]
    height = TOP + sum(len(present) * BAR + GAP for _, present in rows) + 26
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="16" y="26">{escape(title)}</text>',
        *legend(series),
    ]
    for number in range(round(most / step) + 1):
        x = scale(number * step)
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 24}"/>')
        out.append(f'<text class="small" text-anchor="middle" x="{x:.1f}" y="{height - 8}">{number * step:g} ×</text>')
    y = TOP
    for label, present in rows:
        middle = y + len(present) * BAR / 2 + 4
        out.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{middle:.1f}">{escape(label)}</text>')
        for at, spread in present:
            end, line = scale(spread.median), y + (BAR - 1) / 2
            out.append(f'<rect class="c{at}" x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR - 1}"/>')
            low, high = scale(spread.low), scale(spread.high)
            out.append(f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{line}" y2="{line}"/>')
            y += BAR
        y += GAP
    out.append(f'<line class="one" x1="{scale(1):.1f}" x2="{scale(1):.1f}" y1="{TOP - 8}" y2="{height - 24}"/>')
    return "\n".join([*out, "</svg>", ""])


def legend(series: list[str]) -> list[str]:
    """What the colours mean."""
    out, x = [], 16
    for at, name in enumerate(series):
        out.append(f'<rect class="c{at}" x="{x}" y="42" width="11" height="11"/>')
        out.append(f'<text x="{x + 16}" y="52">{escape(name)}</text>')
        x += 40 + 7 * len(name)
    return out
