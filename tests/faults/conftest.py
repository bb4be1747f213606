"""Fixtures: `folder` for files, `make_rig` for a Feedmill of a test's own, `shared_rig` for one that goes on from test to test until
one of them fails."""
import os

import pytest

from rig import Rig


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="what takes minutes, too")
    parser.addoption("--seed", type=int, default=int(os.environ.get("FEED_FAULTS_SEED", "1")), help="of load and schedule")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        skip = pytest.mark.skip(reason="takes minutes: --long")
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(skip)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.failed = report.failed


def pytest_terminal_summary(terminalreporter):
    """The figures of each run, which are what these tests are for, also of those that passed."""
    for report in terminalreporter.getreports("passed"):
        if report.when == "call" and report.capstdout:
            terminalreporter.write(report.capstdout)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture
def seed(request):
    return request.config.getoption("--seed")


@pytest.fixture
def make_rig(folder, seed):
    made = []

    def make(**options):
        made.append(Rig(folder, **{"seed": seed, **options}))
        return made[-1]
    yield make
    for rig in made:
        rig.close()


@pytest.fixture(scope="module")
def holder(folder, request):
    """A rig that lasts; one that a failed test leaves behind proves nothing any more."""
    kept = []

    def get():
        if not kept:
            kept.append(Rig(folder, seed=request.config.getoption("--seed")).start())
        return kept[0]
    get.drop = lambda: kept.pop().close() if kept else None
    yield get
    get.drop()


@pytest.fixture
def shared_rig(holder, request):
    yield holder()
    if getattr(request.node, "failed", True):
        holder.drop()
