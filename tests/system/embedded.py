"""A Feedmill on the embedded back ends: no server, all of it in a folder of the test's own."""
import contextlib
import sqlite3
import time

from feedmill import Feedmill


class EmbeddedFeedmill(Feedmill):
    """The same programs over SQLite files. What other programs see of it is read from the files."""

    def __init__(self, folder, **settings):
        files = folder / f"embedded-{time.monotonic_ns()}"
        super().__init__(folder, **{"queue.type": "sqlite", "store.type": "sqlite", "search.type": "sqlite", "embedded.folder": str(files), **settings})
        self.files = files

    def open(self, name):
        """One of its files, as a database."""
        return contextlib.closing(sqlite3.connect(self.files / name, timeout=30, isolation_level=None))

    def sql(self, statement, *values):
        with self.open("store.db") as db:
            return tuple(db.execute(statement.replace("%s", "?"), values).fetchall())

    def produce_all(self, topic, records, **settings):
        """Records without headers; into partition 0 when they name none."""
        places = []
        with self.open(f"{self.prefix}{topic}.topic") as db:
            db.execute("BEGIN IMMEDIATE")
            for record in records:
                partition = record.get("partition", 0)
                high, = db.execute("SELECT high FROM partition WHERE id = ?", [partition]).fetchone()
                bytes_of = [v.encode() if isinstance(v, str) else v for v in (record.get("key"), record["value"])]
                db.execute("INSERT INTO record (id, timestamp_ms, key, value) VALUES (?, ?, ?, ?)", [(partition << 48) + high, record.get("timestamp", int(time.time() * 1000)), *bytes_of])
                db.execute("UPDATE partition SET high = ? WHERE id = ?", [high + 1, partition])
                places.append((partition, high))
            db.execute("COMMIT")
        return places

    def bounds(self, topic):
        with self.open(f"{self.prefix}{topic}.topic") as db:
            return {partition: (low, high) for partition, low, high in db.execute("SELECT id, low, high FROM partition")}

    def ends(self, topic):
        return [high for _, (_, high) in sorted(self.bounds(topic).items())]

    def lag(self, group, topic=None):
        topic = topic or {"command": "feed.commands", "chunk": "feed.chunks"}.get(group, "feed.posts")
        committed = {}
        if (self.files / f"{self.prefix}{group}.group").exists():
            with self.open(f"{self.prefix}{group}.group") as db, contextlib.suppress(sqlite3.OperationalError):
                committed = dict(db.execute("SELECT partition, next FROM offset WHERE topic = ?", [topic]))
        return sum(high - max(committed.get(partition, 0), low) for partition, (low, high) in self.bounds(topic).items())

    def drop(self):
        for file in self.files.glob("*"):
            file.unlink()
        if self.files.exists():
            self.files.rmdir()
