"""Samples go in; medians, spreads, ratios and verdicts come out, as a table of text, of Markdown, and as a plot."""
import statistics

MINUS = "–"


def median(samples):
    return statistics.median(samples) if samples else None


def spread(samples):
    """From the least to the most, as a part of the median."""
    return (max(samples) - min(samples)) / median(samples) if len(samples) > 1 and median(samples) else 0.0


def ratio(ours, other):
    """The median of what each round says, where both were measured in it."""
    pairs = [a / b for a, b in zip(ours, other) if b]
    return median(pairs)


def number(value):
    if value is None:
        return MINUS
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def values(samples, name):
    return [sample[name] for sample in samples if name in sample]


TAKEN = "cpu_us", "pss"  # of the contender's own processes: µs of the processors for each (post, row, request, job), MiB afterwards


def taken(found):
    return {what: median(samples) for what, samples in found.items()}


def taken_of(samples):
    return taken({what: values(samples, what) for what in TAKEN})


def row_of(figure, samples, peer_samples):
    """All that is said about a figure: ours, floor, peers, and each goal with whether it is met."""
    ours, floor = values(samples["ours"], "value"), values(samples.get("floor", []), "value")
    goals = []

    def goal(what, is_met, got):
        goals.append({"goal": what, "met": bool(is_met), "got": got})
    of_floor = ratio(ours, floor) if floor else None
    if figure.of_floor and of_floor:
        goal(f"{'≤' if figure.is_time else '≥'} {figure.of_floor} of floor", of_floor <= figure.of_floor if figure.is_time else of_floor >= figure.of_floor, of_floor)
    if figure.limit and ours:
        goal(f"≤ {figure.limit} {figure.unit}", median(ours) <= figure.limit, median(ours))
    peers = {}
    for peer, (metric, least) in figure.peers.items():
        theirs = values(peer_samples.get(peer, []), metric)
        if not theirs or not ours:
            continue
        times = median(ours) / median(theirs)
        peers[peer] = {"median": median(theirs), "spread": spread(theirs), "ratio": times,
                       **taken({what: values(peer_samples[peer], f"{metric}_{what}") for what in TAKEN})}
        if least:
            goal(f"{'≤' if figure.is_time else '≥'} {least} × {peer}", times <= least if figure.is_time else times >= least, times)
    return {"name": figure.name, "what": figure.what, "unit": figure.unit, "is_time": figure.is_time,
            "ours": {"median": median(ours), "spread": spread(ours), "samples": ours, **taken_of(samples["ours"])},
            "floor": {"median": median(floor), "spread": spread(floor), "samples": floor, "ratio": of_floor, **taken_of(samples["floor"])} if floor else None,
            "peers": peers, "goals": goals}


def times(value):
    return MINUS if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def verdict(row):
    missed = [f"{goal['goal']} ({times(goal['got'])})" for goal in row["goals"] if not goal["met"]]
    return "no goal" if not row["goals"] else "met" if not missed else "missed: " + ", ".join(missed)


HEAD = ["figure", "unit", "ours", "±", "floor", "ours / floor", "Express + BullMQ", "FastAPI + Celery", "… with threads", "goals"]


def cells(row):
    def peer(name):
        found = row["peers"].get(name)
        return f"{number(found['median'])} ({times(found['ratio'])} ×)" if found else MINUS
    floor = row["floor"]
    return [row["what"], row["unit"], number(row["ours"]["median"]), f"{row['ours']['spread'] * 100:.0f} %", number(floor and floor["median"]),
            times(floor and floor["ratio"]), peer("express"), peer("celery"), peer("celery-threads"), verdict(row)]


def figures_table(rows):
    return [HEAD, *map(cells, rows)]


TAKEN_HEAD = ["what it takes: µs of processor for each, MiB", "ours", "floor", "Express + BullMQ", "FastAPI + Celery", "… with threads"]


def taken_cells(row):
    def cell(found):
        return f"{number(found['cpu_us'])} µs, {number(found['pss'])} MiB" if found and found.get("pss") is not None else MINUS
    return [row["what"], cell(row["ours"]), cell(row["floor"]), *(cell(row["peers"].get(name)) for name in ("express", "celery", "celery-threads"))]


def taken_table(rows):
    return [TAKEN_HEAD, *(taken_cells(row) for row in rows if row["ours"].get("pss") is not None)]


def text(table):
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)


def markdown(table):
    return "\n".join("| " + " | ".join(line) + " |" for line in [table[0], ["---"] * len(table[0]), *table[1:]])


def headlines(rows):
    """One short line a figure."""
    def times_of(row, name):
        return f"{times(row['peers'][name]['ratio'])} ×" if name in row["peers"] else MINUS
    head = ["figure", "measured", "of the floor", "of Express + BullMQ", "of FastAPI + Celery"]
    lines = [[row["what"], f"{number(row['ours']['median'])} {row['unit']}", times(row["floor"] and row["floor"]["ratio"]), times_of(row, "express"), times_of(row, "celery")]
             for row in rows]
    return markdown([head, *lines])


def contenders(rows):
    """(figure, who) -> what was found, of all that a run measured; once where several figures show the same of a peer."""
    found = {}
    for row in rows:
        found[row["what"], "ours"] = row["ours"]
        if row["floor"]:
            found[row["what"], "floor"] = row["floor"]
        shown = {(name, one["median"]) for (_, name), one in found.items()}
        found.update({(row["what"], name): peer for name, peer in row["peers"].items() if (name, peer["median"]) not in shown})
    return found


def against(rows, about_before, before):
    """What two runs say of the same: they agree where their medians are no farther apart than the greater of their spreads."""
    now, then = contenders(rows), contenders(before)
    both = [key for key in now if key in then and now[key]["median"] and then[key]["median"]]
    apart = [key for key in both if abs(now[key]["median"] - then[key]["median"])
             > max(found[key]["spread"] * found[key]["median"] for found in (now, then))]
    lines = [f"Against the run before ({about_before['date']}, commit {about_before['version']}): {len(both) - len(apart)} of {len(both)} medians (ours, floors, peers) are no "
             f"farther apart than the greater of the two spreads{'; not:' if apart else '.'}"]
    lines += [f"{what}, {who}: {number(then[what, who]['median'])} then, {number(now[what, who]['median'])} now" for what, who in apart]
    return "\n".join(lines)


COLOURS = {"ours": "#2a6f97", "floor": "#adb5bd", "express": "#bc6c25", "celery": "#606c38", "celery-threads": "#a3b18a", "celery-solo": "#dda15e"}
BAR, GAP, LEFT, WIDTH = 13, 16, 300, 900


def plot(rows):
    """Bars, each figure in units of its floor (or of ours where there is none); a logarithm would hide what matters, so long bars are cut."""
    parts, y = [], 30
    for row in rows:
        unit = row["floor"]["median"] if row["floor"] else row["ours"]["median"]
        bars = [("ours", row["ours"]["median"])] + ([("floor", unit)] if row["floor"] else []) + [(name, peer["median"]) for name, peer in row["peers"].items()]
        parts.append(f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{row["what"].replace("&", "&amp;")}</text>')
        for name, value in bars:
            length = min(value / unit, 2.0) * (WIDTH - LEFT - 110) / 2
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLOURS[name]}"/>'
                         f'<text x="{LEFT + length + 5:.1f}" y="{y + 10}">{number(value)} {row["unit"]}{" …" if value / unit > 2 else ""}</text>')
            y += BAR
        y += GAP
    legend = "".join(f'<rect x="{LEFT + i * 115}" y="8" width="10" height="10" fill="{colour}"/><text x="{LEFT + i * 115 + 14}" y="17">{name}</text>'
                     for i, (name, colour) in enumerate(COLOURS.items()))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="11">'
            f'<rect width="100%" height="100%" fill="white"/>{legend}{"".join(parts)}</svg>\n')
