"""Fixtures: `feed` is one Feedmill that a all files share; `make_feed` makes one with settings of a test's own."""

import pytest

from feedmill import Feedmill


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
