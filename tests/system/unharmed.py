"""That bad input has done nothing: no row, no record, no descriptor kept, no error in the log, the same processes still there."""
import contextlib
import os

import requests

from embedded import EMBEDDED_FILES
from feedmill import Gateway, wait_for

TABLES = ("participant", "friend", "outbound", "inbound", "product", "command", "fanout_chunk")
APPLIED = {"command": " WHERE outcome <> 'rejected'"}    # the ledger tells of those too that were given up


def rows(feed):
    return dict(zip(TABLES, feed.sql("SELECT " + ",".join(f"(SELECT COUNT(*) FROM {table}{APPLIED.get(table, '')})" for table in TABLES))[0]))


LISTEN = "0A"


def targets(process):
    """What each descriptor is, as the kernel names it: "socket:[4711]"."""
    for entry in os.scandir(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(entry.path)


def sockets(process):
    """The TCP sockets of the process: its name among the descriptors, local port, state."""
    with open(f"/proc/{process.pid}/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    names = set(targets(process))
    return [(name, local, row[3]) for row in rows if (name := f"socket:[{row[9]}]") in names for local in [row[1].split(":")[1]]]


def wake_ups(process):
    """Its sockets of this machine alone: by these the embedded queue wakes its readers."""
    with open(f"/proc/{process.pid}/net/unix") as table:
        return {f"socket:[{line.split()[6]}]" for line in list(table)[1:]}


def descriptors(process):
    """How many it has, without its own way to its back ends: readers connect when they first read, or open their files then;
    librdkafka connects when it sees fit."""
    tcp = sockets(process)
    ports = {port for _, port, state in tcp if state == LISTEN}
    outgoing = {name for name, port, _ in tcp if port not in ports} | wake_ups(process)
    return sum(target not in outgoing and EMBEDDED_FILES not in target for target in targets(process))


def settle(feed):
    """Every worker has done all that there is."""
    for worker in feed.workers:
        wait_for(lambda: feed.lag(worker) == 0, f"{worker} has done all", every=0.05)


class Unharmed:
    """What a Feedmill has at the beginning; check() after each case, check_all() at the end."""

    def __init__(self, feed):
        self.feed = feed
        self.gateway = next(process for process in feed.processes if isinstance(process, Gateway))
        feed.client.get("/products?limit=1")  # its connection stays
        settle(feed)
        self.rows = rows(feed)
        self.ends = self.records()
        self.logged = len(self.gateway.output())
        self.descriptors = descriptors(self.gateway)

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
