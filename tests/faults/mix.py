"""A mix of faults under load, and its end: what the short test and ./dev soak have in common."""
import pathlib
import time

from checker import MEMORY
from driver import Driver, build_clock_shim
from private import PrivateServers
from rig import Rig
from state import wait_quiet

WARM_S = 45.0       # from when on a process's memory is looked at: its caches and pools are filled by then
REST_S = 45.0       # programs give memory back every 30 s: so long after the end it may take
LONG_S = 300.0      # what lives shorter after that says little: a page more is a percent

# Memory is compared twice. All of it, from when a process is warm. And what is its own, a few MB, in which a leak shows much sooner: from
# when it has seen each kind of fault once, and each server die. Until then it grows with each kind, by the connections, threads and queues that this kind makes
# it have at once for the first time; malloc keeps the most that was ever needed.


def figures(pid):
    """Memory of a process, what of it is its own (no program text, no libraries), and its descriptors."""
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"rss_kb": int(status["VmRSS"].split()[0]), "own_kb": int(status["RssAnon"].split()[0]),
            "descriptors": len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))}


class Memory:
    """Of each process that lives long enough: what it had when it was warm, and when it had seen every kind of fault, and has at the end."""

    def __init__(self, rig, kinds=(), warm_s=WARM_S):
        self.rig, self.kinds, self.warm_s = rig, set(kinds), warm_s
        self.born, self.seen, self.warm, self.settled, self.course = {}, {}, {}, {}, {}

    def look(self, faults=()):
        """After each fault, which may be of more than one kind."""
        now = time.monotonic()
        for process in list(self.rig.slots.values()):
            if process.running():
                self.look_at(process.pid, now, faults)

    def look_at(self, pid, now, faults):
        has = figures(pid)
        if pid in self.born:
            self.seen[pid].update(faults)
        else:       # perhaps this fault has made it
            self.born[pid], self.seen[pid], self.course[pid] = now, set(), []
        if pid not in self.warm and now - self.born[pid] >= self.warm_s:
            self.warm[pid] = (now, has)
        if pid in self.warm and pid not in self.settled and self.kinds <= self.seen[pid]:
            self.settled[pid] = (now, has)
        self.course[pid].append(has["own_kb"])

    def rows_at_rest(self, seconds=REST_S):
        """When nothing is above its bound any more, or the time is up."""
        until = time.monotonic() + seconds
        while any(is_above(row) for row in memory_that_counts(self.rows())) and time.monotonic() < until:
            time.sleep(1)
        return self.rows()

    def rows(self):
        now, rows = time.monotonic(), []
        for slot, process in sorted(self.rig.slots.items()):
            if process.running() and process.pid in self.warm:
                since, start = self.warm[process.pid]
                row = {"name": f"{slot} (pid {process.pid})", "start": start, "end": figures(process.pid), "seconds": round(now - since),
                       "course": self.course[process.pid]}
                if process.pid in self.settled:
                    since, row["settled"] = self.settled[process.pid]
                    row["settled_seconds"] = round(now - since)
                rows.append(row)
        return rows


def run(folder, seed, seconds, every, rate=40.0, replicas=2, gateways=2, say=print, rows=None):
    """Two of everything, a fault every so many seconds, then quiet and the verdict: its report. The memory of each process goes to rows."""
    servers = PrivateServers()
    rig = None
    try:
        servers.up()
        rig = Rig(folder, seed=seed, servers=servers.addresses, replicas=replicas, gateways=gateways, **servers.settings())
        driver = Driver(rig, servers)
        driver.use_clocks(build_clock_shim(pathlib.Path(folder)))
        plan = driver.schedule(seed, seconds, every)
        say(f"seed {seed}, {seconds:.0f} s, {len(plan)} faults:")
        for at, what, arguments in plan:
            say(f"    {at:7.1f} {what} {' '.join(map(str, arguments))}")
        rig.start(rate=rate)
        say(f"history: {rig.history.path}")
        memory = Memory(rig, kinds_in(plan))
        began = time.monotonic()
        with rig.load:
            faults = driver.play(plan, began, began + seconds, lambda line, *fault: (memory.look(kinds_of(*fault)), rig.look(line)))
            while time.monotonic() < began + seconds:
                time.sleep(min(1.0, max(0.0, began + seconds - time.monotonic())))
        recovery = rig.recovered()
        say(f"fenced by Kafka, ended with 1, and started again: {rig.fenced}")
        wait_quiet(rig.feed)
        processes = memory.rows_at_rest()
        if rows is not None:
            rows += processes
        return rig.verdict(f"seed {seed}, {faults} faults in {time.monotonic() - began:.0f} s", recovery, processes=memory_that_counts(processes))
    except AssertionError:
        for slot, process in sorted(rig.slots.items() if rig else ()):
            say(f"---- {slot}, pid {process.pid}: {'running' if process.running() else process.popen.returncode}")
            say("\n".join(process.output().splitlines()[-8:]))
        raise
    finally:
        try:
            if rig is not None:
                rig.close()
        finally:
            servers.down()


def kinds_of(what, arguments):
    return {what, f"without {arguments[0]}"} if what in ("server_kill", "server_restart") else {what}


def kinds_in(plan):
    return {kind for _, what, arguments in plan for kind in kinds_of(what, arguments)}


def is_above(row):
    return row["end"]["rss_kb"] > row["start"]["rss_kb"] * MEMORY or ("settled" in row and row["end"]["own_kb"] > row["settled"]["own_kb"] * MEMORY)


def memory_that_counts(rows, long_s=LONG_S):
    """The rows that are compared, each with what of it is."""
    counts = [dict(row) for row in rows if row["seconds"] >= long_s]
    for row in counts:
        if row.get("settled_seconds", 0) < long_s:
            row.pop("settled", None)
    return counts
