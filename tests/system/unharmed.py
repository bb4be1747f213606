"""That bad input has done nothing: no row, no record, no descriptor kept, no error in the log, the same processes still there."""
import concurrent.futures
import os

import requests

from feedmill import Gateway, wait_for

TABLES = ("participant", "friend", "outbound", "inbound", "product", "command", "fanout_chunk")


def rows(feed):
    return dict(zip(TABLES, feed.sql("SELECT " + ",".join(f"(SELECT COUNT(*) FROM {table})" for table in TABLES))[0]))


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def settle(feed):
    """Every worker has done all that there is."""
    for worker in feed.workers:
        wait_for(lambda: feed.lag(worker) == 0, f"{worker} has done all", every=0.05)


class Unharmed:
    """What a Feedmill has at the beginning; check() after each case, check_all() at the end."""

    def __init__(self, feed):
        self.feed = feed
        self.gateway = next(process for process in feed.processes if isinstance(process, Gateway))
        self.warm_up()
        settle(feed)
        self.rows = rows(feed)
        self.ends = self.records()
        self.logged = len(self.gateway.output())
        self.descriptors = descriptors(self.gateway)

    def warm_up(self):
        """Every reader of the gateway gets its connections, and the tests' client its own: they stay."""
        self.feed.client.get("/products?limit=1")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for path in ("/products?limit=1", "/outbound?keywords=anything") * 100:
                pool.submit(requests.get, self.feed.client.url + path, timeout=30)

    def records(self):
        return {topic: self.feed.ends(topic) for topic in ("feed.posts", "feed.commands")}

    def check(self):
        """A new connection is answered, and no row has come or gone."""
        assert requests.get(self.feed.client.url + "/products?limit=1", timeout=30).status_code == 200
        assert rows(self.feed) == self.rows

    def check_all(self):
        assert self.records() == self.ends, "something was put on a topic"
        settle(self.feed)
        self.check()
        assert self.gateway.running()
        wait_for(lambda: descriptors(self.gateway) <= self.descriptors, f"no more descriptors than before, {self.descriptors}")
        log = self.gateway.output()[self.logged:]
        assert "level=error" not in log and "event=start" not in log, log[-3000:]
