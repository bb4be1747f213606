"""THE TABLE of figures: what is measured of us, of a floor that does the same I/O, and of which metric of the peers; and the goals.

A function measures one contender once, and returns its value under "rate" (or what `value` names) beside whatever else is worth
keeping. Ours and the floor's follow each other in each round, in turn first.
"""
import concurrent.futures
import contextlib
import dataclasses
import json
import tempfile
import time
import urllib.parse
from typing import Callable

import pika

from machine import PRODUCT_SCRIPT, Counter, Failed, floor, floor_server, handled, posts_script, taken, taking, wait_until, wrk, wrk_on
from ours import BYTES, EVERY, PARTITIONS, Ours
from conftest import Cluster  # tests/interop: a RabbitMQ virtual host with job workers; found since ours.py says where
from feedmill import Client  # the tests' client, which checks each answer
from flood import family_of

QUICK, FULL = "quick", "full"


@dataclasses.dataclass
class Figure:
    name: str
    what: str
    unit: str
    ours: Callable | tuple[str, str]                # a function, or a value that another figure's run brings along
    floor: Callable | None = None
    of_floor: float | None = None                   # goal: at least so much of the floor (a time: at most)
    peers: dict = dataclasses.field(default_factory=dict)   # peer -> (metric, goal: at least so many times it, or None)
    value: str = "rate"
    is_time: bool = False                           # less is better
    limit: float | None = None                      # goal: at most so much
    only: str | None = None                         # FULL: not in a quick run


# ---- POST, durable

AUTHORS = 100_000


def seconds(size):
    return 3 if size == QUICK else 6


def let_know(gateway):
    """Each author posts, so that the gateway's cache has all of them."""
    posts = 0
    for _ in range(20):
        posts += int(wrk(gateway.url, 100, 3, posts_script(AUTHORS, posts))["rate"] * 3)
        if posts > AUTHORS * 1.02:  # some seconds are a little shorter
            return
    raise Failed(f"{posts} posts in a minute: the gateway does not know all authors")


def post_ours(connections):
    def measure(size):
        with Ours() as ours:
            ours.people(AUTHORS)
            gateway = ours.gateway()
            let_know(gateway)
            return wrk_on([gateway.pid], gateway.url, connections, seconds(size), posts_script(AUTHORS))
    return measure


def post_floor(connections, linger):
    def measure(size):
        with Ours() as ours, floor_server("http_produce", TOPIC=ours.prefix + "feed.posts", LINGER_MS=linger, THREADS=1) as server:
            url = f"http://127.0.0.1:{server.port}/"
            wrk(url, connections, 1, posts_script(AUTHORS))
            return wrk_on([server.pid], url, connections, seconds(size), posts_script(AUTHORS))
    return measure


# ---- fan-out and index

def sizes(friends, size):
    """Posts, people and authors of a run of a few seconds."""
    posts = {20: 30_000, 50: 16_000, 200: 5_000, 1000: 1_000}[friends] // (3 if size == QUICK else 1)
    people = max(1000, friends * 2)
    return posts, people, min(people, 100_000 // friends)


def fanout_ours(friends):
    def measure(size):
        posts, people, authors = sizes(friends, size)
        with Ours() as ours:
            ours.ring(people, friends, authors)
            ours.queue_posts(posts, people, authors)
            figures = ours.work_off("fanout", posts)
            rows = ours.one("SELECT COUNT(*) FROM inbound")
            if rows != posts * friends:
                raise Failed(f"{rows} inbound rows of {posts} posts")
            return {**figures, "rate": figures["rate"] * friends, "cpu_us": figures["cpu_us"] / friends}
    return measure


def insert_floor(ours, friends, posts, people, authors):
    return floor("insert", MYSQL_DATABASE=ours.database, POSTS=posts, FRIENDS=friends, PEOPLE=people, AUTHORS=authors, BYTES=BYTES)


def fanout_floor(friends):
    def measure(size):
        posts, people, authors = sizes(friends, size)
        with Ours() as ours:
            figures = insert_floor(ours, friends, posts, people, authors)
            return {"rate": figures["rows_per_s"], **taken(figures, posts * friends)}
    return measure


def docs(size):
    return 20_000 if size == QUICK else 60_000


def index_ours(size):
    with Ours() as ours:
        ours.queue_posts(docs(size), 1000)
        figures = ours.work_off("index", docs(size))
        if ours.documents() != docs(size):
            raise Failed("documents are missing")
        return figures


def index_floor(size):
    with Ours() as ours:
        figures = floor("bulk", SEARCH_INDEX=ours.index, DOCS=docs(size), BATCH=500, BYTES=BYTES)
        return {"rate": figures["docs_per_s"], **taken(figures, docs(size))}


def both_ours(size):
    posts, people, authors = sizes(20, size)
    with Ours() as ours:
        ours.ring(people, 20, authors)
        ours.queue_posts(posts, people, authors)
        workers = [ours.worker(name, wait=False) for name in ("fanout", "index")]
        for worker in workers:
            wait_until(lambda: worker.logged(r"event=ready .*admin_port="), "a worker starts", every=0.005)
        first = wait_until(lambda: min(map(handled, workers)), "both begin", every=0.005)
        figures = {}
        with taking([worker.pid for worker in workers], figures, posts - first):
            began = time.monotonic()
            wait_until(lambda: all(handled(worker) >= posts for worker in workers), "both are through", 300, EVERY)
            figures["rate"] = (posts - first) / (time.monotonic() - began)
        return figures


def both_floor(size):
    posts, people, authors = sizes(20, size)
    with Ours() as ours:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            began = time.monotonic()
            sides = [pool.submit(insert_floor, ours, 20, posts, people, authors), pool.submit(floor, "bulk", SEARCH_INDEX=ours.index, DOCS=posts, BATCH=500, BYTES=BYTES)]
            took = [taken(side.result(), posts) for side in sides]
            return {"rate": posts / (time.monotonic() - began), **{key: sum(side[key] for side in took) for key in ("cpu_us", "pss")}}


# ---- one huge author

def huge(size):
    return 100_000 if size == QUICK else 1_000_000


def huge_ours(size):
    friends = huge(size)
    with Ours() as ours:
        ours.people(2)
        ours.insert("friend (participant_id, friend_id, id)", (f"(1,{f},{f})" for f in range(10, 10 + friends)), 20_000)
        workers = [ours.worker(name) for name in ("fanout", "chunk")]
        gateway, figures = ours.gateway(), {}
        with (ours.question("SELECT EXISTS (SELECT 1 FROM outbound) AND NOT EXISTS (SELECT 1 FROM fanout_chunk WHERE done = 0)") as all_have_it,
              taking([program.pid for program in (gateway, *workers)], figures, friends)):
            began = time.monotonic()
            answer = Client(gateway.url).say(1, "to all")
            wait_until(all_have_it, "all friends have it", 600, EVERY)
            figures["rate"] = time.monotonic() - began
        if ours.one("SELECT COUNT(*) FROM inbound WHERE post_id = %s", answer) != friends:
            raise Failed("some friends do not have it")
        return figures


def huge_floor(size):
    with Ours() as ours:
        figures = floor("insert", MYSQL_DATABASE=ours.database, HUGE=1, POSTS=huge(size) // 5000, FRIENDS=5000, BATCH=1, THREADS=2)
        return {"rate": figures["seconds"], **taken(figures, huge(size))}


# ---- when a friend sees it

SEEN_OURS = "SELECT o.subject FROM inbound i JOIN outbound o ON o.id = i.post_id WHERE i.participant_id = 1 ORDER BY i.post_id DESC LIMIT"


FAN_OUT = ("fanout", "chunk")
ALL = (*FAN_OUT, "index")


@contextlib.contextmanager
def quiet_town(names=ALL):
    """A thousand people who all have participant 1 for a friend beside 20 others, and the programs."""
    with Ours() as ours:
        ours.ring(1000, 20)
        ours.insert("friend (participant_id, friend_id, id)", (f"({i},1,{90_000_000 + i})" for i in range(12, 991)))
        workers = [ours.worker(name) for name in names]
        gateway = ours.gateway()
        wrk(gateway.url, 16, 1, posts_script(1000))
        for name in names:
            wait_until(lambda: ours.lag(name) == 0, "the warm-up is through", 120, every=0.2)
        yield ours, gateway, workers


def visible_ours(rate, names=ALL):
    def measure(size):
        with quiet_town(names) as (ours, gateway, workers):
            took = {}
            with taking([program.pid for program in (gateway, *workers)], took, rate * seconds(size) * 2):
                figures = floor("visible", MYSQL_DATABASE=ours.database, PORT=gateway.url.rpartition(":")[2], AUTHORS=970, RATE=rate, SEEN=SEEN_OURS,
                                SECONDS=seconds(size) * 2)
            return {**figures, **took, "rate": figures["visible_p99_ms"]}
    return measure


def visible_floor(rate):
    def measure(size):
        with Ours() as ours:
            figures = floor("visible", MODE="floor", PARTITIONS=PARTITIONS, MYSQL_DATABASE=ours.database, TOPIC=ours.prefix + "feed.posts", RATE=rate,
                            SEEN=SEEN_OURS, SECONDS=seconds(size) * 2)
            return {**figures, "rate": figures["visible_p99_ms"]}
    return measure


# ---- lists and products

def products_ours(size):
    with Ours() as ours:
        ours.products(10)
        gateway = ours.gateway()
        wrk(gateway.url + "/products", 64, 1)
        return wrk_on([gateway.pid], gateway.url + "/products", 64, seconds(size))


def products_floor(size):
    with Ours() as ours:
        ours.products(10)
        with floor_server("http_select", MYSQL_DATABASE=ours.database, WHAT="products") as server:
            wrk(f"http://127.0.0.1:{server.port}/products", 64, 1)
            return wrk_on([server.pid], f"http://127.0.0.1:{server.port}/products", 64, seconds(size))


def fill_inbound(ours):
    """Participant 1 has 50 posts of 100 bytes."""
    ours.people(2)
    ours.insert("outbound (id, participant_id, posted_at, subject, story)", (f"({i},2,'2026-01-31 12:00:00','subject {i}','{'s' * 100}')" for i in range(1, 51)))
    ours.insert("inbound (participant_id, post_id, from_id)", (f"(1,{i},2)" for i in range(1, 51)))


def inbound_ours(size):
    with Ours() as ours:
        fill_inbound(ours)
        gateway = ours.gateway()
        wrk(gateway.url + "/participant/1/inbound", 64, 1)
        return wrk_on([gateway.pid], gateway.url + "/participant/1/inbound", 64, seconds(size))


def inbound_floor(size):
    with Ours() as ours:
        fill_inbound(ours)
        with floor_server("http_select", MYSQL_DATABASE=ours.database, WHAT="inbound") as server:
            wrk(f"http://127.0.0.1:{server.port}/participant/1/inbound", 64, 1)
            return wrk_on([server.pid], f"http://127.0.0.1:{server.port}/participant/1/inbound", 64, seconds(size))


def product_post_ours(connections):
    def measure(size):
        with Ours() as ours:
            worker, gateway = ours.worker("command"), ours.gateway()
            wrk(gateway.url + "/products", connections, 1, PRODUCT_SCRIPT)
            return wrk_on([gateway.pid, worker.pid], gateway.url + "/products", connections, seconds(size), PRODUCT_SCRIPT)
    return measure


def product_post_floor(connections):
    def measure(size):
        with Ours() as ours:
            # Commands with as many partitions as ours; a gateway has one for its results. What the topics are called does not matter.
            with floor_server("http_applied", PARTITIONS=PARTITIONS, MYSQL_DATABASE=ours.database, TOPIC=ours.prefix + "feed.commands",
                              RESULTS=ours.prefix + "feed.chunks") as server:
                wait_until(lambda: warm(server, 2), "the hops are warm", 60)
                return wrk_on([server.pid], f"http://127.0.0.1:{server.port}/products", connections, seconds(size), PRODUCT_SCRIPT)
    return measure


def warm(server, connections):
    """The floor's consumers begin at the end of their partitions: a request before that is never answered."""
    with contextlib.suppress(Failed):
        return wrk(f"http://127.0.0.1:{server.port}/products", connections, 2, PRODUCT_SCRIPT)


# ---- background jobs

def jobs(size):
    return 20_000 if size == QUICK else 100_000


def queue_jobs(cluster, queue, count):
    """Messages that do nothing, persistent, as a Celery client sends them."""
    app = cluster.app(task_ignore_result=True)
    message = app.amqp.as_task_v2("00000000-0000-4000-8000-000000000000", "echo", (1,), {}, ignore_result=True)
    body = json.dumps(message.body)
    with cluster.channel() as channel:
        channel.queue_declare(queue, durable=True)
        for i in range(count):
            name = f"00000000-0000-4000-8000-{i:012}"
            headers = {**{key: value for key, value in message.headers.items() if value is not None}, "id": name, "root_id": name}
            channel.basic_publish("", queue, body, pika.BasicProperties(content_type="application/json", content_encoding="utf-8", delivery_mode=2,
                                                                        correlation_id=name, headers=headers))


def jobs_ours(pool):
    def measure(size):
        with tempfile.TemporaryDirectory(prefix="feedmill-bench-") as folder:
            cluster = Cluster(folder)
            try:
                queue_jobs(cluster, "celery", jobs(size))
                worker = cluster.job(wait=False, pool=pool, concurrency=2, prefetch_multiplier=256)
                wait_until(lambda: worker.logged(r"event=ready .*admin_port="), "the job worker starts", every=0.005)
                done = Counter(worker.admin, "feedmill_job_runs_total", 'outcome="done"')
                first = wait_until(done, "jobs begin", every=0.005)
                figures = {}
                with taking(family_of(worker.pid), figures, jobs(size) - first):
                    began = time.monotonic()
                    wait_until(lambda: done() >= jobs(size), "all jobs are done", 120, EVERY)
                    figures["rate"] = (jobs(size) - first) / (time.monotonic() - began)
                return figures
            finally:
                cluster.stop()
    return measure


def jobs_floor(size):
    with tempfile.TemporaryDirectory(prefix="feedmill-bench-") as folder:
        cluster = Cluster(folder)
        try:
            queue_jobs(cluster, "floor", jobs(size))
            url = urllib.parse.urlsplit(cluster.url)
            figures = floor("consume_ack", AMQP_HOST=url.hostname, AMQP_PORT=url.port, AMQP_USER=url.username, AMQP_PASSWORD=url.password,
                            AMQP_VHOST=cluster.vhost, QUEUE="floor", MESSAGES=jobs(size), PREFETCH=512)
            return {"rate": figures["messages_per_s"], **taken(figures, jobs(size))}
        finally:
            cluster.stop()


# ---- a long queue

def backlog(count):
    def measure(size):
        posts = min(count, 100_000 if size == QUICK else count)
        with Ours() as ours:
            ours.ring(1000, 20)
            ours.queue_posts(posts, 1000)
            return ours.work_off("fanout", min(posts, 30_000))
    return measure


P = "express", "celery", "celery-threads"


def by(metric, **goals):
    return {peer: (metric, goals.get(peer.replace("-", "_"))) for peer in P}


FIGURES = [
    Figure("post64", "POST outbound, durable, 64 connections", "posts/s", post_ours(64), post_floor(64, 0), 0.8, by("post_outbound", express=3.5, celery=20)),
    Figure("post400", "POST outbound, durable, 400 connections", "posts/s", post_ours(400), post_floor(400, 2), 0.8, by("post_outbound_400", express=8, celery=40)),
    Figure("fanout20", "fan-out, 20 friends", "rows/s", fanout_ours(20), fanout_floor(20), 0.8, by("fanout_rows", express=6, celery=15, celery_threads=7)),
    Figure("fanout50", "fan-out, 50 friends", "rows/s", fanout_ours(50), fanout_floor(50), 0.8),
    Figure("fanout200", "fan-out, 200 friends", "rows/s", fanout_ours(200), fanout_floor(200), 0.8),
    Figure("fanout1000", "fan-out, 1,000 friends", "rows/s", fanout_ours(1000), fanout_floor(1000), 0.8),
    Figure("both", "fan-out and index together", "posts/s", both_ours, both_floor, 0.8, by("fanout_docs", express=4, celery=8)),
    Figure("huge", "one post to 1,000,000 friends", "s", huge_ours, huge_floor, 1.2, is_time=True),
    Figure("visible200", "post to a friend's inbound, p99, 200 posts/s", "ms", visible_ours(200), visible_floor(200), None,
           by("visible_p99_ms", express=0.3, celery=0.3, celery_threads=0.3), is_time=True),
    Figure("visible1000", "post to a friend's inbound, p99, 1,000 posts/s, neither indexed", "ms", visible_ours(1000, FAN_OUT), visible_floor(1000), 2,
           is_time=True),
    Figure("visible1000_all", "the same, ours indexed too", "ms", visible_ours(1000), None, None, is_time=True),
    Figure("index", "index, stories of 190 bytes", "documents/s", index_ours, index_floor, 0.9),
    Figure("products", "GET products, 10 rows, 64 connections", "requests/s", products_ours, products_floor, 0.8, by("get_products", express=4, celery=4)),
    Figure("inbound", "GET inbound, 50 posts of 100 bytes", "requests/s", inbound_ours, inbound_floor, 0.8,
           by("get_inbound", express=4, celery=4)),
    Figure("product64", "POST product, applied, 64 connections", "requests/s", product_post_ours(64), product_post_floor(64), 0.8, by("post_product", express=1.3)),
    Figure("product400", "POST product, applied, 400 connections", "requests/s", product_post_ours(400), product_post_floor(400), 0.8,
           by("post_product_400", express=2.5)),
    Figure("jobs_threads", "jobs that do nothing, in threads", "jobs/s", jobs_ours("threads"), jobs_floor, 0.7,
           {**by("noop", express=3, celery=15), "celery-solo": ("noop", 8)}),
    Figure("jobs_children", "jobs that do nothing, in child processes", "jobs/s", jobs_ours("children"), jobs_floor, 0.4, by("noop")),
    Figure("gateway_memory", "memory of the gateway after its load", "MiB", ("post64", "pss"), None, None,
           by("gateway_pss"), is_time=True, limit=32),
    Figure("worker_memory", "memory of a fan-out worker, two threads", "MiB", ("fanout20", "pss"), None, None,
           by("worker_pss"), is_time=True, limit=24),
    Figure("backlog", "fan-out with 1,000,000 posts queued, against 10,000", "posts/s", backlog(1_000_000), backlog(10_000), 0.95, only=FULL),
]
