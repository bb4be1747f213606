"""The bench: what it says of samples, and that a run of it measures."""
import json
import os
import shutil
import subprocess
import sys

import pytest

from feedmill import ROOT

sys.path.insert(0, str(ROOT / "bench"))

import curves  # noqa: E402
import pages  # noqa: E402
import paper  # noqa: E402
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


def test_two_runs_agree_within_the_greater_spread():
    """Spreads are from the least to the most: 30 of 100 here, 4 of 120 there."""
    before, about = [row(Figure(), (85, 100, 115), (50, 50, 50), express=(10, 11))], {"date": "2026-01-31", "version": "abc"}
    assert "3 of 3 medians" in report.against([row(Figure(), (118, 120, 122), (50, 50, 50), express=(10, 11))], about, before)
    text = report.against([row(Figure(), (129, 131, 133), (51, 51, 51), express=(10, 11)), row(Figure(what="new"), (1,))], about, before)
    assert "2026-01-31, commit abc" in text and "1 of 3 medians" in text and "a figure, ours: 100 then, 131 now" in text and "a figure, floor: 50 then, 51 now" in text


def test_what_it_takes_of_processors_and_memory():
    """Of each contender where it was looked at; a figure of which ours was not has no line."""
    took = {"cpu_us": 12.5, "pss": 30}
    figure, samples_of_peers = Figure(), {"express": [{"rows": 10, "rows_cpu_us": 140, "rows_pss": 376}], "celery": [{"rows": 5}]}
    found = report.row_of(figure, {"ours": [{"value": 90, **took}], "floor": [{"value": 100, **took}]}, samples_of_peers)
    head, line = report.taken_table([found, row(Figure(what="not looked at"), (5,))])
    assert line == ["a figure", "12.5 µs, 30 MiB", "12.5 µs, 30 MiB", "140 µs, 376 MiB", "–", "–"] and len(head) == len(line)


def test_tables_and_plot():
    rows = [row(Figure(), (90,), (100,), express=(10,)), row(Figure(name="g", what="another & more", peers={}, of_floor=None), (5,))]
    table = report.figures_table(rows)
    assert report.text(table).count("\n") == 2 and report.markdown(table).count("\n") == 3
    assert "another &amp; more" in report.plot(rows) and report.plot(rows).count("<rect") == 1 + len(report.COLOURS) + 4


# ---- pages

ABOUT = {"date": "2026-01-31", "cores": 2, "processor": "a processor", "rounds": 3, "minutes": 1.5, "version": "abc1234"}


def checkout(folder):
    """The pages that show figures, without samples yet."""
    (folder / "docs").mkdir()
    for path in ("README.md", "docs/performance.md", "docs/scale.md"):
        shutil.copy(ROOT / path, folder / path)
    pages.write(folder)
    return folder


def grown(*rates):
    return {"about": ABOUT, "size": "1,2", "what": "replicas", "columns": {"replicas": "replicas", "rate": "rows/s"}, "is_log": False,
            "curves": [["rows/s", {"rate": "fan-out"}]], "points": [{"replicas": n, "rate": rate} for n, rate in enumerate(rates, 1)]}


def test_pages_show_what_the_samples_say():
    assert pages.stale() == [], "bench/pages.py --write"


def test_samples_that_changed_are_noticed_and_written(tmp_path):
    folder = checkout(tmp_path)
    (folder / pages.FIGURES).write_text(json.dumps({"about": ABOUT, "figures": [row(Figure(name="fanout20", what="fan-out of 20"), (90.0,), (100.0,), express=(10.0,))]}))
    (folder / pages.SCALE).write_text(json.dumps({"runs": {"replicas": grown(100_000.0, 123_456.0)}}))
    assert set(pages.stale(folder)) == {"README.md", "docs/performance.md", "docs/performance.svg", "docs/scale.md", "docs/scale.svg"}
    pages.write(folder)
    assert pages.stale(folder) == []
    assert "| fan-out of 20 | 90 rows/s | 0.90 | 9.00 × | – |" in (folder / "README.md").read_text()
    assert "| 2 | 123 k |" in (folder / "docs/scale.md").read_text() and "123,4" not in (folder / "docs/scale.md").read_text()
    (folder / "docs/scale.md").write_text((folder / "docs/scale.md").read_text().replace("123 k", "321 k"))
    assert pages.stale(folder) == ["docs/scale.md"]


def test_a_page_without_its_place_is_an_error():
    with pytest.raises(ValueError, match="not one place for the table bench"):
        pages.between("no marks", "bench", "text")


def test_curves_have_a_point_for_each_place():
    plot = pages.scale_plot({"runs": {"replicas": grown(1.0, 2.0, 4.0), "more & more": grown(5.0, None)}})
    assert plot.count("<polyline") == 2 and plot.count("<circle") == 3 + 1
    assert curves.text({"a": "A", "b": "B"}, [{"a": 1, "b": None}]) == "A  B\n1  –"


def large_table(us):
    def at(rows, mib, times):
        return {"rows": rows, "mib": mib, "ours_us": us * times, "cpu_us": 0.5, "database_us": us * times}
    return {"rows": {"points": [at(1.0, 100.0, 1), at(50.0, 5000.0, 20)]}}


def test_what_is_computed_on_paper_follows_what_was_measured():
    """2 million rows a second at 5 µs each are 10 threads busy, and 10 cores of the database."""
    text = paper.table(large_table(5.0))
    assert "| threads of fan-out | computed | 10;" in text and "| its processors | computed | 10 cores;" in text and "× 20.0 a row" in text
    assert "| threads of fan-out | computed | 20;" in paper.table(large_table(10.0))
    assert all(f" {known} " in text for known in ("measured", "assumed", "computed"))


def test_tenths_lie_between_two_looks():
    """Several of them within one look, too."""
    seen = [(100.0, 0, 0), (101.0, 500, 7.0), (103.0, 2500, 8.0), (103.5, 3000, 9.0)]
    assert [curves.when(seen, done) for done in (250, 500, 1500, 3000)] == [(100.5, 7.0), (101.0, 7.0), (102.0, 8.0), (103.5, 9.0)]


# ---- runs

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


@pytest.mark.servers("the bench measures on them")
@pytest.mark.skipif("FEED_TEST_BUILD" in os.environ and not os.environ["FEED_TEST_BUILD"].endswith("/build"), reason="figures of another build mean nothing")
def test_a_queue_grows(tmp_path):
    subprocess.run(["make", "-s", "bench", "WERROR=1"], cwd=ROOT, check=True, timeout=300, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    done = subprocess.run([sys.executable, ROOT / "bench/run", "--backlog", "3000", "--json", tmp_path / "s.json"], cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "s.json").read_text())["runs"]["backlog"]
    assert found["size"] == "3000" and [point["done"] for point in found["points"]] == list(range(10, 101, 10))
    assert found["points"][-1]["fanout_pss"] > 0 and "<polyline" in (tmp_path / "s.svg").read_text()


def test_unknown_figure():
    done = subprocess.run([sys.executable, ROOT / "bench/run", "--only", "nothing"], cwd=ROOT, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 1 and "no such figure: nothing (--list names them)" in done.stderr
