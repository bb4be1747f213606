"""The long mix, and its summary: soak.py MINUTES [--seed N] [--every SECONDS]. Started by ./dev soak."""
import argparse
import pathlib
import platform
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

import mix  # noqa: E402  (the paths come first)


def table(rows):
    """Of each process that is left: all of its memory from when it was warm, and its own from when it had seen every kind of fault."""
    yield f"{'process':26}{'warm for':>10}{'kB then':>10}{'now':>8}{'':>10}{'settled for':>13}{'own then':>10}{'now':>8}{'':>10}{'descriptors':>14}"
    for row in rows:
        start, end, settled = row["start"], row["end"], row.get("settled")
        own = f"{row['settled_seconds']:11} s{settled['own_kb']:10}{grown(settled, end, 'own_kb')}" if settled else f"{'':13}{'':10}{end['own_kb']:8}{'':10}"
        yield f"{row['name']:26}{row['seconds']:8} s{start['rss_kb']:10}{grown(start, end, 'rss_kb')}{own}{start['descriptors']:7} → {end['descriptors']}"
        yield f"    own, from fault to fault: {' '.join(map(str, row['course']))}"


def grown(then, now, what):
    return f"{now[what]:8}{now[what] / then[what] * 100 - 100:+8.1f} %"


def main():
    options = argparse.ArgumentParser(description="random faults on two gateways and two replicas of each worker, and what is left of the promise")
    options.add_argument("minutes", type=float, nargs="?", default=60.0)
    options.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    options.add_argument("--every", type=float, default=20.0, help="seconds from fault to fault, about")
    options = options.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="feedmill-soak-"))
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, logs and history in {folder}")
    rows = []
    try:
        report = mix.run(folder, options.seed, options.minutes * 60, options.every, say=lambda line: print(line, flush=True), rows=rows)
    except AssertionError as error:
        print("\n".join(table(rows)))
        print(error)
        sys.exit(1)
    print("\n".join(table(rows)))
    print(f"lost 0, doubled 0: {report.effects} effects of {report.counts['accepted']} posts that were answered 200; seed {options.seed}")


main()
