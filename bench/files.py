#!/usr/bin/env python3
"""Measures the embedded back ends: how much goes through the files of one folder, with no server.

  ./dev bench embedded [--only posts,fanout,backlog,wal,idle] [--wal-minutes N] [--queued N] [--folder DIR]

Prints figures beside their goals; the exit code says nothing of goals, because the machine may be busy with something else.
"""
import argparse
import os
import pathlib
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests/system")]
os.environ["FEED_TEST_STACK"] = "embedded"
from embedded import EmbeddedFeedmill  # noqa: E402
from machine import Failed, cpu_seconds, handled, posts_script, pss_mib, wait_until, wrk  # noqa: E402

AUTHORS = 10_000
FRIENDS = 20
STORY = "river lantern market harbour copper window garden winter letter bridge orchard signal thunder velvet whistle meadow "
BYTES = 190
MIB = 1 << 20


def say(text):
    print(text, flush=True)


class Files(EmbeddedFeedmill):
    """A Feedmill in a folder of its own, with people in it. `with` stops it."""

    def __init__(self, folder, **settings):
        self.scratch = tempfile.TemporaryDirectory(prefix="feedmill-bench-", dir=folder)
        super().__init__(self.scratch.name, **{"kafka.partitions": 8, **settings})
        self.prepare()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            self.stop()
        finally:
            self.scratch.cleanup()

    def people(self, count, friends):
        """In a ring: everyone with that many friends, half on either side."""
        with self.opened("store.db") as db:
            db.execute("BEGIN")
            db.executemany("INSERT INTO participant (id, name) VALUES (?, ?)", ((i, f"user {i}") for i in range(1, count + 1)))
            db.executemany("INSERT INTO friend (participant_id, friend_id, id) VALUES (?, ?, ?)",
                           ((a, (a - 1 + (count - s if side else s)) % count + 1, a * 10000 + s * 2 + side)
                            for a in range(1, count + 1) for s in range(1, friends // 2 + 1) for side in (0, 1)))
            db.execute("COMMIT")

    def queue_posts(self, count, people):
        text = (STORY * 2)[:BYTES]
        for start in range(1, count + 1, 20000):
            self.produce_all("feed.posts", ({"key": str(i % people + 1), "value":
                f'{{"v":1,"id":{i},"from":{i % people + 1},"posted_at":"2026-01-31T12:00:00.000Z","subject":"subject {i}","story":"{text}"}}'}
                for i in range(start, min(start + 20000, count + 1))))

    def work_off(self, name, count):
        """Starts the worker on what is queued: records a second from the first batch that is through until `count` are."""
        worker = self.worker(name)
        first = wait_until(lambda: handled(worker), f"{name} begins", every=0.005)
        began, cpu = time.monotonic(), cpu_seconds([worker.pid])
        last = wait_until(lambda: (n := handled(worker)) >= count and n, f"{name} has done {count}", 600, every=0.02)
        took = time.monotonic() - began
        figures = {"rate": (last - first) / took, "cpu_us": (cpu_seconds([worker.pid]) - cpu) / (last - first) * 1e6, "pss": pss_mib([worker.pid])}
        worker.kill()   # a long backlog is not waited for
        return figures


def syncs_a_second(folder, seconds=2.0):
    """What the disk can do: 4 KiB written behind each other, each with a sync of its own."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        count, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            os.write(file.fileno(), b"\0" * 4096)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.monotonic() - began)


# ---- the figures

def posts(options):
    floor = syncs_a_second(options.folder)
    with Files(options.folder) as files:
        files.people(AUTHORS, 2)
        gateway = files.gateway()
        wrk(gateway.url, 64, 3, posts_script(AUTHORS))     # every author is known
        cpu = cpu_seconds([gateway.pid])
        found = wrk(gateway.url, 64, 6, posts_script(AUTHORS))
        cpu_us = (cpu_seconds([gateway.pid]) - cpu) / (found["rate"] * 6) * 1e6
        say(f"POST, on disk before the answer, 64 connections   {found['rate']:10.0f} /s      goal 10000   p50 {found['p50']:.1f} ms, p99 {found['p99']:.1f} ms, "
            f"{cpu_us:.0f} us of processor a post, gateway {pss_mib([gateway.pid]):.0f} MiB")
        say(f"  the disk alone, a sync for each 4 KiB           {floor:10.0f} /s      {found['rate'] / floor:.1f} posts a sync")


def fanout(options):
    with Files(options.folder) as files:
        files.people(1000, FRIENDS)
        files.queue_posts(20000, 1000)
        found = files.work_off("fanout", 20000)
        rows = files.one("SELECT COUNT(*) FROM inbound")
        if rows != 20000 * FRIENDS:
            raise Failed(f"{rows} inbound rows of 20000 posts")
        say(f"fan-out, {FRIENDS} friends, inbound rows                  {found['rate'] * FRIENDS:10.0f} /s      goal 50000   "
            f"{found['cpu_us'] / FRIENDS:.1f} us of processor a row, worker {found['pss']:.0f} MiB")


def backlog(options):
    """The same work with a little queued and with much: fan-out of the first 10,000, and posts that are added behind them."""
    found = {}
    for queued in (10_000, options.queued):
        with Files(options.folder) as files:
            files.people(1000, FRIENDS)
            files.queue_posts(queued, 1000)
            rate = files.work_off("fanout", 9_500)["rate"]
            gateway = files.gateway()
            wrk(gateway.url, 64, 1, posts_script(1000))
            found[queued] = rate, wrk(gateway.url, 64, 4, posts_script(1000))["rate"]
    few, many = found[10_000], found[options.queued]
    say(f"{options.queued} records queued against 10000: fan-out {many[0] / few[0]:.2f}, posts {many[1] / few[1]:.2f} of the rate      goal 0.95   "
        f"({many[0] * FRIENDS:.0f} against {few[0] * FRIENDS:.0f} rows/s, {many[1]:.0f} against {few[1]:.0f} posts/s)")


def wal(options):
    """Two gateways and two each of three workers write and read for as long as asked; the largest log beside any file is looked for."""
    with Files(options.folder) as files:
        files.people(AUTHORS, 2)
        gateways = [files.gateway() for _ in range(2)]
        workers = [files.worker(name) for name in ("fanout", "index", "command") for _ in range(2)]
        largest, stop, posted = {}, threading.Event(), [0.0, 0.0]

        def look():
            while not stop.wait(0.1):
                for path in files.files.glob("*-wal"):
                    try:
                        largest[path.name.removeprefix(files.prefix)] = max(largest.get(path.name.removeprefix(files.prefix), 0), path.stat().st_size)
                    except OSError:     # begun anew
                        pass

        def post(number):
            posted[number] = wrk(gateways[number].url, 16, max(1, int(options.wal_minutes * 60)), posts_script(AUTHORS), patience=60)["rate"]
        looking = threading.Thread(target=look)
        posting = [threading.Thread(target=post, args=[number]) for number in range(2)]
        for thread in [looking, *posting]:
            thread.start()
        for thread in posting:
            thread.join()
        stop.set()
        looking.join()
        if not all(posted) or not all(process.running() for process in gateways + workers):
            raise Failed("a process ended, or a post failed")
        name, size = max(largest.items(), key=lambda item: item[1])
        say(f"8 processes append and consume for {options.wal_minutes:g} min: largest WAL   {size / MIB:10.1f} MiB     goal below 64   {name}; "
            f"{sum(posted):.0f} posts/s, {files.one('SELECT COUNT(*) FROM inbound')} inbound rows")
        say("  PSS: " + ", ".join(f"{process.name} {pss_mib([process.pid]):.0f} MiB" for process in gateways + workers))


def idle(options):
    with Files(options.folder) as files:
        files.start()
        wait_until(lambda: files.lag("fanout") == 0, "nothing is left to do")
        time.sleep(2)       # what starting has left to do
        before = {process: cpu_seconds([process.pid]) for process in files.processes}
        time.sleep(15)
        used = {process: (cpu_seconds([process.pid]) - spent) / 15 * 100 for process, spent in before.items()}
        say(f"idle processes, of a core: at most                {max(used.values()):10.1f} %       goal below 1")
        say("  PSS: " + ", ".join(f"{process.name} {pss_mib([process.pid]):.0f} MiB" for process in files.processes))


FIGURES = {function.__name__: function for function in (posts, fanout, backlog, wal, idle)}


def main():
    parser = argparse.ArgumentParser(prog="./dev bench embedded", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="FIGURE,…", help=", ".join(FIGURES))
    parser.add_argument("--wal-minutes", type=float, default=0.5, help="how long the WAL is watched (0.5; the goal is about 10)")
    parser.add_argument("--queued", type=int, default=1_000_000, help="records of the long backlog (1000000)")
    parser.add_argument("--folder", default=ROOT / "build/bench", help="where the files go: a local disk (build/bench)")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(FIGURES)
    if set(names) - set(FIGURES):
        parser.error(f"figures are {', '.join(FIGURES)}")
    pathlib.Path(options.folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        FIGURES[name](options)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"bench: {failed}")
