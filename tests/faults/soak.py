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
    yield f"{'process':26}{'lived, s':>10}{'kB, warm':>10}{'kB, end':>10}{'':>10}{'own, kB':>16}{'descriptors':>16}"
    for row in rows:
        start, end = row["start"], row["end"]
        yield (f"{row['name']:26}{row['seconds']:10}{start['rss_kb']:10}{end['rss_kb']:10}{end['rss_kb'] / start['rss_kb'] * 100 - 100:+8.1f} %"
               f"{start['own_kb']:8} → {end['own_kb']}{start['descriptors']:8} → {end['descriptors']}")
        yield f"    own, from fault to fault: {' '.join(map(str, row['course']))}"


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
