"""Faults from a seed: a schedule that can be printed and played again, and what each of its words does to a rig.

A fault is over, and whatever it has stopped runs again, when its function returns. What is drawn from the seed is the schedule;
which request is under way when a fault comes is up to the machine.
"""
import contextlib
import os
import random
import signal
import struct
import subprocess
import time

import pymysql

from feedmill import wait_for
from proxy import DOWN, UP
from test_points import AT_STOP, POINT_TABLE

HOUR_MS = 3600 * 1000


def build_clock_shim(folder):
    """The library that moves a process's clock; its source is clock_shim.c."""
    library = folder / "clock_shim.so"
    source = os.path.join(os.path.dirname(__file__), "clock_shim.c")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class Clock:
    """The wall clock of one slot's processes."""

    def __init__(self, folder, slot):
        self.file = folder / f"clock-{slot.replace('/', '-')}"
        self.set(0)

    def set(self, ms):
        """Written in place: processes have the file mapped."""
        with open(self.file, "r+b" if self.file.exists() else "w+b") as file:
            file.write(struct.pack("q", ms))

    def environment(self, library):
        return {"LD_PRELOAD": str(library), "FAULT_CLOCK": str(self.file)}


class Driver:
    def __init__(self, rig, servers=None):
        self.rig, self.servers = rig, servers
        self.clocks = {}

    # ---- the schedule

    def schedule(self, seed, seconds, every, kinds=None):
        """[(when, what, arguments)…] for so many seconds."""
        draw = random.Random(f"{seed}/schedule")
        kinds = kinds or [name for name in KINDS if self.servers or name not in NEEDS_SERVERS]
        order, at, plan = [], float(every) / 2, []
        while at < seconds:
            if not order:       # every kind once before any comes again
                order = draw.sample(kinds, len(kinds))
            what = order.pop()
            plan.append((round(at, 1), what, KINDS[what](self, draw)))
            at += every * draw.uniform(0.7, 1.3)
        return plan

    def play(self, plan, began, ends=float("inf"), each=None):
        """Does what the plan says when it says so, or as soon as the fault before is over; where that takes long, the plan's end is left out.
        How many faults there were."""
        for done, (at, what, arguments) in enumerate(plan):
            if time.monotonic() > ends:
                return done
            time.sleep(max(0.0, began + at - time.monotonic()))
            self.do(what, arguments)
            recovery = self.rig.recovered(90)
            line = f"{at:7.1f} s  {what} {' '.join(map(str, arguments))}: recovered in {recovery:.1f} s"
            print(line, flush=True)
            if each:
                each(line, what, arguments)
        return len(plan)

    def do(self, what, arguments):
        self.rig.note(what, arguments=list(arguments), **({"clock": True} if what == "clock" else {}))
        getattr(self, what)(*arguments)
        self.rig.note("over", of=what)

    # ---- processes

    def again(self, slot):
        """Starts what is gone; the environment's clock and gateways' names go with it."""
        self.rig.start_slot(slot)

    def kill(self, slot, pause):
        self.rig.kill(slot)
        time.sleep(pause)
        self.again(slot)

    def term(self, slot):
        self.rig.stop(slot)
        self.again(slot)

    def freeze(self, slot, seconds):
        self.rig.pause(slot)
        time.sleep(seconds)
        self.rig.resume(slot)

    def freeze_in_transaction(self, slot, seconds):
        """Stops in an open transaction, for longer than the session lasts: others take over, and then it goes on."""
        self.rig.stop(slot)
        process = self.rig.start_slot(slot, env={"FAULT": "store.committing:1:stop"}, wait=False)
        with contextlib.suppress(AssertionError):    # nothing to do for it until then: no fault
            self.rig.wait_stopped(slot, 10)
            time.sleep(seconds)
        process.signal(signal.SIGCONT)
        self.rig.wait_slot(slot)

    def point(self, slot, point, passage, action):
        self.rig.stop(slot)
        process = self.rig.start_slot(slot, env={"FAULT": f"{point}:{passage}:{action}"}, wait=False)
        if slot.startswith("gateway/"):
            self.rig.open_gateway(slot)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: process.logged("event=fault "), f"{point} is passed", 10)
        if process.logged("event=fault ") and action == "kill":
            self.rig.wait_dead(slot)
            self.again(slot)
        else:
            self.rig.wait_slot(slot)

    def storm(self, worker, times):
        """One more replica comes, and dies, again and again."""
        for _ in range(times):
            slot = f"{worker}/9"
            self.rig.start_slot(slot, wait=False)
            time.sleep(1.0)
            self.rig.kill(slot)

    def twice(self, topic, count):
        """The last records of a topic once more, at the end of their partitions."""
        self.rig.topics.catch_up()
        for partition, _, record in self.rig.topics.records[topic][-count:]:
            self.rig.feed.produce(topic, record.value(), record.key(), record.headers(), partition)

    # ---- servers

    def server_kill(self, name, pause):
        self.servers.kill(name)
        time.sleep(pause)
        self.servers.start(name)

    def server_restart(self, name):
        self.servers.terminate(name)
        self.servers.start(name)

    def server_freeze(self, name, seconds):
        self.servers.signal(name, signal.SIGSTOP)
        time.sleep(seconds)
        self.servers.signal(name, signal.SIGCONT)

    def database_read_only(self, seconds):
        self.servers.administer("SET GLOBAL read_only = 1")
        time.sleep(seconds)
        self.servers.administer("SET GLOBAL read_only = 0")

    @staticmethod
    def kill_connections(root, times):
        for _ in range(times):
            root.execute("SELECT id FROM information_schema.processlist WHERE user = 'feed'")
            for row in root.fetchall():
                with contextlib.suppress(pymysql.Error):     # it is gone already
                    root.execute(f"KILL {row[0]}")
            time.sleep(0.5)

    def database_kills(self, times):
        """The connections of every program, whatever they are doing."""
        with self.servers.admin() as connection, connection.cursor() as root:
            self.kill_connections(root, times)

    def database_full(self, seconds):
        """No connection is left, and those that are there are killed. Who does it stays connected."""
        with self.servers.admin() as connection, connection.cursor() as root:
            root.execute("SET GLOBAL max_connections = 10")
            self.kill_connections(root, 1)
            time.sleep(seconds)
            root.execute("SET GLOBAL max_connections = 80")

    def database_locks(self, seconds):
        """A rival who holds rows that workers want: they wait, give up, and try again; some are deadlocked with it."""
        with self.servers.admin() as rival, rival.cursor() as cursor:
            rival.select_db(self.rig.feed.database)
            rival.autocommit(False)
            cursor.execute("SELECT * FROM product FOR UPDATE")
            cursor.execute("SELECT * FROM inbound WHERE participant_id > 0 ORDER BY participant_id DESC LIMIT 2000 FOR UPDATE")
            time.sleep(seconds)
            rival.rollback()

    # ---- the network between programs and servers

    def net(self, edge, how, seconds):
        proxy = self.servers.proxies()[edge]
        {"refused": proxy.cut, "reset": lambda: proxy.cut(reset=True), "silent": proxy.hold, "slow": lambda: proxy.slow(0.4),
         "sliced": lambda: proxy.slice(7), "no requests": lambda: proxy.hold(UP), "no replies": lambda: proxy.hold(DOWN)}[how]()
        time.sleep(seconds)
        proxy.restore()
        if how in ("silent", "no requests", "no replies"):
            proxy.drop()        # what was silent that long is broken, as by a router that has forgotten it

    def cut_reply(self, edge, left, times):
        proxy, before = self.servers.proxies()[edge], self.servers.proxies()[edge].replies_cut
        proxy.cut_reply({"mysql": b"\x03COMMIT", "search": b"_bulk", "kafka": b"feed.posts"}[edge], left, times)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: proxy.replies_cut >= before + times, "the replies are cut", 10)
        proxy.restore()

    # ---- time

    def clock(self, slot, ms, seconds):
        self.clocks[slot].set(ms)
        time.sleep(seconds)
        self.clocks[slot].set(0)

    def use_clocks(self, library):
        """Before the rig starts."""
        for slot in self.rig.names():
            if slot.startswith("gateway/"):
                self.clocks[slot] = Clock(self.rig.feed.folder, slot)
                self.rig.environment[slot] = self.clocks[slot].environment(library)


# ---- what a schedule is drawn from: the arguments of each

def any_slot(driver, draw):
    return draw.choice(driver.rig.names())


def any_worker(driver, draw):
    return draw.choice([slot for slot in driver.rig.names() if not slot.startswith("gateway/")])


def any_point(driver, draw):
    point, cases = draw.choice(sorted((point, cases) for point, cases in POINT_TABLE.items() if point not in AT_STOP))
    slot, passage, action = draw.choice(cases)
    number = 1 + draw.randrange(driver.rig.gateway_count if slot.startswith("gateway/") else driver.rig.replicas)
    return f"{slot.partition('/')[0]}/{number}", point, passage + draw.randrange(3), action


def seconds(draw, low, high):
    return round(draw.uniform(low, high), 1)


KINDS = {
    "kill": lambda d, r: (any_slot(d, r), seconds(r, 0, 2)),
    "term": lambda d, r: (any_slot(d, r),),
    "freeze": lambda d, r: (any_slot(d, r), r.choice((0.5, 2.0, 8.0))),
    "freeze_in_transaction": lambda d, r: (r.choice(("fanout", "command")) + f"/{1 + r.randrange(d.rig.replicas)}", 8.0),
    "point": any_point,
    "storm": lambda d, r: (r.choice(d.rig.feed.workers), 3),
    "twice": lambda d, r: (r.choice(("feed.posts", "feed.commands", "feed.chunks")), 50),
    "server_kill": lambda d, r: (r.choice(("mariadb", "kafka", "elasticsearch")), seconds(r, 0, 3)),
    "server_restart": lambda d, r: (r.choice(("mariadb", "kafka", "elasticsearch")),),
    "server_freeze": lambda d, r: (r.choice(("mariadb", "kafka", "elasticsearch")), seconds(r, 1, 7)),
    "database_read_only": lambda d, r: (seconds(r, 1, 5),),
    "database_kills": lambda d, r: (r.randint(1, 5),),
    "database_full": lambda d, r: (seconds(r, 1, 5),),
    "database_locks": lambda d, r: (seconds(r, 1, 5),),
    "net": lambda d, r: (r.choice(("mysql", "search", "kafka")),
                         r.choice(("refused", "reset", "silent", "slow", "sliced", "no requests", "no replies")), seconds(r, 1, 6)),
    "cut_reply": lambda d, r: (r.choice(("mysql", "search", "kafka")), r.randrange(9), r.randint(1, 3)),
    "clock": lambda d, r: (f"gateway/{1 + r.randrange(d.rig.gateway_count)}", r.choice((-HOUR_MS, -5000, -200, 200, 5000, HOUR_MS)), seconds(r, 1, 4)),
}

NEEDS_SERVERS = {"server_kill", "server_restart", "server_freeze", "database_read_only", "database_kills", "database_full", "database_locks", "net", "cut_reply"}
