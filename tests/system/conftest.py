"""Fixtures: `feed` is one Feedmill that a all files share; `make_feed` makes one with settings of a test's own."""

import contextlib
import fcntl

import pytest

from feedmill import Feedmill


@contextlib.contextmanager
def turn(item):
    """Tests run side by side, also those of two runs; a test that is marked `alone` waits for the others, and they for it."""
    if not hasattr(item.config, "cache"):
        yield
        return
    folder = item.config.cache.mkdir("turns")
    with open(folder / "gate", "w") as gate, open(folder / "room", "w") as room:
        fcntl.flock(gate, fcntl.LOCK_EX)  # so that nobody overtakes one who waits to be alone
        fcntl.flock(room, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    with turn(item):
        return (yield)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("feedmill")


@pytest.fixture(scope="session")
def feed(folder):
    feed = Feedmill(folder)
    try:
        yield feed.start()
    finally:
        feed.stop()


@pytest.fixture
def client(feed):
    return feed.client


@pytest.fixture
def make_feed(folder):
    made = []

    def make(**settings):
        made.append(Feedmill(folder, **{name.replace("__", "."): value for name, value in settings.items()}))
        return made[-1]
    yield make
    for feed in made:
        feed.stop()
