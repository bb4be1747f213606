"""Memory over many records: a gateway, a fan-out and an index worker, each of which loses all its connections to the servers again and again.

A number of records goes in; for each tenth of it, what each of the three had in memory when it had done so much.
"""
import threading
import time

from machine import Counter, Failed, handled, lose_connections, posts_script, pss_mib, wait_until, wrk_with_errors
from ours import Ours

PEOPLE, FRIENDS = 1000, 2
PARTS = 10          # of the whole, at which memory is looked at
LOSSES = 100        # of all connections of each, spread evenly
STALL = 180         # seconds without progress


class Watched:
    """One of the three: what it has done and lost so far, and its course."""

    def __init__(self, name, process, counter, count, ports):
        self.name, self.process, self.counter, self.count, self.ports = name, process, counter, count, ports
        self.done, self.losses, self.course, self.moved = 0, 0, [], time.monotonic()

    def look(self):
        """Whether it has done all."""
        if not self.process.running():
            raise Failed(f"{self.name} ended:\n{self.process.output()[-2000:]}")
        done = self.counter()
        if done > self.done:
            self.done, self.moved = done, time.monotonic()
        elif self.done < self.count and time.monotonic() - self.moved > STALL:
            raise Failed(f"{self.name} stands still at {self.done:.0f} of {self.count}")
        while len(self.course) < PARTS and done >= self.count * (len(self.course) + 1) / PARTS:
            self.course.append((pss_mib([self.process.pid]), self.losses))
        if self.losses < LOSSES and done >= self.count * (self.losses + 1) / (LOSSES + 1) and lose_connections(self.process.pid, self.ports):
            self.losses += 1
        return len(self.course) == PARTS and self.losses == LOSSES


class Load(threading.Thread):
    """Posts on 64 connections until there are enough that were answered."""

    def __init__(self, url, count):
        super().__init__(daemon=True)
        self.url, self.count, self.answered, self.failed = url, count, 0, 0

    def run(self):
        while self.answered < self.count:
            figures = wrk_with_errors(self.url, 64, 10, posts_script(PEOPLE), patience=60)
            self.answered += figures["requests"] - figures["errors"]
            self.failed += figures["errors"]


def ports_of(ours):
    return {int(address.rstrip("/").rpartition(":")[2]) for address in (*ours.server("KAFKA_BROKERS").split(","), ours.server("MYSQL_PORT"), ours.server("SEARCH_URL"))}


def check(ours, load):
    """Every post that was answered is there, for every friend once, and can be found."""
    posts, rows = ours.one("SELECT COUNT(*) FROM outbound"), ours.one("SELECT COUNT(*) FROM inbound")
    documents = ours.documents()
    if posts < load.answered or rows != posts * FRIENDS or documents != posts:
        raise Failed(f"{load.answered} posts were answered; {posts} are there, with {rows} inbound rows and {documents} documents")
    return f"{load.answered:,} posts answered, {load.failed} not; {posts:,} are there, {rows:,} inbound rows, {documents:,} documents"


def records(count, say):
    with Ours() as ours:
        ours.ring(PEOPLE, FRIENDS)
        workers = {name: ours.worker(name) for name in ("fanout", "index")}
        gateway, ports = ours.gateway(), ports_of(ours)
        all_of_them = [Watched("gateway", gateway, Counter(gateway.admin, "feedmill_gateway_requests_total", 'status="2xx"'), count, ports),
                       *(Watched(name, worker, lambda worker=worker: handled(worker), count, ports) for name, worker in workers.items())]
        load, told = Load(gateway.url, count), 0
        load.start()
        while not all([one.look() for one in all_of_them]):
            time.sleep(0.2)
            if (least := min(len(one.course) for one in all_of_them)) > told:
                told = least
                say(", ".join(f"{one.name} {one.done:,.0f}: {one.course[-1][0]:.1f} MiB" for one in all_of_them))
        load.join()
        for name in workers:
            wait_until(lambda: ours.lag(name) == 0, f"{name} is through", 600, every=0.5)
        say(check(ours, load))
        return [{"done": count * (part + 1) / PARTS / 1e6, "lost": min(one.course[part][1] for one in all_of_them),
                 **{f"{one.name}_mib": one.course[part][0] for one in all_of_them}} for part in range(PARTS)]
