"""Points go in; tables in Markdown and text, and curves (SVG) come out."""
import math

import report

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 450, 230, 62, 14, 44, 34
COLOURS = "#2a6f97", "#bc6c25", "#606c38", "#8d5a97"
NONE = "No run has been written down yet."


def when(seen, done):
    """When so many were done, between the two looks that say it, and the memory at the second. A look: (time, done, memory)."""
    n = next(n for n, sample in enumerate(seen) if n > 0 and sample[1] >= done - 1e-6)
    (since, before, _), (at, after, pss) = seen[n - 1], seen[n]
    return since + (at - since) * (done - before) / (after - before), pss


def cell(value):
    if isinstance(value, float):
        return report.number(value)
    return f"{value:,}" if isinstance(value, int) else report.MINUS if value is None else str(value)


def table(columns, points):
    return [list(columns.values()), *([cell(point.get(key)) for key in columns] for point in points)]


def markdown(columns, points):
    head, *lines = table(columns, points)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def text(columns, points):
    lines = table(columns, points)
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    return "\n".join("  ".join(word.rjust(width) for word, width in zip(line, widths)) for line in lines)


def escaped(words):
    return words.replace("&", "&amp;").replace("<", "&lt;")


def nice(most):
    """The end of an axis: a little above the most, with four equal parts that are easy to read."""
    power = 10 ** math.floor(math.log10(most)) if most > 0 else 1
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= most)


def place_name(x):
    return f"{x:,.0f}" if x >= 10 or x == int(x) else f"{x:.2g}"


def panel(title, x_title, xs, series, is_log, left, top):
    """One plot at a place: `series` is a list of (legend, values), zero at the bottom."""
    most = nice(max([value for _, values in series for value in values if value is not None] or [1]) or 1)
    place = [math.log10(x) if is_log else x for x in xs]
    low, high = min(place), max(place)
    x_of = [left + LEFT + (WIDTH - LEFT - RIGHT) * ((at - low) / (high - low) if high > low else 0.5) for at in place]

    def y_of(value):
        return top + HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most
    parts = [f'<text x="{left + LEFT}" y="{top + 14}" font-weight="bold">{escaped(title)}</text>']
    for part in range(5):
        y = y_of(most * part / 4)
        parts.append(f'<line x1="{left + LEFT}" x2="{left + WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dee2e6"/>'
                     f'<text x="{left + LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{report.number(float(most * part / 4)) if part else 0}</text>')
    parts += [f'<text x="{x:.1f}" y="{top + HEIGHT - BOTTOM + 15}" text-anchor="{"end" if x > left + WIDTH - 40 else "middle"}">{place_name(x_value)}</text>' for x, x_value in zip(x_of, xs)]
    parts.append(f'<text x="{left + WIDTH - RIGHT}" y="{top + HEIGHT - 4}" text-anchor="end">{escaped(x_title)}</text>')
    for n, (legend, values) in enumerate(series):
        line = [(x, y_of(value)) for x, value in zip(x_of, values) if value is not None]
        parts.append(f'<polyline fill="none" stroke="{COLOURS[n]}" stroke-width="2" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in line)}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[n]}"/>' for x, y in line]
        parts.append(f'<text x="{left + LEFT + n * 170}" y="{top + 30}" fill="{COLOURS[n]}">{escaped(legend)}</text>')
    return "".join(parts)


def plot(panels):
    """All of them, two in a line. `panels` are the arguments of panel() without their place."""
    parts = [panel(*panel_, n % 2 * (WIDTH + 20), n // 2 * (HEIGHT + 20)) for n, panel_ in enumerate(panels)]
    width, height = WIDTH * 2 + 20, max(1, (len(panels) + 1) // 2) * (HEIGHT + 20)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
            f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n')
