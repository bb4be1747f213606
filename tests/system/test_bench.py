"""The bench: what it says of samples, and that a run of it measures."""
import json
import os
import subprocess
import sys

import pytest

from feedmill import ROOT

sys.path.insert(0, str(ROOT / "bench"))

import report  # noqa: E402

pytestmark = pytest.mark.once


class Figure:
    name, what, unit, value, is_time, of_floor, limit = "f", "a figure", "rows/s", "rate", False, 0.8, None
    peers = {"express": ("rows", 6), "celery": ("rows", None)}

    def __init__(self, **changes):
        self.__dict__.update(changes)


def samples(*values):
    return [{"value": value} for value in values]


def row(figure, ours, floor=(), **peers):
    return report.row_of(figure, {"ours": samples(*ours), "floor": samples(*floor)}, {peer: [{"rows": v} for v in values] for peer, values in peers.items()})


def test_ratio_is_of_the_rounds_not_of_the_medians():
    """A round that was slow for both says as much as one that was fast for both."""
    found = row(Figure(), (90, 9, 45), (100, 10, 50))
    assert found["floor"]["ratio"] == pytest.approx(0.9) and found["ours"]["median"] == 45 and found["ours"]["spread"] == pytest.approx(81 / 45)


@pytest.mark.parametrize("figure, ours, floor, peers, missed", [
    (Figure(), (80,), (100,), {"express": (10,)}, []), (Figure(), (79,), (100,), {"express": (10,)}, ["≥ 0.8 of floor"]),
    (Figure(), (90,), (100,), {"express": (16,)}, ["≥ 6 × express"]), (Figure(), (90,), (100,), {"celery": (1000,)}, []),
    (Figure(is_time=True, of_floor=1.2), (13,), (10,), {}, ["≤ 1.2 of floor"]), (Figure(is_time=True, of_floor=1.2), (12,), (10,), {}, []),
    (Figure(is_time=True, of_floor=None, limit=32), (33,), (), {}, ["≤ 32 rows/s"]), (Figure(is_time=True, of_floor=None, limit=32), (32,), (), {}, []),
])
def test_goals(figure, ours, floor, peers, missed):
    found = row(figure, ours, floor, **peers)
    assert [goal["goal"] for goal in found["goals"] if not goal["met"]] == missed
    assert report.verdict(found).startswith("missed" if missed else ("met", "no goal"))


def test_tables_and_plot():
    rows = [row(Figure(), (90,), (100,), express=(10,)), row(Figure(name="g", what="another & more", peers={}, of_floor=None), (5,))]
    assert report.text(rows).count("\n") == 2 and report.markdown(rows).count("\n") == 3
    assert "another &amp; more" in report.plot(rows) and report.plot(rows).count("<rect") == 1 + 5 + 4


@pytest.mark.servers("the bench measures on them")
@pytest.mark.skipif("FEED_TEST_BUILD" in os.environ and not os.environ["FEED_TEST_BUILD"].endswith("/build"), reason="figures of another build mean nothing")
def test_a_run_measures(tmp_path):
    subprocess.run(["make", "-s", "bench", "WERROR=1"], cwd=ROOT, check=True, timeout=300, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    done = subprocess.run([sys.executable, ROOT / "bench/run", "--quick", "--no-peers", "--only", "index", "--json", tmp_path / "f.json"], cwd=ROOT, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    figure, = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert figure["name"] == "index" and figure["ours"]["median"] > 0 and figure["floor"]["ratio"] > 0
    assert "index, stories of 190 bytes" in done.stdout


def test_unknown_figure():
    done = subprocess.run([sys.executable, ROOT / "bench/run", "--only", "nothing"], cwd=ROOT, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 1 and "no such figure: nothing (--list names them)" in done.stderr
