"""Fixtures: `feed` is one Feedmill that a all files share; `make_feed` makes one with settings of a test's own."""

import contextlib
import fcntl
import os
import sys

import pytest


def pytest_addoption(parser):
    parser.addoption("--stack", choices=("servers", "embedded"), default=os.environ.get("FEED_TEST_STACK", "servers"),
                     help="the back ends of what is tested: the servers that .stack/env names, or files in a folder of the test's own")


def pytest_configure(config):
    os.environ["FEED_TEST_STACK"] = config.getoption("--stack")     # feedmill.py, which the tests import later, looks there


# The files that take longest begin first, and the others fill the time beside them.
LONG = ("test_valgrind.py", "test_relay.py", "test_dev_run.py", "test_dlq.py", "test_up.py", "test_back_pressure.py", "test_crash.py")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    for item in items:
        needs = item.get_closest_marker("servers")
        if needs and config.getoption("--stack") == "embedded":
            item.add_marker(pytest.mark.skip(reason="needs a server: " + needs.args[0]))


@pytest.fixture(scope="session")
def kind():
    """The class of Feedmills on the stack that was asked for."""
    from embedded import EmbeddedFeedmill
    from feedmill import STACK, Feedmill
    return EmbeddedFeedmill if STACK == "embedded" else Feedmill


@pytest.fixture
def vhost():
    """A virtual host of RabbitMQ for one test."""
    from rabbit import VirtualHost
    with VirtualHost() as vhost:
        yield vhost


@pytest.fixture
def rabbit(folder):
    """A RabbitMQ that a test may break."""
    from rabbit import Rabbit
    rabbit = Rabbit(folder)
    try:
        yield rabbit.start()
    finally:
        rabbit.stop()


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


TAIL_LINES, TAIL_BYTES = 14, 2500


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What the programs of a test that failed said at last goes into its report."""
    report = yield
    feedmill = sys.modules.get("feedmill")
    if report.when == "call" and report.failed and feedmill:
        for process in feedmill.alive_since(call.start):
            tail = "\n".join(process.output().splitlines()[-TAIL_LINES:])
            report.sections.append((f"log of {process.name}", tail[-TAIL_BYTES:]))
    return report


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("feedmill")


@pytest.fixture(scope="session")
def feed(folder, kind):
    feed = kind(folder)
    try:
        yield feed.start()
    finally:
        feed.stop()


@pytest.fixture
def client(feed):
    return feed.client


@pytest.fixture
def make_feed(folder, kind):
    made = []

    def make(**settings):
        made.append(kind(folder, **{name.replace("__", "."): value for name, value in settings.items()}))
        return made[-1]
    yield make
    for feed in made:
        feed.stop()
