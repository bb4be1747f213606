"""The checker on histories that were made up: a good one is found good, and each invariant that is broken once is found, with
what shows it."""
import copy
import subprocess
import sys

import pytest

import mix
from checker import check
from history import body_hash


class Story:
    """Two authors with friends, posts, products: the history and the state that belongs to it."""

    def __init__(self):
        self.events, self.now, self.number = [], 0.0, 0
        self.state = {"participants": {}, "friends": [], "outbound": [], "inbound": [], "documents": [], "products": {}, "events": [], "commands": {},
                      "lag": {"fanout": 0}, "dead": {"fanout": []}, "samples": [], "processes": [], "read": {}}

    def add(self, type, **fields):
        self.now += 1.0
        self.events.append({"t": self.now, "type": type, **fields})
        return self.events[-1]

    def call(self, outcome, ask, **answer):
        self.number += 1
        self.add("invoke", call=self.number, client="c1", gateway=ask.pop("gateway", "gateway-1"), **ask)
        if outcome:
            self.add(outcome, call=self.number, **answer)
        return self.number

    def participant(self, id):
        self.call("ok", {"op": "participant", "name": f"p{id}"}, id=id)
        self.state["participants"][id] = f"p{id}"

    def friend(self, one, other, id, outcome="ok"):
        self.call(outcome, {"op": "friend", "one": one, "other": other}, id=id)
        self.state["friends"] += [(one, other, id), (other, one, id)]

    def post(self, id, author, recipients, outcome="ok", stored=True, **ask):
        token, hash = f"t{id}", body_hash("s", f"t{id} story")
        self.call(outcome, {"op": "post", "author": author, "token": token, "hash": hash, **ask}, **({"id": id} if outcome == "ok" else {}))
        if stored:
            row = {"id": id, "author": author, "token": token, "hash": hash}
            self.state["outbound"].append(dict(row))
            self.state["documents"].append(dict(row))
            self.state["inbound"] += [(recipient, id, author) for recipient in recipients]

    def product(self, id, outcome="ok"):
        self.call(outcome, {"op": "product", "name": f"n{id}", "price": 1.5}, id=id)
        self.state["products"][id] = (f"n{id}", "1.50")
        self.event(id, "created")

    def delete(self, id):
        self.call("ok", {"op": "delete", "product": id})
        del self.state["products"][id]
        self.event(id, "deleted")

    def event(self, id, action, ce_id=None):
        self.state["events"].append({"partition": id % 4, "offset": len(self.state["events"]), "id": id, "action": action, "name": f"n{id}",
                                     "ce_id": ce_id or f"{action}-{id}"})


def good():
    story = Story()
    for id in (1, 2, 3, 4):
        story.participant(id)
    story.friend(1, 2, 50)
    story.friend(1, 3, 51)
    story.post(100, 1, [2, 3])
    story.add("seen", post=100)
    story.friend(1, 4, 52)
    story.post(101, 1, [2, 3, 4])
    story.post(102, 2, [1], gateway="gateway-2")
    story.product(200)
    story.product(201)
    story.delete(201)
    story.state["read"] = {1: [101, 100], 2: [102]}
    story.state["samples"] = [{"group": "fanout", "when": "at the end", "committed": {0: 2}, "records": {0: [(0, 100), (1, 101), (2, 102)]}, "finished": [100, 101]}]
    story.state["processes"] = [{"name": "fanout-1", "start": {"rss_kb": 20000, "descriptors": 30}, "settled": {"own_kb": 5000},
                                 "end": {"rss_kb": 21000, "own_kb": 5300, "descriptors": 30}}]
    return story


def test_a_good_history_is_good():
    story = good()
    report = check(story.events, story.state)
    assert not report.breaches, report.witness()
    assert report.counts["accepted"] == 3 and report.effects > 40


def test_what_is_unknown_may_be_there_or_not():
    for stored in (True, False):
        story = good()
        story.post(110, 1, [2, 3, 4], outcome="info", stored=stored)
        story.post(111, 1, [2, 3, 4], outcome=None, stored=stored)
        assert not check(story.events, story.state).breaches


def test_a_friendship_under_way_may_count_or_not():
    for recipients in ([2, 3, 4], [2, 3, 4, 9]):
        story = good()
        story.participant(9)
        story.post(110, 1, recipients)
        story.state["read"] = {}
        story.friend(1, 9, 59)
        assert not check(story.events, story.state).breaches


def test_refused_is_absent():
    story = good()
    story.post(110, 1, [2, 3, 4], outcome="fail", stored=False)
    assert not check(story.events, story.state).breaches


def test_retries_with_one_key_are_one_post():
    story = good()
    story.post(110, 1, [2, 3, 4], outcome="info", key="k1")
    story.post(110, 1, [2, 3, 4], stored=False, key="k1")
    assert not check(story.events, story.state).breaches


# ---- each invariant, broken once: its name, and what must be in the witness

def lost_copy(s): s.state["inbound"].remove((3, 101, 1))
def lost_row(s): s.state["outbound"] = [row for row in s.state["outbound"] if row["id"] != 102]
def lost_document(s): s.state["documents"] = [row for row in s.state["documents"] if row["id"] != 101]
def lost_post(s): s.post(110, 1, [], stored=False)
def open_chunk(s): s.state["open_chunks"] = {101: [2]}
def late_friend(s): s.state["inbound"].append((4, 100, 1))
def lost_participant(s): del s.state["participants"][4]
def half_friendship(s): s.state["friends"].remove((4, 1, 52))
def lost_product(s): del s.state["products"][200]
def risen_product(s): s.state["products"][201] = ("n201", "1.50")
def no_event(s): s.state["events"] = [event for event in s.state["events"] if event["id"] != 200]
def unread(s): s.state["read"][1] = [101]
def twice_in_inbound(s): s.state["inbound"].append((2, 101, 1))
def twice_in_search(s): s.state["documents"].append(dict(s.state["documents"][0]))
def stored_twice(s): s.post(110, 1, [2, 3, 4], outcome="info"); s.state["outbound"].append({**s.state["outbound"][-1], "id": 111})
def product_twice(s): s.state["products"][299] = ("n200", "1.50")
def two_event_ids(s): s.event(200, "created", "another")
def never_sent(s): s.state["outbound"].append({"id": 999, "author": 1, "token": "t999", "hash": "?"})
def refused_post(s): s.post(110, 1, [2, 3, 4], outcome="fail")
def half_of_unknown(s): s.post(110, 1, [2, 3, 4], outcome="info"); s.state["documents"].pop()
def stranger(s): s.state["inbound"].append((4, 102, 2))
def orphan(s): s.state["inbound"].append((4, 777, 2))
def unasked_product(s): s.state["products"][298] = ("unknown", "1.00")
def unasked_delete(s): s.event(200, "deleted")
def half_of_unknown_friendship(s): s.friend(2, 3, 60, outcome="info"); s.state["friends"].pop()


def two_ids_of_a_key(s):
    for id in (110, 111):
        s.call("ok", {"op": "participant", "name": "keyed", "key": "k1"}, id=id)


def lower_id(s): s.post(99, 1, [2, 3, 4]); s.state["read"][1] = [101, 100, 99]
def wrong_reading(s): s.state["read"][1] = [100, 101]
def deleted_first(s): s.event(205, "deleted"); s.product(205)
def early_offset(s): s.state["samples"][0]["finished"] = [100]
def lag(s): s.state["lag"]["fanout"] = 3
def good_record_in_dlq(s): s.state["dead"]["fanout"].append({"identity": 101, "reason": "?"})
def undecided(s): s.call("ok", {"op": "product", "name": "waits", "price": 1}, accepted=True, command="c-1")
def other_text(s): s.state["documents"][0]["hash"] = "other"
def other_price(s): s.state["products"][200] = ("n200", "1.51")
def other_author(s): s.state["inbound"][0] = (2, 100, 4)
def leak(s): s.state["processes"][0]["end"]["rss_kb"] = 22500
def small_leak(s): s.state["processes"][0]["end"]["own_kb"] = 5600
def open_files(s): s.state["processes"][0]["end"]["descriptors"] = 31
def zombie(s): s.state["zombies"] = [4711]


BROKEN = {
    "I1": [lost_copy, lost_row, lost_document, lost_post, open_chunk, late_friend, lost_participant, half_friendship, lost_product, risen_product, no_event, unread],
    "I2": [twice_in_inbound, twice_in_search, stored_twice, product_twice, two_event_ids],
    "I3": [never_sent, refused_post, stranger, orphan, unasked_product, unasked_delete, half_of_unknown_friendship],
    "I4": [two_ids_of_a_key],
    "I5": [lower_id, wrong_reading, deleted_first],
    "I6": [early_offset],
    "I7": [lag, good_record_in_dlq, undecided],
    "I8": [other_text, other_price, other_author],
    "I9": [leak, small_leak, open_files, zombie],
}


@pytest.mark.parametrize("invariant, damage", [(i, d) for i, all in BROKEN.items() for d in all], ids=lambda v: getattr(v, "__name__", v))
def test_broken(invariant, damage):
    story = good()
    before = copy.deepcopy(story.state)
    damage(story)
    report = check(story.events, story.state)
    assert invariant in report.found(), f"found {report.found()}:\n{report.witness()}"
    assert before != story.state or len(story.events) > len(good().events), "the damage did something"


def test_half_of_what_is_unknown():
    story = good()
    half_of_unknown(story)
    assert check(story.events, story.state).found() == ["I1"], "there, so it must be there wholly"


def test_the_witness_is_small():
    story = good()
    lost_copy(story)
    breach, = check(story.events, story.state).breaches
    text = str(breach)
    assert "post 101 did not reach the friend 3" in text
    assert len(breach.lines) == 4, "the friendship, its answer, the post, its answer"
    assert [line["t"] for line in breach.lines] == sorted(line["t"] for line in breach.lines)


def test_ids_of_two_gateways_have_no_order_once_a_clock_was_set():
    story = good()
    story.post(99, 2, [1])
    story.state["read"][2] = [102, 99]
    assert "I5" in check(story.events, story.state).found()
    story.events.insert(0, {"t": 0.1, "type": "fault", "clock": True})
    assert "I5" not in check(story.events, story.state).found()
    story.post(98, 2, [1])
    story.state["read"][2] = [102, 99, 98]
    assert "I5" in check(story.events, story.state).found(), "of one gateway they still rise"


class Slots:
    """As much of a rig as memory is looked at through."""

    def __init__(self, **programs):
        self.slots = {name: subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for name, text in programs.items()}
        for process in self.slots.values():
            process.running = lambda process=process: process.poll() is None

    def step(self):
        """One more piece of work of each."""
        for process in self.slots.values():
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline()


WORK = """import sys
kept = []
for line in sys.stdin:
    {work}
    print("done", flush=True)
"""


def test_a_process_that_leaks_is_found():
    """Real processes: one needs much at its first work and no more then, one keeps a little of each work. The little is found."""
    rig = Slots(steady=WORK.format(work="kept = kept or [bytearray(4 << 20)]"), leaks=WORK.format(work="kept.append(bytearray(100 << 10))"))
    try:
        memory = mix.Memory(rig, {"kill", "net"}, warm_s=0)
        for fault in ("kill", "net", "kill", "net", *["kill"] * 20):
            rig.step()
            memory.look({fault})
        rows = mix.memory_that_counts(memory.rows(), long_s=0)
    finally:
        for process in rig.slots.values():
            process.communicate()
    assert len(rows) == 2 and all("settled" in row for row in rows)
    story = good()
    story.state["processes"] = rows
    breaches = [str(breach) for breach in check(story.events, story.state).breaches]
    assert breaches and all("leaks (pid" in breach for breach in breaches), breaches
    assert any("of its own" in breach for breach in breaches), "the closer look"
