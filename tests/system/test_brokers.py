"""A Kafka of three brokers, replication 3: what only shows where not every broker knows the same at the same time."""
import sys

import pytest

from feedmill import ROOT, Feedmill

sys.path.insert(0, str(ROOT / "bench"))

from brokers import Brokers  # noqa: E402

pytestmark = [pytest.mark.once, pytest.mark.servers("three brokers of its own")]


@pytest.fixture(scope="module")
def three():
    with Brokers(3) as brokers:
        yield brokers


def test_topics_are_made_whichever_broker_is_asked(three, tmp_path):
    """Another broker than the one that made a topic may not know it yet."""
    for _ in range(2):
        feed = Feedmill(tmp_path, {"KAFKA_BROKERS": three.addresses}, **{"kafka.replication": 3})
        made = feed.ctl("topics").stdout
        assert "differs" not in made and made.count(" created") >= 5, made
        assert "missing" not in feed.ctl("topics", "--check").stdout
        feed.drop()


def test_a_post_goes_through_three_copies(three, tmp_path):
    feed = Feedmill(tmp_path, {"KAFKA_BROKERS": three.addresses}, **{"kafka.replication": 3})
    try:
        feed.start()
        author, friend = feed.client.participant(), feed.client.participant()
        feed.client.befriend(author, friend)
        post = feed.client.say(author, "three of me", headers={"Prefer": "wait=30"})
        assert [row["id"] for row in feed.client.inbound(friend)] == [post]
    finally:
        feed.stop()
