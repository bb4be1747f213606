"""The checker, tested on the real system with one protection off at a time (SABOTAGE, common/base/fault.h): the same story that
is harmless with all of them must now be found, and the witness must say what happened."""
import contextlib

import pytest

from checker import check
from feedmill import wait_for
from state import collect, committed, wait_quiet


@contextlib.contextmanager
def row_held(feed, recipient, post, author):
    """A rival has written that inbound row, and does not commit."""
    rival = feed.connect()
    rival.select_db(feed.database)
    rival.begin()
    with rival.cursor() as cursor:
        cursor.execute("INSERT INTO inbound (participant_id, post_id, from_id) VALUES (%s, %s, %s)", (recipient, post, author))
    try:
        yield
    finally:
        rival.rollback()
        rival.close()


def again(rig, topic, wanted):
    """The records that wanted(value) says, once more at the end of their partitions: a delivery twice."""
    rig.topics.catch_up()
    for partition, _, record in list(rig.topics.records[topic]):
        if wanted(record.value()):
            rig.feed.produce(topic, record.value(), record.key(), record.headers(), partition)


def fanned_out(rig, author):
    """A post whose sender has waited for its fan-out."""
    return wait_for(lambda: (answer := rig.prober.post(author, wait=10)).status == 200 and "Preference-Applied" in answer.headers and answer.body["id"],
                    "a post is fanned out")


def late_friend(rig, author):
    newcomer = rig.prober.participant().body["id"]
    assert rig.prober.befriend(author, newcomer).status == 200


# ---- the stories. Each leaves nothing wrong behind, unless the protection is off that it is about

def replayed_post(rig):
    author = rig.load.people[1]
    post = fanned_out(rig, author)
    late_friend(rig, author)
    again(rig, "feed.posts", lambda value: str(post).encode() in value)
    wait_quiet(rig.feed)


def replayed_creation(rig):
    product = rig.prober.product().body["id"]
    assert rig.prober.delete(product).status == 200
    again(rig, "feed.commands", lambda value: b"product.create" in value and str(product).encode() in value)
    wait_quiet(rig.feed)


def replayed_plan(rig):
    post = fanned_out(rig, rig.load.long_author)
    late_friend(rig, rig.load.long_author)
    again(rig, "feed.posts", lambda value: str(post).encode() in value)
    wait_quiet(rig.feed)


def killed_before_the_commit(rig):
    """The worker stands before its commit for longer than it takes to commit offsets, and dies there."""
    rig.stop("fanout/1")
    before = sum(committed(rig.feed, "fanout").values())
    post = rig.prober.post(rig.load.people[1]).body["id"]
    friend = rig.feed.one("SELECT friend_id FROM friend WHERE participant_id = %s LIMIT 1", rig.load.people[1])
    with row_held(rig.feed, friend, post, rig.load.people[1]):
        worker = rig.start_slot("fanout/1")
        with contextlib.suppress(AssertionError):
            wait_for(lambda: sum(committed(rig.feed, "fanout").values()) > before, "offsets are committed early", 4)
        wait_for(lambda: rig.feed.metric(worker, "feedmill_worker_batches_total") >= 1, "the batch is in hand")
        rig.kill("fanout/1")
    rig.start_slot("fanout/1")
    wait_quiet(rig.feed)


def killed_before_the_report(rig):
    """Records stay in the gateway for most of a second before they are sent; who has its answer then is told more than is true."""
    rig.stop("gateway/1")
    rig.config_of["gateway/1"] = rig.feed.write_config(rig.feed.folder / f"{rig.feed.name}-linger.cfg", **{"kafka.linger_ms": 900})
    rig.start_slot("gateway/1")
    rig.prober.befriend(*rig.load.people[1:3])
    for _ in range(5):
        rig.prober.post(rig.load.people[1])
    rig.kill("gateway/1")
    del rig.config_of["gateway/1"]
    rig.start_slot("gateway/1")
    wait_quiet(rig.feed)


def replayed_documents(rig):
    """Every document again: each is there already."""
    fanned_out(rig, rig.load.people[1])
    wait_quiet(rig.feed)
    again(rig, "feed.posts", lambda value: True)
    with contextlib.suppress(AssertionError):
        wait_quiet(rig.feed, 8)


SABOTAGE = [
    # what is off, whose, the story, what is found, what its witness says
    ("ledger", "fanout/1", replayed_post, "I1", "became a friend after its fan-out was over"),
    ("ledger", "command/1", replayed_creation, "I1", "is there after its deletion"),
    ("plan", "fanout/1", replayed_plan, "I1", "became a friend after its fan-out was over"),
    ("offset", "fanout/1", killed_before_the_commit, "I1", "is not in outbound"),
    ("report", "gateway/1", killed_before_the_report, "I1", "is not in outbound"),
    ("409", "index/1", replayed_documents, "I7", "are not finished by index"),
]


def small(make_rig):
    return make_rig().start(people=4, clients=1)


def test_the_stories_are_harmless(make_rig):
    rig = small(make_rig)
    for _, _, story, _, _ in SABOTAGE:
        story(rig)
        rig.verdict(story.__name__)


@pytest.mark.parametrize("guard, slot, story, invariant, words", SABOTAGE, ids=lambda v: getattr(v, "__name__", v))
def test_sabotage_is_found(make_rig, guard, slot, story, invariant, words):
    rig = make_rig()
    rig.environment[slot] = {"SABOTAGE": guard}
    rig.start(people=4, clients=1)
    story(rig)
    report = check(rig.history.events, collect(rig.feed, rig.topics, rig.client(), rig.load.people))
    assert invariant in report.found(), f"found {report.found()}:\n{report.witness()}"
    assert any(words in breach.text for breach in report.breaches if breach.invariant == invariant), report.witness()
    print(f"{guard} off at {slot}: {report.witness().splitlines()[0]}")
