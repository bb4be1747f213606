"""THE TABLE of scale runs: one thing grows, and each step of it becomes a point: a line of a table, a place on a curve.

A size goes in (of the command line), points come out. What is compared is measured in turn, so that a noisy neighbour meets both.
"""
import contextlib
import dataclasses
import os
import shutil
import statistics
import threading
import time
from typing import Callable

import requests

import curves
from brokers import Brokers
from figures import SEEN_OURS, quiet_town, warm
from flat import records
from machine import PRODUCT_SCRIPT, Failed, cpu_seconds, floor, handled, posts_script, pss_mib, wait_until, wrk
from ours import BYTES, EVERY, STORY, Ours
from feedmill import Client  # the tests' client, which checks each answer


@dataclasses.dataclass
class Run:
    name: str
    what: str
    measure: Callable[[object, Callable[[str], None]], list[dict]]  # a size, and where to say how it goes
    size: str                                       # without a size on the command line
    columns: dict                                   # key of a point -> head of its column; the first is what grows
    curves: list                                    # (title of a plot, {key: legend}); the first column is its x
    is_log: bool = False                            # x


def median_of(samples, key):
    return statistics.median(sample[key] for sample in samples)


def steps(most, parts):
    """Sizes up to the most: 1, 2 and 5 parts of each power of ten, or each power of ten."""
    sizes, power = [], 1
    while power <= most:
        sizes += [part * power for part in parts if part * power <= most]
        power *= 10
    return sizes if sizes and sizes[-1] == most else [*sizes, most]


# ---- one huge author among small ones

HUGE = 2_000_000        # her id; her friends' ids begin behind FIRST
FIRST = 10_000_000
ROUNDS = 3


def befriend_many(ours, count):
    ours.sql(f"INSERT INTO participant VALUES ({HUGE}, 'huge')")
    for at in range(0, count, 100_000):
        ours.sql(f"INSERT INTO friend SELECT {HUGE}, {FIRST} + seq, {FIRST} + seq FROM seq_{at + 1}_to_{min(at + 100_000, count)}")


def wait_for_all(ours, post):
    """Until all friends have it."""
    with ours.question(f"SELECT EXISTS (SELECT 1 FROM outbound WHERE id = {post}) "
                       f"AND NOT EXISTS (SELECT 1 FROM fanout_chunk WHERE post_id = {post} AND done = 0)") as all_have_it:
        wait_until(all_have_it, "all friends have it", 900, EVERY)


def post_to_all(ours, client):
    """Seconds until all friends of the huge author have a post."""
    began = time.monotonic()
    wait_for_all(ours, client.say(HUGE, "to all"))
    return time.monotonic() - began


def small_posts(ours, gateway):
    """How long the posts of small authors take, 100 a second, until a friend can see them; those of this time alone."""
    since = ours.one("SELECT COALESCE(MAX(post_id), 0) FROM inbound WHERE participant_id = 1")
    return floor("visible", MYSQL_DATABASE=ours.database, PORT=gateway.url.rpartition(":")[2], AUTHORS=970, RATE=100, SECONDS=8,
                 SEEN=SEEN_OURS.replace(" ORDER", f" AND i.post_id > {since} ORDER"))


@contextlib.contextmanager
def under_way(ours, gateway, took):
    """One post after another of the huge author, so that there is always one under way."""
    stop = threading.Event()

    def post():
        client = Client(gateway.url)
        while not stop.is_set():
            took.append(post_to_all(ours, client))
    thread = threading.Thread(target=post)
    thread.start()
    try:
        wait_until(lambda: took or ours.one("SELECT EXISTS (SELECT 1 FROM fanout_chunk WHERE done = 0)"), "the first is planned", 60)
        yield
    finally:
        stop.set()
        thread.join()


def raw_insert(ours, count, turn):
    """Seconds of the bare INSERT of so many rows, in as many transactions as there are chunks; for people whom nobody asks about."""
    posts = max(1, count // 5000)
    return floor("insert", MYSQL_DATABASE=ours.database, HUGE=1, POSTS=posts, FRIENDS=min(count, 5000), BATCH=1, THREADS=2, START=100_000 + turn * posts)["seconds"]


def huge_author(count):
    quiet, busy, alone, raw, beside = [], [], [], [], []
    with quiet_town() as (ours, gateway, workers):
        befriend_many(ours, count)
        for turn in range(ROUNDS):
            quiet.append(small_posts(ours, gateway))
            alone.append(post_to_all(ours, Client(gateway.url)))
            raw.append(raw_insert(ours, count, turn))
            with under_way(ours, gateway, beside):
                busy.append(small_posts(ours, gateway))
        pss = [pss_mib([worker.pid]) for worker in workers]
    p99 = [b["visible_p99_ms"] / q["visible_p99_ms"] for q, b in zip(quiet, busy)]
    return {"friends": count, "alone_s": statistics.median(alone), "rows_s": count / statistics.median(alone), "raw": statistics.median(a / r for a, r in zip(alone, raw)),
            "beside_s": statistics.median(beside), "quiet_p50": median_of(quiet, "visible_p50_ms"), "busy_p50": median_of(busy, "visible_p50_ms"),
            "quiet_p99": median_of(quiet, "visible_p99_ms"), "busy_p99": median_of(busy, "visible_p99_ms"), "p99": statistics.median(p99),
            "answer_quiet_p99": median_of(quiet, "answer_p99_ms"), "answer_busy_p99": median_of(busy, "answer_p99_ms"),
            "fanout_pss": pss[0], "chunk_pss": pss[2], "p99_rounds": p99}


def friends(most, say):
    points = []
    for count in [size for size in steps(most, [1]) if size >= min(10_000, most)]:
        points.append(huge_author(count))
        say(f"{count} friends: {points[-1]['alone_s']:.2f} s, p99 of small authors × {points[-1]['p99']:.2f}")
    return points


# ---- a long queue

def drain(ours, name, count, parts=10):
    """When each tenth was done, and the worker's memory then. The first has what passes until the worker has its partitions."""
    worker = ours.worker(name, wait=False)
    wait_until(lambda: worker.logged(r"event=ready .*admin_port="), f"{name} starts", every=0.005)
    seen = [(time.monotonic(), 0, 0)]
    deadline = time.monotonic() + 1800
    while seen[-1][1] < count:
        if time.monotonic() > deadline:
            raise Failed(f"{name} is not through with {count} after 30 minutes")
        time.sleep(0.1)
        done = handled(worker)
        seen.append((time.monotonic(), done, pss_mib([worker.pid])))
    worker.stop()
    points, each, since = [], count / parts, seen[0][0]
    for part in range(1, parts + 1):
        at, pss = curves.when(seen, each * part)
        points.append({"done": part * 100 // parts, f"{name}_rate": each / (at - since), f"{name}_pss": pss})
        since = at
    return points


def backlog(count, say):
    with Ours() as ours:
        ours.ring(1000, 4)
        ours.queue_posts(count, 1000)
        say(f"{count} posts are queued")
        points = drain(ours, "fanout", count)
        say("fan-out is through")
        for point, more in zip(points, drain(ours, "index", count)):
            point.update(more)
        points[-1].update(bytes_on_disk(ours, count))
    return points


def bytes_on_disk(ours, count):
    """Of a record in each store, as far as it tells."""
    address = ours.server("SEARCH_URL")
    requests.post(f"{address}/{ours.index}/_flush", timeout=120).raise_for_status()
    stats = requests.get(f"{address}/{ours.index}/_stats/store", timeout=30).json()
    ours.sql("ANALYZE TABLE outbound")
    rows = ours.one("SELECT data_length + index_length FROM information_schema.tables WHERE table_schema = %s AND table_name = 'outbound'", ours.database)
    return {"document_bytes": stats["_all"]["primaries"]["store"]["size_in_bytes"] / count, "outbound_bytes": float(rows) / count}


# ---- a large table

READERS, AUTHORS, SPREAD = 100_000, 500, 7919   # friends of an author are far from each other in the table
POSTS, FRIENDS = 1000, 200
SPARE = 10 << 30        # bytes that stay free on the disk
ROW = 120               # bytes of a row in the table, at most


def room(ours):
    """Rows that the disk of the database has room for, where it is on this machine."""
    folder = ours.one("SELECT @@datadir")
    return max(0, shutil.disk_usage(folder).free - SPARE) // ROW if os.path.isdir(folder) else 1 << 62


def fill(ours, before, after):
    """Every reader's inbound grows at its end, as it does in life. `before` and `after` are rows of each reader; bare INSERT … SELECT."""
    at_once = max(1, 500_000 // (after - before))
    for reader in range(1, READERS + 1, at_once):
        last = min(reader + at_once - 1, READERS)
        ours.sql(f"INSERT INTO inbound SELECT STRAIGHT_JOIN r.seq, p.seq, 1 FROM seq_{reader}_to_{last} r JOIN seq_{before + 1}_to_{after} p")


def spread_ring(ours):
    ours.insert("friend (participant_id, friend_id, id)",
                (f"({a},{(a - 1 + (READERS - s if side else s)) % READERS * SPREAD % READERS + 1},{a * 1000 + s * 2 + side})"
                 for a in range(1, READERS + 1, READERS // AUTHORS) for s in range(1, FRIENDS // 2 + 1) for side in (0, 1)))


def fan_out_ours(ours, start):
    ours.queue_posts(POSTS, READERS, AUTHORS, start=start)
    database = database_cpu()
    figures = ours.work_off("fanout", POSTS, seconds=900)
    return {"us": 1e6 / (figures["rate"] * FRIENDS), "cpu_us": figures["cpu_us"] / FRIENDS, "database_us": (database_cpu() - database) / (POSTS * FRIENDS) * 1e6}


def database_cpu():
    return cpu_seconds([int(os.environ["MYSQL_PID"])]) if "MYSQL_PID" in os.environ else 0.0


def fan_out_floor(ours, start):
    figures = floor("insert", MYSQL_DATABASE=ours.database, POSTS=POSTS, FRIENDS=FRIENDS, PEOPLE=READERS, AUTHORS=AUTHORS, BYTES=BYTES, START=start, SPREAD=SPREAD)
    return figures["seconds"] / (POSTS * FRIENDS) * 1e6


def table_size(ours):
    """Of the file, in MiB."""
    return ours.one("SELECT (data_length + index_length) / 1048576 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'inbound'", ours.database)


def both_in_turn(ours, start):
    """Ours, the floor, the floor, ours: µs a row of each, and what ours took of the processors. Ids begin behind `start`."""
    ours_found, floor_us = [], []
    for turn, contender in enumerate(("ours", "floor", "floor", "ours")):
        if contender == "ours":
            ours_found.append(fan_out_ours(ours, start + turn * POSTS + 1))
        else:
            floor_us.append(fan_out_floor(ours, start + turn * POSTS))
    return {"ours_us": median_of(ours_found, "us"), "floor_us": statistics.median(floor_us), "ratio": statistics.median(o["us"] / f for o, f in zip(ours_found, floor_us)),
            "cpu_us": median_of(ours_found, "cpu_us"), "database_us": median_of(ours_found, "database_us")}


def rows(most, say):
    points, of_each, measured, start = [], 0, 0, 100_000_000
    with Ours() as ours:
        spread_ring(ours)
        for size in [size for size in steps(most, [1, 2, 5]) if size >= min(1_000_000, most)]:
            after = (size - measured) // READERS
            if after <= of_each:
                continue
            if (after - of_each) * READERS > room(ours):
                say(f"the disk has no room for {size} rows: stopped before")
                break
            began = time.monotonic()
            fill(ours, of_each, after)
            filled, of_each = time.monotonic() - began, after
            ours.sql("ANALYZE TABLE inbound")
            points.append({"rows": (of_each * READERS + measured) / 1e6, "mib": float(table_size(ours)), "fill_s": filled, **both_in_turn(ours, start)})
            start, measured = start + 4 * POSTS, measured + 4 * POSTS * FRIENDS
            say(f"{size} rows: {points[-1]['ours_us']:.2f} µs a row, the floor {points[-1]['floor_us']:.2f} (filled in {filled:.0f} s)")
    return points


# ---- replicas

REPLICA_POSTS, REPLICA_FRIENDS, REPLICA_HUGE = 20_000, 20, 300_000


def all_done(workers):
    return sum(handled(worker) for worker in workers)


def busy_seconds(workers):
    return cpu_seconds([worker.pid for worker in workers])


def replicas_of_fanout(ours, count):
    workers = [ours.worker("fanout") for _ in range(count)]
    ours.queue_posts(2000, 1000)
    wait_until(lambda: all(handled(worker) for worker in workers) and all_done(workers) >= 2000, "every replica works", 120)
    cpu, database = busy_seconds(workers), database_cpu()
    ours.queue_posts(REPLICA_POSTS, 1000, start=2001)
    began, before = time.monotonic(), all_done(workers)
    wait_until(lambda: all_done(workers) >= REPLICA_POSTS + 2000, "the posts are fanned out", 300)
    rate = (REPLICA_POSTS + 2000 - before) * REPLICA_FRIENDS / (time.monotonic() - began)
    written = REPLICA_POSTS * REPLICA_FRIENDS
    return {"fanout": rate, "worker_us": (busy_seconds(workers) - cpu) / written * 1e6, "database_us": (database_cpu() - database) / written * 1e6}, workers


def replicas_of_chunk(ours, count):
    workers = [ours.worker("chunk") for _ in range(count)]
    befriend_many(ours, REPLICA_HUGE)
    took = []
    for post in range(900_000, 900_002):   # the first finds its way, the second is measured
        began = time.monotonic()
        ours.produce("feed.posts", key=str(HUGE), value=(
            f'{{"v":1,"id":{post},"from":{HUGE},"posted_at":"2026-01-31T12:00:00.000Z","subject":"to all","story":"{STORY[:BYTES]}"}}'))
        wait_for_all(ours, post)
        took.append(time.monotonic() - began)
    return REPLICA_HUGE / took[-1]


def replicas(counts, say):
    samples = {count: [] for count in counts}
    for turn in range(ROUNDS):
        for count in counts if turn % 2 == 0 else reversed(counts):
            with Ours(**{"chunk.threads": 1, "fanout.threads": 1}) as ours:
                ours.ring(1000, REPLICA_FRIENDS)
                sample, workers = replicas_of_fanout(ours, count)
                for worker in workers[1:]:
                    worker.stop()
                sample["chunk"] = replicas_of_chunk(ours, count)
            samples[count].append(sample)
            say(f"{count} replicas: fan-out {sample['fanout']:.0f} rows/s, chunk {sample['chunk']:.0f} rows/s")
    return [{"replicas": count, "fanout_times": statistics.median(s["fanout"] / o["fanout"] for s, o in zip(samples[count], samples[counts[0]])),
             "chunk_times": statistics.median(s["chunk"] / o["chunk"] for s, o in zip(samples[count], samples[counts[0]])),
             **{key: median_of(samples[count], key) for key in ("fanout", "worker_us", "database_us", "chunk")}} for count in counts]


# ---- brokers

PEOPLE = 1000
LOADS = {"post1": (1, "outbound", "POST outbound, 1 connection"), "post64": (64, "outbound", "POST outbound, 64 connections"),
         "applied1": (1, "products", "POST products, applied, 1 connection"), "applied64": (64, "products", "POST products, applied, 64 connections")}


@contextlib.contextmanager
def on(brokers):
    """A gateway and a command worker on these brokers."""
    with Ours(servers={"KAFKA_BROKERS": brokers.addresses}) as ours:
        ours.people(PEOPLE)
        ours.worker("command")
        gateway = ours.gateway()
        gateway.port = int(gateway.url.rpartition(":")[2])
        wait_until(lambda: warm(gateway, 64), "products are applied", 60)
        yield gateway


def load(gateway, brokers, name, seconds=6):
    connections, what, _ = LOADS[name]
    cpu = brokers.cpu_seconds()
    path, script = (gateway.url, posts_script(PEOPLE)) if what == "outbound" else (gateway.url + "/products", PRODUCT_SCRIPT)
    figures = wrk(path, connections, seconds, script, patience=20)
    return {**figures, "cpu_us": (brokers.cpu_seconds() - cpu) / (figures["rate"] * seconds) * 1e6}


def warm_up(gateway, brokers, at_most=10):
    """A young JVM translates more than it serves: until processor time per request falls no more."""
    least = float("inf")
    for _ in range(at_most):
        cost = sum(load(gateway, brokers, name, 4)["cpu_us"] for name in ("post64", "applied64"))
        if cost > least * 0.9:
            return
        least = cost


def idle_cores(brokers, seconds=5):
    cpu = brokers.cpu_seconds()
    time.sleep(seconds)
    return (brokers.cpu_seconds() - cpu) / seconds


def brokers(count, say):
    samples = {name: [] for name in LOADS}
    with Brokers(1) as one, Brokers(count) as many, on(one) as on_one, on(many) as on_many:
        sides = {"one": (on_one, one), "many": (on_many, many)}
        for side, (gateway, cluster) in sides.items():
            warm_up(gateway, cluster)
        idle = {f"{side}_idle": idle_cores(cluster) for side, (_, cluster) in sides.items()}
        for turn in range(ROUNDS):
            for name in LOADS:
                order = list(sides) if turn % 2 == 0 else list(reversed(sides))
                found = {side: load(*sides[side], name) for side in order}
                samples[name].append({f"{side}_{key}": value for side, figures in found.items() for key, value in figures.items()})
            say(f"round {turn + 1} of {ROUNDS}")
    return [{"load": LOADS[name][2], "name": name, **{key: median_of(rounds, key) for key in rounds[0]},
             "times": statistics.median(sample["many_rate"] / sample["one_rate"] for sample in rounds),
             "times_p50": statistics.median(sample["many_p50"] / sample["one_p50"] for sample in rounds), **idle, "rounds": rounds}
            for name, rounds in samples.items()]


RUNS = [
    Run("friends", "one huge author among small ones: friends of the huge one", friends, "200000",
        {"friends": "friends", "alone_s": "s until all have it", "rows_s": "rows/s", "raw": "× the raw INSERT", "beside_s": "s beside the small",
         "quiet_p50": "small, quiet: p50 ms", "quiet_p99": "p99 ms", "busy_p50": "small, beside the huge: p50 ms", "busy_p99": "p99 ms", "p99": "p99 / quiet",
         "fanout_pss": "fanout MiB", "chunk_pss": "chunk MiB"},
        [("post of a small author until a friend sees it, p99, ms", {"quiet_p99": "quiet", "busy_p99": "beside the huge author"}),
         ("rows/s to the friends of one author", {"rows_s": "rows/s"})], is_log=True),
    Run("backlog", "a long queue: records queued", backlog, "200000",
        {"done": "% done", "fanout_rate": "fan-out, posts/s", "fanout_pss": "fanout MiB", "index_rate": "index, documents/s", "index_pss": "index MiB"},
        [("a queue worked off, records/s", {"fanout_rate": "fan-out", "index_rate": "index"}), ("memory of the worker, MiB", {"fanout_pss": "fanout", "index_pss": "index"})]),
    Run("records", "memory over so many posts, while every connection to the servers is lost a hundred times", records, "1000000",
        {"done": "million records", "gateway_mib": "gateway MiB", "fanout_mib": "fanout MiB", "index_mib": "index MiB", "lost": "times that all was lost, each"},
        [("memory over many records and lost connections, MiB", {"gateway_mib": "gateway", "fanout_mib": "fanout", "index_mib": "index"})]),
    Run("rows", "fan-out into a large table: inbound rows, at most what the disk has room for", rows, "5000000",
        {"rows": "million rows", "ours_us": "ours, µs a row", "floor_us": "floor, µs a row", "ratio": "ours / floor", "cpu_us": "worker CPU, µs a row",
         "database_us": "database CPU, µs a row", "mib": "table, MiB"},
        [("fan-out into a table that grows, µs a row", {"ours_us": "ours", "floor_us": "floor"})], is_log=True),
    Run("replicas", "replicas of a worker, one thread each", replicas, "1,2,4",
        {"replicas": "replicas", "fanout": "fan-out, rows/s", "fanout_times": "× one", "worker_us": "workers' CPU, µs a row", "database_us": "database CPU, µs a row",
         "chunk": "chunk, rows/s", "chunk_times": "× one"},
        [("replicas, rows/s", {"fanout": "fan-out", "chunk": "chunk"})]),
    Run("brokers", "brokers of one Kafka, replication 3 and min.insync 2, against one broker", brokers, "3",
        {"load": "load", "one_rate": "one broker: /s", "one_p50": "p50 ms", "one_p99": "p99 ms", "one_cpu_us": "broker CPU, µs",
         "many_rate": "all brokers: /s", "many_p50": "p50 ms", "many_p99": "p99 ms", "many_cpu_us": "brokers' CPU, µs", "times": "rate, × one", "times_p50": "p50, × one"},
        []),
]


def sizes(run, text):
    """What the command line says, as the run takes it."""
    if run.name == "replicas":
        return sorted(int(word) for word in text.split(","))
    return int(text)
