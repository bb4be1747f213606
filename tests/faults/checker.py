"""Whether what was promised holds: a history and the final state go in, every breach with its smallest witness comes out.

A pure function: check(events, state). No I/O, so it is tested on made-up histories (test_checker.py). The invariants:

    I1  every 2xx is in place: a post once for each friend, once in outbound, once in search; a command with its effect; at least
        one event of each product that was created or deleted
    I2  nothing twice: (recipient, post), document, outbound row, event id; one invocation never makes two things
    I3  nothing that was never asked for, nothing that was certainly refused; what is unknown is there wholly or not at all
    I4  one idempotency key, one id
    I5  order: an author's posts that were answered one after another are read newest first; a product's created before its deleted
    I6  committed offsets never pass what is not finished
    I7  every record is done or in a dead letter topic, and only what is wrong gets there; accepted commands are decided
    I8  texts and names are the same wherever they are
    I9  after quiet, memory and descriptors are as at the start

A document has no version that could be compared with a sequence, so there is no I10.

The state is a dict of plain lists and dicts, see state.py; what is missing in it is not checked, nor is the hash of a text that a sink does
not keep (None). The witness of a breach is the
lines of the history and the rows that show it, no more.
"""
import collections

from history import calls

SKEW_S = 0.01           # between the clocks of two gateways on one machine: their ids are in order of milliseconds
MEMORY = 1.10


class Breach:
    def __init__(self, invariant, text, lines=(), rows=()):
        self.invariant, self.text, self.lines, self.rows = invariant, text, list(lines), list(rows)

    @property
    def size(self):
        return len(self.lines) + len(self.rows)

    def __str__(self):
        return "\n".join([f"{self.invariant}: {self.text}", *(f"    {line}" for line in self.lines), *(f"    row {row}" for row in self.rows)])


class Report:
    def __init__(self):
        self.breaches, self.effects, self.counts = [], 0, collections.Counter()

    def breach(self, *arguments):
        self.breaches.append(Breach(*arguments))

    def expect(self, truth, *arguments):
        """One effect looked at."""
        self.effects += 1
        if not truth:
            self.breach(*arguments)

    def found(self):
        """The invariants that are broken."""
        return sorted({breach.invariant for breach in self.breaches})

    def witness(self):
        """The smallest of each invariant."""
        smallest = {}
        for breach in self.breaches:
            if breach.invariant not in smallest or breach.size < smallest[breach.invariant].size:
                smallest[breach.invariant] = breach
        return "\n".join(f"{smallest[name]}\n    ({sum(b.invariant == name for b in self.breaches)} of {name})" for name in sorted(smallest))


class World:
    """The history, sorted by what it is about, and the state, sorted likewise."""

    def __init__(self, events, state):
        self.events, self.state = events, state
        self.calls = calls(events)
        self.by_op = collections.defaultdict(list)
        for call in self.calls:
            self.by_op[call.op].append(call)
        self.seen = {}
        for event in events:
            if event["type"] == "seen":
                self.seen.setdefault(event["post"], event)
        self.clocks_differ = any(event["type"] == "fault" and event.get("clock") for event in events)
        self.outbound = index_by(state.get("outbound", ()), "id")
        self.documents = index_by(state.get("documents", ()), "id")
        self.copies = collections.defaultdict(collections.Counter)
        self.copy_author = {}
        for recipient, post, author in state.get("inbound", ()):
            self.copies[post][recipient] += 1
            self.copy_author[post, recipient] = author


def index_by(rows, name):
    found = collections.defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found


def has(state, *names):
    return all(name in state for name in names)


# ---- posts

def friendships(world):
    """Of each participant: (friend, from when it was certainly there, from when it may be there, the lines)."""
    found = collections.defaultdict(list)
    for call in world.by_op["friend"]:
        if call.outcome == "fail":
            continue
        since = call.ended if call.outcome == "ok" and not call.accepted else float("inf")
        found[call.one].append((call.other, since, call.began, call))
        found[call.other].append((call.one, since, call.began, call))
    return found


def check_recipients(world, report, friends, post, call):
    """A row for whoever was a friend before the post was sent; none for who became one when its fan-out was over."""
    got = world.copies.get(post, {})
    over = world.seen.get(post, {}).get("t", float("inf"))
    may = set()
    for friend, since, earliest, made in friends[call.author]:
        if earliest < over:
            may.add(friend)
        if since < call.began:
            report.expect(got.get(friend, 0) >= 1, "I1", f"post {post} did not reach the friend {friend}", [*made.lines, *call.lines])
    for recipient, count in got.items():
        report.expect(count == 1, "I2", f"post {post} is {count} times with {recipient}", call.lines, [(recipient, post, call.author)])
        report.expect(world.copy_author[post, recipient] == call.author, "I8", f"post {post} has another author with {recipient}", call.lines,
                      [(recipient, post, world.copy_author[post, recipient])])
        if recipient in may:
            continue
        late = [made for friend, _, earliest, made in friends[call.author] if friend == recipient]
        if late:
            report.breach("I1", f"post {post} reached {recipient}, who became a friend after its fan-out was over",
                          [*call.lines, world.seen[post], *late[0].lines])
        else:
            report.breach("I3", f"post {post} reached {recipient}, who never was a friend", call.lines, [(recipient, post, call.author)])


def check_present(world, report, friends, post, call):
    rows, documents = world.outbound.get(post, []), world.documents.get(post, [])
    report.expect(len(rows) >= 1, "I1", f"post {post} is not in outbound", call.lines)
    if has(world.state, "documents"):
        report.expect(len(documents) >= 1, "I1", f"post {post} is not in search", call.lines)
    for row in (*rows, *documents):
        report.expect(row["hash"] in (call.hash, None) and row["author"] == call.author, "I8", f"post {post} is not as it was sent", call.lines, [row])
    check_recipients(world, report, friends, post, call)
    for number in world.state.get("open_chunks", {}).get(post, ()):
        report.breach("I1", f"chunk {number} of post {post} is not done", call.lines)


def check_absent(world, report, call, post, rows):
    report.expect(not rows, "I3", f"a request that was refused left post {post}", call.lines, rows)


def posts_of_tokens(world):
    """What is there, by the token that each story begins with."""
    found = collections.defaultdict(set)
    for row in (*world.state.get("outbound", ()), *world.state.get("documents", ())):
        found[row["token"]].add(row["id"])
    return found


def check_posts(world, report):
    friends, there = friendships(world), posts_of_tokens(world)
    tokens = set()
    for token, same in group(world.by_op["post"], lambda call: call.token).items():
        tokens.add(token)
        call = best(same)
        lines = [line for each in same for line in each.lines]
        ids = there.get(token, set())
        report.expect(len(ids) <= 1, "I2", f"one post was stored as {sorted(ids)}", lines)
        if call.outcome == "ok" and call.id is not None:
            report.counts["accepted"] += 1
            check_present(world, report, friends, call.id, call)
            for other in ids - {call.id}:
                report.breach("I2", f"post {call.id} was stored as {other} too", lines)
        elif call.outcome == "fail":
            check_absent(world, report, call, sorted(ids), [row for post in ids for row in world.outbound.get(post, [])])
        else:
            report.counts["unknown"] += 1
            for post in ids:
                report.counts["unknown_stored"] += 1
                check_present(world, report, friends, post, call)
    for token in there.keys() - tokens:
        report.breach("I3", "a post that nobody sent", (), [row for post in there[token] for row in (world.outbound.get(post) or world.documents[post])])
    known = set(world.outbound)
    for post in world.copies.keys() - known:
        report.breach("I3", f"copies of post {post}, which is not in outbound", (), list(world.copies[post].items())[:3])
    for name, rows_by_id in (("outbound", world.outbound), ("search", world.documents)):
        for post, rows in rows_by_id.items():
            report.expect(len(rows) == 1, "I2", f"post {post} is {len(rows)} times in {name}", (), rows)


def group(items, key):
    found = collections.defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def best(same):
    """Of the calls that ask for the same thing (retries with one key) the one that says most: an ok, else an unknown, else a refusal.
    They count as one, which began with the first."""
    for outcome in ("ok", "info", "fail"):
        for call in same:
            if call.outcome == outcome:
                call.began = min(each.began for each in same)
                return call
    raise AssertionError("no call")


# ---- participants, friendships, products

def check_participants(world, report):
    if not has(world.state, "participants"):
        return
    named = collections.defaultdict(list)
    for id, name in world.state["participants"].items():
        named[name].append(id)
    asked = group(world.by_op["participant"], lambda call: call.name)
    for name, same in asked.items():
        call = best(same)
        check_named(report, "participant", call, name, named.get(name, []))
    for name in named.keys() - asked.keys():
        report.breach("I3", "a participant whom nobody made", (), [(named[name], name)])


def check_named(report, what, call, name, ids):
    """What was made under a name that is used once."""
    report.expect(len(ids) <= 1, "I2", f"one {what} was stored as {sorted(ids)}", call.lines)
    if call.outcome == "ok" and not call.accepted:
        report.expect(call.id in ids, "I1", f"{what} {call.id} is not there as {name!r}", call.lines, ids)
    elif call.outcome == "fail":
        report.expect(not ids, "I3", f"a request that was refused left {what} {ids}", call.lines)


def check_friends(world, report):
    if not has(world.state, "friends"):
        return
    there = {}
    for one, other, id in world.state["friends"]:
        report.expect((one, other) not in there, "I2", f"{one} and {other} are friends twice", (), [(one, other, id)])
        there[one, other] = id
    asked = set()
    for call in world.by_op["friend"]:
        pair, back = (call.one, call.other), (call.other, call.one)
        asked |= {pair, back}
        if call.outcome == "ok" and not call.accepted:
            report.expect(there.get(pair) == there.get(back) == call.id, "I1", f"friendship {call.id} is not there both ways", call.lines,
                          [there.get(pair), there.get(back)])
        report.expect(there.get(pair) == there.get(back), "I3", "half a friendship", call.lines, [there.get(pair), there.get(back)])
    for pair in there.keys() - asked:
        report.breach("I3", "a friendship that nobody made", (), [(*pair, there[pair])])


def check_products(world, report):
    if not has(world.state, "products"):
        return
    named = collections.defaultdict(list)
    for id, (name, _) in world.state["products"].items():
        named[name].append(id)
    events = product_events(world, report)
    deletes = group(world.by_op["delete"], lambda call: call.product)
    asked = group(world.by_op["product"], lambda call: call.name)
    for name, same in asked.items():
        check_product(world, report, best(same), named.get(name, []), events, deletes)
    for name in named.keys() - asked.keys():
        report.breach("I3", "a product that nobody made", (), [(named[name], name)])
    made = {event["name"] for event in world.state.get("events", ()) if event["action"] == "created"}
    for name in made - asked.keys():
        report.breach("I3", "an event of a product that nobody made", (), [name])


def check_product(world, report, call, ids, events, deletes):
    id = call.id if call.outcome == "ok" and not call.accepted else (ids[0] if ids else None)
    ended = [each for each in deletes.get(id, ())]
    gone = [each for each in ended if each.outcome == "ok" and not each.accepted]
    maybe_gone = [each for each in ended if each.outcome == "info" or each.accepted]
    if call.outcome == "fail" or (id is None and call.outcome != "ok"):
        check_named(report, "product", call, call.name, ids)
        return
    if id is None:
        return
    if gone:
        report.expect(not ids, "I1", f"product {id} is there after its deletion", [*call.lines, *gone[0].lines], ids)
        check_event(report, events, id, "deleted", gone[0])
    elif not maybe_gone:
        check_named(report, "product", call, call.name, ids)
        report.expect(not events.get((id, "deleted")), "I3", f"an event says that product {id} is deleted", call.lines)
        if id in world.state["products"]:
            report.expect(same_price(world.state["products"][id][1], call.price), "I8", f"product {id} has another price", call.lines,
                          [world.state["products"][id]])
    check_event(report, events, id, "created", call)


def same_price(stored, asked):
    return abs(float(stored) - float(asked)) < 0.005


def check_event(report, events, id, action, call):
    if events is None:
        return
    found = events.get((id, action), [])
    report.expect(len(found) >= 1, "I1", f"no event says that product {id} is {action}", call.lines)
    report.expect(len({event["ce_id"] for event in found}) <= 1, "I2", f"product {id} is {action} under several event ids", call.lines, found)


def product_events(world, report):
    """By (product, action); their order is looked at on the way."""
    if not has(world.state, "events"):
        return None
    found, place = collections.defaultdict(list), {}
    for event in world.state["events"]:
        found[event["id"], event["action"]].append(event)
        place.setdefault((event["id"], event["action"]), event)
    for (id, action), first in place.items():
        if action != "deleted":
            continue
        created = place.get((id, "created"))
        report.expect(created is not None and created["partition"] == first["partition"] and created["offset"] < first["offset"],
                      "I5", f"product {id} is deleted before it is created", (), [first, created])
    return found


# ---- keys, order

def check_keys(world, report):
    for (client, key), same in group((c for c in world.calls if c.key), lambda c: (c.key_client or c.client, c.key)).items():
        answered = [call for call in same if call.outcome == "ok"]
        ids = {call.id for call in answered if call.id is not None}
        report.expect(len(ids) <= 1, "I4", f"key {key} of {client} gave several ids: {sorted(ids)}", [line for call in answered for line in call.lines])
        bodies = {call.answer_hash for call in answered if call.answer_hash and not call.accepted}
        report.expect(len(bodies) <= 1, "I4", f"key {key} of {client} gave several answers", [line for call in answered for line in call.lines])


def check_order(world, report):
    """Of one author, posts that did not overlap: ids rise. Between gateways only while their clocks agree."""
    for author, posts in group((c for c in world.by_op["post"] if c.outcome == "ok" and c.id is not None and not c.key), lambda c: c.author).items():
        for of_gateway in (group(posts, lambda c: c.gateway).values() if world.clocks_differ else [posts]):
            check_rising(report, sorted(of_gateway, key=lambda c: c.began))
        read = world.state.get("read", {}).get(author)
        if read is not None:
            report.expect(read == sorted(read, reverse=True), "I5", f"what {author} has posted is not read newest first", (), [read[:10]])
            for call in posts:
                report.expect(call.id in read, "I1", f"post {call.id} is not among what {author} has posted", call.lines)


def check_rising(report, posts):
    """Of the posts that ended before one began, the one with the highest id is enough to compare with."""
    highest = None
    waiting = sorted(posts, key=lambda c: c.ended)
    ended = 0
    for call in posts:
        while ended < len(waiting) and waiting[ended].ended + SKEW_S < call.began:
            if highest is None or waiting[ended].id > highest.id:
                highest = waiting[ended]
            ended += 1
        if highest is not None:
            report.expect(call.id > highest.id, "I5", f"post {call.id} has a lower id than {highest.id}, which was answered before", [*highest.lines, *call.lines])


# ---- records and offsets

def check_offsets(world, report):
    """What a group has committed is finished: its effect is there, or it is a dead letter, or waits in a retry topic."""
    for sample in world.state.get("samples", ()):
        finished = set(sample["finished"])
        for partition, committed in sample["committed"].items():
            for offset, identity in sample["records"].get(partition, ()):
                if offset < committed:
                    report.expect(identity in finished, "I6", f"{sample['group']} has committed {committed} in partition {partition}, and offset {offset} is "
                                  f"not finished ({sample['when']})", (), [(partition, offset, identity)])


def check_records(world, report):
    for group_name, left in world.state.get("lag", {}).items():
        report.expect(left == 0, "I7", f"{left} records are not finished by {group_name}", ())
    for group_name, letters in world.state.get("dead", {}).items():
        poison = set(world.state.get("poison", ()))
        for letter in letters:
            report.expect(letter["identity"] in poison, "I7", f"{group_name} has given up a record that is not wrong", (), [letter])
    for call in world.calls:
        if call.outcome == "ok" and call.accepted and has(world.state, "commands"):
            report.expect(call.command in world.state["commands"], "I7", f"command {call.command} was accepted and is not decided", call.lines)


def check_processes(world, report):
    for process in world.state.get("processes", ()):
        name, start, end = process["name"], process["start"], process["end"]
        report.expect(end["rss_kb"] <= start["rss_kb"] * MEMORY, "I9", f"{name} has grown from {start['rss_kb']} to {end['rss_kb']} kB", (), [process])
        if settled := process.get("settled"):
            report.expect(end["own_kb"] <= settled["own_kb"] * MEMORY, "I9",
                          f"{name} has {end['own_kb']} kB of its own, and had {settled['own_kb']} when it had seen every fault", (), [process])
        report.expect(end["descriptors"] <= start["descriptors"] + process.get("more_descriptors", 0), "I9",
                      f"{name} has {end['descriptors']} descriptors, and had {start['descriptors']}", (), [process])
    for pid in world.state.get("zombies", ()):
        report.breach("I9", f"process {pid} has ended and nobody has asked how", ())


CHECKS = (check_posts, check_participants, check_friends, check_products, check_keys, check_order, check_offsets, check_records, check_processes)


def check(events, state):
    world, report = World(events, state), Report()
    for one in CHECKS:
        one(world, report)
    return report
