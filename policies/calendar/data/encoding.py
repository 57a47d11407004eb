"""The bytes of calendars.bin. The layout is described in ../src/data.rs."""

import datetime
import zoneinfo

import lz4.block

from layers import DAY_MINUTES, EPOCH, PHASES

MAGIC = b"BWCAL"
FORMAT = 2


def encode(data):
    """All of the file: `data` has the calendars, the markets with their layers, and what is said about the file."""
    calendars, markets = data["calendars"], data["markets"]
    profiles = number_profiles(calendars, markets)
    numbers = {profile: number for number, profile in enumerate(profiles)}
    tables = {c["zone"]: offset_table(c["zone"], data["first"], data["last"]) for c in calendars}
    distinct = sorted(set(tables.values()))
    texts = number_texts(markets)
    names = [(name, number) for number, m in enumerate(markets) for name in [m["name"], *m["aliases"]]]
    names.sort(key=lambda name: fnv1a(name[0].encode()))
    sections = [
        unsigned(len(distinct)) + b"".join(sized(table) for table in distinct),
        unsigned(len(profiles)) + b"".join(encode_profile(profile) for profile in profiles),
        unsigned(len(calendars))
        + b"".join(sized(encode_calendar(c, numbers, distinct.index(tables[c["zone"]]))) for c in calendars),
        unsigned(len(texts)) + b"".join(map(text, texts)),
        unsigned(len(names)) + b"".join(text(name) + unsigned(number) for name, number in names),
        unsigned(len(markets)) + b"".join(encode_market(m, names, calendars, numbers, texts) for m in markets),
    ]
    body = text(data["version"]) + text(data["notice"]) + text(data["reference"]) + b"".join(map(sized, sections))
    packed = lz4.block.compress(body, mode="high_compression", compression=12, store_size=False)
    return MAGIC + bytes([FORMAT]) + fnv1a(body).to_bytes(8, "little") + len(body).to_bytes(4, "little") + packed


def number_profiles(calendars, markets):
    """All daily profiles, the most frequent first so that most numbers take one byte. 0 is the closed day."""
    counts = {}
    for spans in (spans for calendar in calendars for spans in calendar["days"].values()):
        counts[spans] = counts.get(spans, 0) + 1
    for layer in (market["layer"] for market in markets):
        for spans in [p for rule in layer["hours"] for p in rule[4:]] + [fact[2] for fact in layer["facts"]]:
            counts[spans] = counts.get(spans, 0) + 1
    counts.pop((), None)
    return [()] + sorted(counts, key=lambda profile: (-counts[profile], profile))


def number_texts(markets):
    said = {text for market in markets for fact in market["layer"]["facts"] for text in fact[3:] if text}
    return ["", *sorted(said)]


def encode_profile(profile):
    out, cursor = unsigned(len(profile)), 0
    for phase, start, end in profile:
        out += unsigned(PHASES.index(phase)) + signed(start - cursor) + unsigned(end - start)
        cursor = end
    return out


def offset_table(zone, first, last):
    """The zone's offsets from UTC in minutes: the first one, then the minute and the offset of each change."""
    clock = zoneinfo.ZoneInfo(zone)
    first = (first - EPOCH).days * DAY_MINUTES - 7 * DAY_MINUTES
    last = (last - EPOCH).days * DAY_MINUTES + 7 * DAY_MINUTES
    offset = offset_at(clock, first)
    out, count, cursor = b"", 0, 0
    for minute in range(first, last, DAY_MINUTES):
        if offset_at(clock, minute + DAY_MINUTES) == offset:
            continue
        low, high = minute, minute + DAY_MINUTES
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset_at(clock, middle) == offset else (low, middle)
        out += unsigned(high - cursor) + signed(offset_at(clock, high))
        offset, cursor, count = offset_at(clock, high), high, count + 1
    return signed(offset_at(clock, first)) + unsigned(count) + out


def offset_at(clock, minute):
    offset = datetime.datetime.fromtimestamp(minute * 60, clock).utcoffset()
    return offset // datetime.timedelta(minutes=1)


def encode_calendar(calendar, numbers, table):
    first = (calendar["first"] - EPOCH).days
    end = (calendar["last"] - EPOCH).days + 1
    days = [numbers[calendar["days"].get(day, ())] for day in range(first, end)]
    # A calendar whose sessions begin the day before also ends that much earlier: the next one is not known.
    day_start = min(0, min(spans[0][1] for spans in calendar["days"].values()))
    eras, usual = [], [numbers[calendar["usual"][day]] for day in range(first, end)]
    current = [0] * 7
    for index, profile in enumerate(usual):
        weekday = (first + index + 3) % 7
        if current[weekday] != profile:
            eras.append((index, weekday, profile))
            current[weekday] = profile
    closed = [index for index, profile in enumerate(days) if profile == 0 and usual[index] != 0]
    special = [(index, profile) for index, profile in enumerate(days) if profile and usual[index] != profile]

    published = (min(calendar["published-to"], calendar["last"]) - calendar["first"]).days + 1
    out = text(calendar["zone"]) + unsigned(table) + signed(day_start) + unsigned(first) + unsigned(len(days))
    out += unsigned(published) + unsigned(len(eras))
    for (index, weekday, profile), step in zip(eras, steps([era[0] for era in eras])):
        out += unsigned(step * 7 + weekday) + unsigned(profile)
    out += unsigned(len(closed)) + b"".join(map(unsigned, steps(closed)))
    out += unsigned(len(special))
    for (_, profile), step in zip(special, steps([index for index, _ in special])):
        out += unsigned(step) + unsigned(profile)
    return out


def encode_market(market, names, calendars, numbers, texts):
    number = [calendar["name"] for calendar in calendars].index(market["calendar"])
    calendar = calendars[number]
    days = [(market[key] - calendar["first"]).days for key in ("first", "last", "published-to")]
    skipped, count, published = days[0], days[1] + 1 - days[0], days[2] + 1 - days[0]
    out = unsigned([name for name, _ in names].index(market["name"])) + text(market["title"])
    out += unsigned(number) + unsigned(int(market["own"]))
    out += unsigned(skipped) + unsigned(count) + unsigned(published)
    first = (calendar["first"] - EPOCH).days
    return out + sized(encode_layer(market["layer"], first, numbers, texts))


def encode_layer(layer, first, numbers, texts):
    out = unsigned(len(layer["hours"]))
    for known, mask, start, count, old, new in layer["hours"]:
        out += b"".join(map(unsigned, [max(known, 0), mask, start - first, count, numbers[old], numbers[new]]))
    days = steps([fact[0] - first for fact in layer["facts"]])
    out += unsigned(len(days))
    for step, (_, known, profile, note, source) in zip(days, layer["facts"]):
        out += b"".join(map(unsigned, [step, known, numbers[profile], texts.index(note), texts.index(source)]))
    return out


def steps(numbers):
    return [number - before for number, before in zip(numbers, [0, *numbers])]


def unsigned(number):
    """LEB128: seven bits a byte, the lowest first."""
    if number < 0:
        raise ValueError(f"{number} is negative")
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def signed(number):
    """Zigzag: small numbers of either sign stay small."""
    return unsigned(number * 2 if number >= 0 else -number * 2 - 1)


def text(value):
    return sized(value.encode())


def sized(value):
    return unsigned(len(value)) + value


def fnv1a(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest
