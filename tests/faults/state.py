"""What is there when all is quiet, read once from every sink by other people's clients: the state that the checker compares."""
import collections
import json
import time

import confluent_kafka
import requests

from checker import check
from feedmill import wait_for
from history import body_hash

TOPICS = {"fanout": "feed.posts", "index": "feed.posts", "chunk": "feed.chunks", "command": "feed.commands"}


def token_of(story):
    return story.split(" ", 1)[0]


def read_tables(feed):
    state = {
        "participants": dict(feed.sql("SELECT id, name FROM participant")),
        "friends": list(feed.sql("SELECT participant_id, friend_id, id FROM friend")),
        "inbound": list(feed.sql("SELECT participant_id, post_id, from_id FROM inbound")),
        "products": {id: (name, str(price)) for id, name, price in feed.sql("SELECT id, name, price FROM product")},
        "commands": {id: outcome for id, outcome in feed.sql("SELECT id, outcome FROM command")},
        "outbound": [{"id": id, "author": author, "token": token_of(story), "hash": body_hash(subject, story)}
                     for id, author, subject, story in feed.sql("SELECT id, participant_id, subject, story FROM outbound")],
    }
    state["open_chunks"] = collections.defaultdict(list)
    for post, number in feed.sql("SELECT post_id, n FROM fanout_chunk WHERE done = 0"):
        state["open_chunks"][post].append(number)
    return state


def indexed_in_files(feed, rows):
    """What the embedded search knows of a document is its id and its sender; it keeps no text."""
    tokens = {row["id"]: row["token"] for row in rows}
    with feed.opened("search-feed.db") as db:
        return [{"id": id, "author": sender, "token": tokens.get(id, f"unknown {id}"), "hash": None} for id, sender in db.execute("SELECT id, sender FROM document")]


def read_documents(feed, rows):
    """Every document, by pages: more than one answer may hold."""
    if is_embedded(feed):
        return indexed_in_files(feed, rows)
    feed.searchable()
    documents, after = [], None
    while True:
        query = {"size": 2000, "sort": [{"posted_at": "asc"}, {"sender": "asc"}, {"id": "asc"}], **({"search_after": after} if after else {})}
        answer = requests.post(f"{feed.server('SEARCH_URL')}/{feed.index}/_search", json=query, timeout=60)
        answer.raise_for_status()
        hits = answer.json()["hits"]["hits"]
        if not hits:
            return documents
        for hit in hits:
            source = hit["_source"]
            documents.append({"id": int(source["id"]), "key": hit["_id"], "author": source["sender"], "token": token_of(source["story"]),
                              "hash": body_hash(source["subject"], source["story"])})
        after = hits[-1]["sort"]


class Topics:
    """Every record of some topics, read on from where the last look has ended: topics only grow."""

    def __init__(self, feed, names):
        self.feed, self.names = feed, names
        self.records = {name: [] for name in names}      # of a topic: (partition, offset, record)
        self.next = {}

    def catch_up(self):
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.feed.server("KAFKA_BROKERS"), "group.id": self.feed.prefix + "reader",
                                             "enable.auto.commit": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 20})
        try:
            self.read_on(consumer, self.ends(consumer))
        finally:
            consumer.close()
        return self

    def ends(self, consumer):
        """Of each partition that has grown: its end."""
        ends, topics = {}, consumer.list_topics(timeout=30).topics
        for name in self.names:
            for partition in topics[self.feed.prefix + name].partitions:
                place = name, partition
                low, high = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(self.feed.prefix + name, partition), timeout=30)
                if high > self.next.setdefault(place, low):
                    ends[place] = high
        return ends

    def read_on(self, consumer, ends):
        if not ends:
            return
        consumer.assign([confluent_kafka.TopicPartition(self.feed.prefix + name, p, self.next[name, p]) for name, p in ends])
        deadline = time.monotonic() + 120
        while any(self.next[place] < end for place, end in ends.items()):
            assert time.monotonic() < deadline, f"topics can't be read to their ends: {ends}, {self.next}"
            record = consumer.poll(0.5)
            if record is None:
                continue
            assert record.error() is None, record.error()
            name = record.topic().removeprefix(self.feed.prefix)
            self.records[name].append((record.partition(), record.offset(), record))
            self.next[name, record.partition()] = record.offset() + 1


class FileTopics(Topics):
    """The same from the files of the embedded queue."""

    def catch_up(self):
        from embedded import OFFSET_BITS, Record
        for name in self.names:
            with self.feed.opened(self.feed.topic_file(name)) as db:
                for partition, low in db.execute("SELECT id, low FROM partition").fetchall():
                    first = partition << OFFSET_BITS | self.next.setdefault((name, partition), low)
                    for row in db.execute("SELECT id, timestamp_ms, key, value, headers FROM record WHERE id >= ? AND id < ? ORDER BY id",
                                          (first, (partition + 1) << OFFSET_BITS)):
                        record = Record(name, row)
                        self.records[name].append((partition, record.offset(), record))
                        self.next[name, partition] = record.offset() + 1
        return self


def is_embedded(feed):
    return hasattr(feed, "files")


def header(record, name):
    return next((value.decode("utf-8", "replace") for key, value in record.headers() or () if key == name), None)


def identity_of(record):
    """What a record is about, whichever topic it lies in: post id, command id, or post and chunk."""
    try:
        value = json.loads(record.value())
    except (TypeError, ValueError):
        return repr(record.value())[:80]
    if "chunk" in value or "n" in value:
        return f"{value.get('post')}.{value.get('chunk', value.get('n'))}"
    return value.get("command", value.get("id"))


def read_events(topics):
    events = []
    for partition, offset, record in topics.records["product_events"]:
        value = json.loads(record.value())
        events.append({"partition": partition, "offset": offset, "ce_id": header(record, "ce_id"), "id": value["id"], "action": value["action"],
                       "name": value.get("name")})
    return sorted(events, key=lambda event: (event["partition"], event["offset"]))


def dead_letters(topics):
    return {group: [{"partition": p, "offset": o, "identity": identity_of(record), "headers": record.headers()} for p, o, record in topics.records[f"{group}.dlq"]]
            for group in TOPICS}


def committed_in_files(feed, group):
    path = f"{feed.prefix}{group}.group"
    if not (feed.files / path).exists():
        return {}
    with feed.opened(path) as db:
        return dict(db.execute("SELECT partition, next FROM offset WHERE topic = ?", (TOPICS[group],)).fetchall())


def committed(feed, group):
    if is_embedded(feed):
        return committed_in_files(feed, group)
    topic = feed.prefix + TOPICS[group]
    consumer = confluent_kafka.Consumer({"bootstrap.servers": feed.server("KAFKA_BROKERS"), "group.id": feed.prefix + group})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        return {place.partition: max(place.offset, 0) for place in consumer.committed([confluent_kafka.TopicPartition(topic, p) for p in partitions], timeout=30)}
    finally:
        consumer.close()


def sample(feed, topics, when):
    """Offsets first, then effects: what is committed must be finished already. Of the groups whose effects are rows."""
    places = {group: committed(feed, group) for group in FINISHED}
    done = {group: [".".join(map(str, row)) if len(row) > 1 else row[0] for row in feed.sql(query)] for group, query in FINISHED.items()}
    topics.catch_up()
    samples = []
    for group in FINISHED:
        records = collections.defaultdict(list)
        for partition, offset, record in topics.records[TOPICS[group]]:
            records[partition].append((offset, identity_of(record)))
        waiting = [identity_of(record) for name, found in topics.records.items() if name.startswith(group + ".") for _, _, record in found]
        samples.append({"group": group, "when": when, "committed": places[group], "records": records, "finished": done[group] + waiting})
    return samples


FINISHED = {"fanout": "SELECT id FROM outbound", "command": "SELECT id FROM command", "chunk": "SELECT post_id, n FROM fanout_chunk WHERE done = 1"}


def read_lists(feed, client, authors):
    """What authors have posted, as a reader of the API pages through it."""
    lists = {}
    for author in authors:
        ids, path = [], f"/participant/{author}/outbound?limit=1000"
        while path:
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
            ids += [row["id"] for row in answer.json()]
            path = answer.links["next"]["url"] if "next" in answer.links else None
        lists[author] = ids
    return lists


def topic_names(feed):
    if is_embedded(feed):
        return [path.name.removesuffix(".topic").removeprefix(feed.prefix) for path in feed.files.glob("*.topic")]
    consumer = confluent_kafka.Consumer({"bootstrap.servers": feed.server("KAFKA_BROKERS"), "group.id": feed.prefix + "nobody"})
    try:
        return [name.removeprefix(feed.prefix) for name in consumer.list_topics(timeout=30).topics if name.startswith(feed.prefix)]
    finally:
        consumer.close()


def retry_topics(feed):
    """Topics of records that wait for another try, and whose they are: name → group."""
    return {name: name.split(".")[0] for name in topic_names(feed) if ".retry." in name}


def lags(feed):
    left = {group: feed.lag(group) for group in TOPICS}
    for topic, group in retry_topics(feed).items():
        left[topic] = feed.lag(group, topic)
    return left


def wait_quiet(feed, seconds=120):
    """Until nothing is under way: no lag anywhere, no open chunk. How long that took."""
    began = time.monotonic()

    def quiet():
        left = {name: lag for name, lag in lags(feed).items() if lag}
        open_chunks = feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE done = 0")
        return not left and not open_chunks
    wait_for(quiet, f"all is quiet: {lags(feed)}", seconds, every=0.2)
    return time.monotonic() - began


def topics_of(feed):
    """What the checker reads of the log."""
    kind = FileTopics if is_embedded(feed) else Topics
    return kind(feed, [*sorted(set(TOPICS.values())), "product_events", *(f"{group}.dlq" for group in TOPICS), *retry_topics(feed)])


def collect(feed, topics, client, authors=(), when="at the end"):
    """The state of a Feedmill that is quiet."""
    samples = sample(feed, topics, when)
    state = read_tables(feed)
    state["documents"] = read_documents(feed, state["outbound"])
    state["events"] = read_events(topics)
    state["dead"] = dead_letters(topics)
    state["lag"] = lags(feed)
    state["samples"] = samples
    state["read"] = read_lists(feed, client, authors)
    return state


def judge(history, state):
    report = check(history.events, state)
    assert not report.breaches, "\n" + report.witness()
    return report
