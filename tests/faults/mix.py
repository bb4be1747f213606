"""A mix of faults under load, and its end: what the short test and ./dev soak have in common."""
import pathlib
import time

from driver import Driver, build_clock_shim
from private import PrivateServers
from rig import Rig
from state import wait_quiet

WARM_S = 45.0       # from when on a process's memory is looked at: its caches and pools are filled by then
LONG_S = 300.0      # what lives shorter after that says little: a page more is a percent


def figures(pid):
    """Memory of a process, what of it is its own (no program text, no libraries), and its descriptors."""
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"rss_kb": int(status["VmRSS"].split()[0]), "own_kb": int(status["RssAnon"].split()[0]),
            "descriptors": len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))}


class Memory:
    """Of each process that lives long enough: what it had when it was warm, and what it has at the end."""

    def __init__(self, rig):
        self.rig, self.born, self.warm, self.course = rig, {}, {}, {}

    def look(self):
        now = time.monotonic()
        for process in list(self.rig.slots.values()):
            if not process.running():
                continue
            self.born.setdefault(process.pid, now)
            if process.pid not in self.warm and now - self.born[process.pid] >= WARM_S:
                self.warm[process.pid] = (now, figures(process.pid))
            self.course.setdefault(process.pid, []).append(figures(process.pid)["own_kb"])

    def rows(self):
        now, rows = time.monotonic(), []
        for slot, process in sorted(self.rig.slots.items()):
            if process.running() and process.pid in self.warm:
                since, start = self.warm[process.pid]
                rows.append({"name": f"{slot} (pid {process.pid})", "start": start, "end": figures(process.pid), "seconds": round(now - since),
                             "course": self.course[process.pid]})
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
        memory = Memory(rig)
        began = time.monotonic()
        with rig.load:
            faults = driver.play(plan, began, began + seconds, lambda line: (memory.look(), rig.look(line)))
            while time.monotonic() < began + seconds:
                time.sleep(min(1.0, max(0.0, began + seconds - time.monotonic())))
        recovery = rig.recovered()
        wait_quiet(rig.feed)
        processes = memory.rows()
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


def memory_that_counts(rows):
    return [row for row in rows if row["seconds"] >= LONG_S]
