"""The same promise without servers: programs on the files of one folder, killed and stopped at random, two of everything, and a
disk that is full."""
import contextlib
import subprocess
import time

import pytest

import mix
from driver import Driver
from embedded import EmbeddedFeedmill
from feedmill import wait_for
from rig import Rig

KINDS = ("kill", "term", "freeze", "point", "storm", "twice")


@pytest.fixture
def make_embedded(folder, seed):
    made = []

    def make(**options):
        made.append(Rig(folder, seed=seed, kind=EmbeddedFeedmill, **options))
        return made[-1]
    yield make
    for rig in made:
        rig.close()


@pytest.mark.parametrize("seconds", [30, pytest.param(300, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_a_mix_on_files(make_embedded, seed, seconds):
    rig = make_embedded(replicas=2, gateways=2)
    driver = Driver(rig)
    plan = driver.schedule(seed, seconds, 3, KINDS)
    print(f"seed {seed}: {plan}")
    rig.start()
    memory = mix.Memory(rig, mix.kinds_in(plan))
    with rig.load:
        driver.play(plan, began := time.monotonic(), began + seconds, lambda line, *fault: (memory.look(mix.kinds_of(*fault)), rig.look(line)))
    rig.verdict(f"{len(plan)} faults on files, seed {seed}", rig.recovered(), processes=mix.memory_that_counts(memory.rows()))


def test_stopped_while_it_writes(make_embedded):
    """Who is stopped inside a transaction keeps the others waiting, and doubles nothing when it goes on."""
    rig = make_embedded(replicas=2).start()
    rig.stop("fanout/1")
    rig.start_slot("fanout/1", env={"FAULT": "store.committing:2:stop"}, wait=False)
    with rig.load:
        rig.wait_stopped("fanout/1")
        time.sleep(2)
        rig.resume("fanout/1")
        recovery = rig.recovered()
    rig.verdict("stopped inside a transaction, on files", recovery)


def test_disk_full(make_embedded, folder):
    """What is answered 200 while the disk fills up is there afterwards; what can't be stored is refused, and nobody dies."""
    small = folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", small], capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a small disk")
    try:
        rig = make_embedded(**{"embedded.folder": str(small / "data")})
        rig.feed.files = small / "data"
        rig.start()
        with rig.load:
            with contextlib.suppress(OSError), open(small / "ballast", "wb") as ballast:
                while True:
                    ballast.write(b"\0" * 65536)
                    ballast.flush()
            refused = wait_for(lambda: [e for e in rig.history.events[-40:] if e["type"] == "fail" and e.get("status") == 503], "posts are refused", 30)
            (small / "ballast").unlink()
            recovery = rig.recovered()
        assert refused and all(process.running() for process in rig.slots.values())
        rig.verdict("disk full, on files", recovery)
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
