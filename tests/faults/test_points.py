"""One test for each place where a process may die: it does, exactly there, is started again, and then everything is compared.

What a name means is in common/base/fault.h; POINT_TABLE names who passes it, and at which passage it happens. Every point of
the sources is in the table."""
import pathlib
import re
import subprocess

import pytest

from feedmill import ROOT, wait_for
from rig import BUILD

# point: [(slot, passage, action), …]
POINT_TABLE = {
    # the gateway: a request understood, sent, reported, answered; a result received; the end
    "gateway.parsed": [("gateway/1", 4, "kill")],
    "gateway.sent": [("gateway/1", 4, "kill")],
    "gateway.reported": [("gateway/1", 4, "kill")],
    "gateway.result": [("gateway/1", 3, "kill")],
    "gateway.reserved": [("gateway/1", 2, "kill")],
    "gateway.keeping": [("gateway/1", 2, "kill")],
    "gateway.kept": [("gateway/1", 2, "kill")],
    "http.answering": [("gateway/1", 6, "kill")],
    "http.answered": [("gateway/1", 6, "kill")],
    "gateway.draining": [("gateway/1", 1, "kill")],
    "gateway.flushed": [("gateway/1", 1, "kill")],
    # a worker: records in hand, effects in place, outputs sent, offsets stored, the end
    "worker.fetched": [("fanout/1", 2, "kill"), ("index/1", 2, "kill")],
    "worker.handled": [("fanout/1", 2, "kill"), ("command/1", 2, "kill"), ("chunk/1", 1, "kill"), ("index/1", 2, "kill")],
    "worker.sent": [("fanout/1", 2, "kill"), ("command/1", 3, "kill")],
    "worker.settled": [("fanout/1", 2, "kill"), ("command/1", 2, "kill"), ("index/1", 1, "kill")],
    "worker.stored": [("fanout/1", 2, "kill"), ("command/1", 2, "kill"), ("chunk/1", 1, "kill"), ("index/1", 1, "kill")],
    "worker.revoked": [("fanout/1", 1, "kill")],
    "worker.draining": [("fanout/1", 1, "kill"), ("command/1", 1, "kill")],
    "worker.left": [("fanout/1", 1, "kill")],
    "consumer.assigned": [("fanout/1", 1, "kill"), ("command/1", 1, "kill")],
    "consumer.committed": [("fanout/1", 1, "kill")],
    # inside a transaction, and around its end
    "store.begun": [("fanout/1", 2, "kill"), ("command/1", 2, "kill")],
    "store.inserting": [("fanout/1", 3, "kill"), ("fanout/1", 2, "err"), ("command/1", 3, "kill"), ("command/1", 2, "err"), ("chunk/1", 1, "err")],
    "store.fanning": [("fanout/1", 2, "kill"), ("fanout/1", 2, "err")],
    "store.committing": [("fanout/1", 2, "kill"), ("command/1", 2, "kill"), ("chunk/1", 1, "kill")],
    "store.committed": [("fanout/1", 2, "kill"), ("fanout/1", 2, "err"), ("command/1", 2, "kill"), ("command/1", 2, "err"), ("chunk/1", 1, "kill"),
                        ("chunk/1", 1, "err")],
    "command.applied": [("command/1", 2, "kill")],
    "fanout.planning": [("fanout/1", 2, "kill")],
    "fanout.planned": [("fanout/1", 1, "kill")],
    "chunk.filling": [("chunk/1", 1, "kill"), ("chunk/1", 2, "kill")],
    # a request to the search engine
    "search.adding": [("index/1", 2, "kill")],
    "search.added": [("index/1", 2, "kill"), ("index/1", 1, "err")],
}

# Of the workers relay and job, which this rig has not.
ELSEWHERE = "".join((pathlib.Path(__file__).parent / name).read_text() for name in ("test_relay_points.py", "test_job_points.py", "test_job_repeats.py"))

AT_STOP = {"gateway.draining", "gateway.flushed", "worker.revoked", "worker.draining", "worker.left", "consumer.committed"}


def test_every_point_has_its_test():
    text = "".join(path.read_text() for folder in ("common", "api-gateway", "workers") for path in (ROOT / folder).rglob("*.c"))
    points = set(re.findall(r'FAULT_(?:POINT|FAILS)\("([^"]+)"\)', text))
    assert {point for point in points if f'"{point}"' not in ELSEWHERE} == set(POINT_TABLE)


def test_a_usual_build_has_no_points():
    for program in ("feed-gateway", "feed-worker", "feedctl"):
        usual, faults = (subprocess.run(["nm", build / program], capture_output=True, text=True, check=True).stdout for build in (ROOT / "build", BUILD))
        assert " fault_at" in faults and " fault_" not in usual


def test_a_fault_that_is_not_understood_ends_the_process(shared_rig):
    rig = shared_rig
    for wrong in ("x", "store.begun:0:kill", "store.begun:1:explode"):
        rig.stop("fanout/1")
        rig.start_slot("fanout/1", env={"FAULT": wrong}, wait=False)
        assert rig.wait_dead("fanout/1") == 2
        rig.feed.processes.remove(rig.slots["fanout/1"])
        rig.start_slot("fanout/1")


def cases():
    """The first of each point always; the others, at other workers, with --long."""
    for point, all in POINT_TABLE.items():
        for n, case in enumerate(all):
            yield pytest.param(point, *case, marks=[pytest.mark.long] if n else [])


@pytest.mark.parametrize("point, slot, passage, action", list(cases()))
def test_point(shared_rig, point, slot, passage, action):
    rig = shared_rig
    rig.stop(slot)
    process = rig.start_slot(slot, env={"FAULT": f"{point}:{passage}:{action}"}, wait=False)
    if slot.startswith("gateway/"):
        rig.open_gateway(slot)
    rig.note(f"{point}:{passage}:{action}", slot=slot)

    def happened():
        return process.logged(rf"event=fault point={re.escape(point)} ")

    def poke():
        """Whatever the load does, something for the planner and those behind it, and something with a key."""
        return happened() or not (rig.prober.post(rig.load.long_author), rig.poker.product(key=rig.poker.token()))
    if point in AT_STOP:
        process.wait_ready()
    with rig.load:
        if point in AT_STOP:
            wait_for(lambda: sum(event["type"] == "ok" for event in rig.history.events[-50:]) > 5, "the load runs")
            process.ask_to_stop()
        wait_for(happened if point in AT_STOP else poke, f"{point} is passed", 60, every=0.05)
        if action == "kill":
            assert rig.wait_dead(slot) == -9
            rig.start_slot(slot)
        recovery = rig.recovered()
    rig.verdict(f"{point} of {slot}, {action}", recovery)
