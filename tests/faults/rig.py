"""A Feedmill under fire: gateways and replicas of workers by name, which can be killed, stopped and started again; a history, and
a load that writes it. Reuses tests/system/feedmill.py for everything that has to do with processes and servers."""
import os
import pathlib
import random
import signal
import threading
import time

from feedmill import ROOT, Client, Feedmill, wait_for
from history import History
from private import state_of
import load
from state import collect, judge, sample, topics_of, wait_quiet

BUILD = pathlib.Path(os.environ.get("FEED_FAULTS_BUILD", ROOT / "build/faults"))

# Small and impatient, so that what takes minutes in production is over in seconds.
SETTINGS = {
    "kafka.partitions": 4, "kafka.session_timeout_ms": 6000, "kafka.message_timeout_ms": 30000, "fanout.chunk": 20, "gateway.wait_ms": 3000,
    "mysql.idle_transaction_s": 3, "mysql.lock_wait_s": 2, "mysql.read_timeout_ms": 5000, "mysql.connect_timeout_ms": 2000, "search.timeout_ms": 10000,
    "worker.drain_timeout_ms": 10000,
}


class Rig:
    """Slots are names such as gateway/1 or fanout/2; what runs in a slot may change, the slot's instance id stays."""

    def __init__(self, folder, seed=1, servers=None, replicas=1, gateways=1, kind=Feedmill, **settings):
        assert (BUILD / "feed-worker").exists(), f"there are no programs with fault points in {BUILD}: make faults"
        self.seed, self.replicas, self.gateway_count = seed, replicas, gateways
        self.feed = kind(folder, servers=servers, build=BUILD, **{**SETTINGS, **settings})
        self.history = History(self.feed.folder / f"{self.feed.name}.history")
        self.gateways = load.Gateways()
        self.slots, self.lock = {}, threading.RLock()
        self.fenced = 0           # members that were started again, because Kafka had fenced them
        self.random = random.Random(seed)
        self.environment = {}     # of a slot's processes, from its next start on
        self.config_of = {}       # likewise: a configuration of its own
        self.prober = load.Client(self.history, self.gateways, "probe", seed)
        self.poker = load.Client(self.history, self.gateways, "poke", seed)
        self.poker.patience_s = 0.0

    # ---- processes

    def start_slot(self, slot, env=None, wait=True):
        kind, _, number = slot.partition("/")
        environment = {**self.environment.get(slot, {}), **(env or {})}
        config = self.config_of.get(slot)
        if kind == "gateway":
            process = self.feed.gateway(config=config, env=environment, wait=False)
        else:
            process = self.feed.worker(kind, config=config, env={"FEEDMILL_INSTANCE": f"r{number}", **environment}, wait=False)
        with self.lock:
            self.slots[slot] = process
        if wait:
            self.wait_slot(slot)
        return process

    def wait_slot(self, slot):
        process = self.slots[slot].wait_ready()
        if slot.startswith("gateway/"):
            self.gateways.add(process.name, process.url)
        return process

    def open_gateway(self, slot):
        """Ready by its own word: nothing is asked over HTTP, where a fault may wait for the n-th answer."""
        process = self.slots[slot]
        port = process.wait_logged(r"event=ready .*\bport=(\d+)")[1]
        self.gateways.add(process.name, f"http://127.0.0.1:{port}")

    def names(self):
        return [f"gateway/{n + 1}" for n in range(self.gateway_count)] + [f"{name}/{n + 1}" for name in self.feed.workers for n in range(self.replicas)]

    def start(self, people=24, clients=4, rate=60.0):
        self.feed.prepare()
        self.topics, self.samples = topics_of(self.feed), []
        for slot in self.names():
            self.start_slot(slot, wait=False)
        for slot in self.names():
            self.wait_slot(slot)
        self.load = load.Load(self.history, self.gateways, self.seed, clients=clients, rate=rate, people=people).prepare()
        return self

    def note(self, what, **more):
        return self.history.add("fault", what=what, **more)

    def out(self, slot):
        """Nobody is sent to it any more."""
        self.gateways.remove(self.slots[slot].name)

    def kill(self, slot):
        self.note("kill -9", slot=slot)
        self.slots[slot].kill()
        self.out(slot)

    def stop(self, slot):
        self.note("SIGTERM", slot=slot)
        self.out(slot)
        assert self.slots[slot].stop() == 0, self.slots[slot].output()[-2000:]

    def pause(self, slot):
        self.note("SIGSTOP", slot=slot)
        self.slots[slot].signal(signal.SIGSTOP)

    def resume(self, slot):
        self.note("SIGCONT", slot=slot)
        self.slots[slot].signal(signal.SIGCONT)

    def wait_dead(self, slot, seconds=30):
        process = self.slots[slot]
        wait_for(lambda: not process.running(), f"{slot} is dead", seconds)
        self.out(slot)
        return process.popen.returncode

    def wait_stopped(self, slot, seconds=30):
        wait_for(lambda: state_of(self.slots[slot].pid) == "T", f"{slot} has stopped itself", seconds)

    def supervise(self):
        """As a service manager: a static member that was fenced has ended with 1, and is started again. Kafka fences a member by its own
        request too, when the answer to an earlier one was lost on the way."""
        for slot, process in list(self.slots.items()):
            if not process.running() and process.popen.returncode == 1 and process.logged("FENCED_INSTANCE_ID"):
                self.note("fenced, started again", slot=slot)
                self.fenced += 1
                self.feed.processes.remove(process)
                self.out(slot)
                self.start_slot(slot)

    # ---- the verdict

    def look(self, when):
        """Committed offsets against what is finished, in the middle of a run."""
        self.samples += sample(self.feed, self.topics, when)

    def client(self):
        """Somebody who asks beside the load: any gateway that is up."""
        place = wait_for(lambda: self.gateways.any(self.random), "a gateway is up")
        return Client(f"http://{place[1][0]}:{place[1][1]}")

    def recovered(self, seconds=60):
        """Until a post is fanned out while its sender waits, and a product made: how long that took."""
        began = time.monotonic()

        def through():
            self.supervise()
            post = self.prober.post(self.load.people[1], wait=2)
            return post.status == 200 and "Preference-Applied" in post.headers and self.prober.product().status == 200
        wait_for(through, "posts and commands go through", seconds, every=0.1)
        return time.monotonic() - began

    def verdict(self, label, recovery=None, **more):
        """Quiet, one read of every sink, the checker; and the figures of the run in one line."""
        quiet = wait_quiet(self.feed)
        state = collect(self.feed, self.topics, self.client(), self.load.people)
        state["samples"] += self.samples
        state.update(more)
        report = judge(self.history, state)
        print(f"{label}: {report.counts['accepted']} posts accepted, {report.counts['unknown']} unknown ({report.counts['unknown_stored']} of them stored), "
              f"{report.effects} effects checked, 0 lost, 0 doubled, "
              + (f"recovered in {recovery:.1f} s, " if recovery is not None else "") + f"quiet after {quiet:.1f} s")
        return report

    def close(self):
        if self.history.file.closed:
            return
        for process in self.feed.processes:
            if process.running():
                process.signal(signal.SIGCONT)
            else:
                process.popen.wait()
        try:
            self.feed.stop()
        finally:
            self.history.close()
