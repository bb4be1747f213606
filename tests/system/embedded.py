"""The same Feedmill in the files of one folder: no server is asked, and none is needed.

What others see is read from the files themselves, as common/queue/queue_sqlite.h describes them, so that a test does not depend on
the programs that it tests."""
import contextlib
import os
import random
import shutil
import socket
import sqlite3
import struct
import time

import pytest

from feedmill import Feedmill, wait_for

EMBEDDED_FILES = ".files"   # at the end of each folder's name
OFFSET_BITS = 48    # of a record's id: the partition above, the offset below


def murmur2(key):
    """As Java's Kafka client hashes a key."""
    mix, mask = 0x5bd1e995, 0xffffffff
    value = 0x9747b28c ^ len(key)
    whole = len(key) // 4 * 4
    for word, in struct.iter_unpack("<I", key[:whole]):
        word = word * mix & mask
        value = (value * mix & mask) ^ ((word ^ word >> 24) * mix & mask)
    for i, byte in enumerate(key[whole:]):
        value ^= byte << 8 * i
    if key[whole:]:
        value = value * mix & mask
    value = (value ^ value >> 13) * mix & mask
    return value ^ value >> 15


def headers_in(data):
    """Name and value, one after another, each behind its length; a name ends with NUL, a value's length is one more, 0 is none."""
    found, at = [], 0

    def take():
        nonlocal at
        length, = struct.unpack_from("<I", data, at)
        at += 4
        return length
    while at < len(data):
        length = take()
        name = data[at:at + length - 1].decode()
        at += length
        length = take()
        found.append((name, None if length == 0 else data[at:at + length - 1]))
        at += max(length - 1, 0)
    return found


def headers_out(headers):
    data = b""
    for name, value in headers.items() if isinstance(headers, dict) else headers or []:
        name = name.encode() + b"\0"
        value = value.encode() if isinstance(value, str) else value
        data += struct.pack("<I", len(name)) + name + (struct.pack("<I", 0) if value is None else struct.pack("<I", len(value) + 1) + value)
    return data


class Record:
    """What a Kafka client gives for a record."""

    def __init__(self, topic, row):
        self.row, self.name = row, topic

    def topic(self):
        return self.name

    def partition(self):
        return self.row[0] >> OFFSET_BITS

    def offset(self):
        return self.row[0] & ((1 << OFFSET_BITS) - 1)

    def timestamp(self):
        return (1, self.row[1])

    def key(self):
        return self.row[2]

    def value(self):
        return self.row[3]

    def headers(self):
        return headers_in(self.row[4] or b"") or None

    def error(self):
        return None


def as_bytes(text):
    return text.encode() if isinstance(text, str) else text


class EmbeddedFeedmill(Feedmill):
    queue = "sqlite"

    def back_ends(self):
        self.files = self.folder / (self.name + EMBEDDED_FILES)
        return {"queue.type": "sqlite", "store.type": "sqlite", "search.type": "sqlite", "embedded.folder": str(self.files),
                "kafka.topic_prefix": self.prefix, "kafka.partitions": 4}

    def drop(self):
        shutil.rmtree(self.files, ignore_errors=True)

    # ---- the files

    @contextlib.contextmanager
    def opened(self, name):
        path = self.files / name
        assert path.exists(), f"{path} is not there"
        db = sqlite3.connect(path, timeout=60, isolation_level=None)
        try:
            yield db
        finally:
            db.close()

    def connect(self):
        pytest.skip("needs a server: a session of its own")

    def sql(self, statement, *values):
        with self.opened("store.db") as db:
            return tuple(db.execute(statement.replace("%s", "?").replace("%%", "%"), values))

    @contextlib.contextmanager
    def held(self):
        with self.opened("store.db") as db:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("ROLLBACK")

    def tables(self):
        return {name for name, in self.sql("SELECT name FROM sqlite_schema WHERE type = 'table'")}

    def make_empty_database(self):
        assert not (self.files / "store.db").exists()

    def topic_file(self, topic):
        return f"{self.prefix}{topic}.topic"

    def subscribe(self, topic, group=None):
        pytest.skip("needs a server: a client of Kafka")

    def producer(self, **more):
        self.subscribe("")

    def records(self, topic, enough, seconds=30.0):
        """Records of a topic from the beginning until enough(records) is true."""
        records, places = [], {}

        def more():
            with self.opened(self.topic_file(topic)) as db:
                for partition, in db.execute("SELECT id FROM partition").fetchall():
                    first = (partition << OFFSET_BITS) + places.get(partition, 0)
                    for row in db.execute("SELECT id, timestamp_ms, key, value, headers FROM record WHERE id >= ? AND id < ? ORDER BY id",
                                          (first, (partition + 1) << OFFSET_BITS)):
                        records.append(Record(self.prefix + topic, row))
                        places[partition] = records[-1].offset() + 1
            return enough(records)
        wait_for(more, f"records of {topic}; {len(records)} so far", seconds)
        return records

    def produce_all(self, topic, records, **settings):
        """Records, as a foreign producer would write them, in one transaction; their partitions and offsets."""
        places = []
        with self.opened(self.topic_file(topic)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            ends = dict(db.execute("SELECT id, high FROM partition").fetchall())
            for record in records:
                key, value = as_bytes(record.get("key")), as_bytes(record.get("value"))
                partition = record.get("partition")
                if partition is None:
                    partition = random.choice(list(ends)) if key is None else (murmur2(key) & 0x7fffffff) % len(ends)
                db.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?)", (partition << OFFSET_BITS | ends[partition], record.get("timestamp", int(time.time() * 1000)),
                                                                         key, value, headers_out(record.get("headers"))))
                places.append((partition, ends[partition]))
                ends[partition] += 1
            db.executemany("UPDATE partition SET high = ? WHERE id = ?", [(high, partition) for partition, high in ends.items()])
            db.execute("COMMIT")
        self.wake(topic)
        return places

    def wake(self, topic):
        """Consumers look when a datagram says so, and by themselves once a second."""
        folder = os.open(self.files, os.O_RDONLY | os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knocking:
            for name in os.listdir(folder):
                if name.startswith(f"wake-{murmur2((self.prefix + topic).encode()):08x}-"):
                    with contextlib.suppress(OSError):
                        knocking.sendto(b"\1", f"/proc/self/fd/{folder}/{name}")
        os.close(folder)

    def ends(self, topic):
        with self.opened(self.topic_file(topic)) as db:
            return [high for high, in db.execute("SELECT high FROM partition ORDER BY id")]

    def lag(self, group, topic=None):
        topic = topic or self.read_by(group)
        done = {}
        if (self.files / f"{self.prefix}{group}.group").exists():
            with self.opened(f"{self.prefix}{group}.group") as db:
                with contextlib.suppress(sqlite3.OperationalError):     # made, and nothing in it yet
                    done = dict(db.execute("SELECT partition, next FROM offset WHERE topic = ?", (topic,)).fetchall())
        with self.opened(self.topic_file(topic)) as db:
            return sum(high - max(done.get(partition, low), low) for partition, low, high in db.execute("SELECT id, low, high FROM partition"))

    def delete_records(self, topic, partition, below):
        with self.opened(self.topic_file(topic)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM record WHERE id >= ? AND id < ?", (partition << OFFSET_BITS, partition << OFFSET_BITS | below))
            db.execute("UPDATE partition SET low = ? WHERE id = ?", (below, partition))
            db.execute("COMMIT")

    @contextlib.contextmanager
    def without_topic(self, topic):
        for path in self.files.glob(self.topic_file(topic) + "*"):
            path.unlink()
        try:
            yield
        finally:
            self.ctl("topics")

    # ---- search: what is committed is seen

    def searchable(self):
        pass

    def documents(self):
        with self.opened("search-feed.db") as db:
            return db.execute("SELECT COUNT(*) FROM document").fetchone()[0]
