"""Feedmill as the bench runs it: a database, an index and topics of its own, seeded, and its programs one at a time."""
import contextlib
import sys
import tempfile
import time

from machine import ROOT, Failed, handled, taking, wait_until

sys.path[:0] = [str(ROOT / "tests/interop"), str(ROOT / "tests/system")]  # conftest is the former's
import feedmill  # noqa: E402

STORY = "river lantern market harbour copper window garden winter letter bridge orchard signal thunder velvet whistle meadow " * 2
BYTES = 190
PARTITIONS = 8
EVERY = 0.05  # seconds between two looks at what is measured


class Ours(feedmill.Feedmill):
    def __init__(self, **settings):
        self.scratch = tempfile.TemporaryDirectory(prefix="feedmill-bench-")
        super().__init__(self.scratch.name, **{"kafka.partitions": PARTITIONS, **settings})
        try:
            self.prepare()
        except BaseException:
            self.__exit__(*sys.exc_info())  # what was made of it does not stay
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(AssertionError) if error[0] else contextlib.nullcontext():
            self.stop()
        self.scratch.cleanup()

    # ---- what there is before

    def insert(self, into, rows, at_once=5000):
        rows = list(rows)
        with self.connect() as connection, connection.cursor() as cursor:
            connection.select_db(self.database)
            for at in range(0, len(rows), at_once):
                cursor.execute(f"INSERT INTO {into} VALUES " + ",".join(rows[at:at + at_once]))

    def people(self, count):
        self.insert("participant (id, name)", (f"({i},'user {i}')" for i in range(1, count + 1)))

    def ring(self, people, friends, authors=None):
        """Everyone (or so many authors, at equal distances) with that many friends, half on either side."""
        authors = authors or people
        self.people(people)
        self.insert("friend (participant_id, friend_id, id)",
                    (f"({a},{(a - 1 + (people - s if side else s)) % people + 1},{a * 2000000 + s * 2 + side})"
                     for a in range(1, people + 1, people // authors) for s in range(1, friends // 2 + 1) for side in (0, 1)))

    def products(self, count):
        self.insert("product (id, name, price)", (f"({i},'product {i}',{i}.5)" for i in range(1, count + 1)))

    def queue_posts(self, count, people, authors=None, story=BYTES, start=1):
        """Posts on feed.posts, as the gateway puts them there."""
        step = people // (authors or people)
        producer = self.producer(**{"queue.buffering.max.messages": 2000000, "linger.ms": 20, "batch.num.messages": 10000})
        text = (STORY * (story // len(STORY) + 1))[:story]
        for i in range(start, start + count):
            author = i % (authors or people) * step + 1
            producer.produce(self.prefix + "feed.posts", key=str(author), value=(
                f'{{"v":1,"id":{i},"from":{author},"posted_at":"2026-01-31T12:00:00.000Z","subject":"subject {i}","story":"{text}"}}'))
            if i % 1000 == 0:
                producer.poll(0)
        if producer.flush(120) != 0:
            raise Failed("posts could not be queued")

    # ---- what is measured

    @contextlib.contextmanager
    def question(self, statement):
        """What it answers, each time it is asked, over one connection."""
        with self.connect() as connection, connection.cursor() as cursor:
            connection.select_db(self.database)

            def ask():
                cursor.execute(statement)
                return cursor.fetchone()[0]
            yield ask

    def work_off(self, name, count, at_least=1, seconds=300):
        """Starts the worker on `count` queued records: records a second from the first batch that is through to the last, and what it took."""
        worker = self.worker(name, wait=False)
        wait_until(lambda: worker.logged(r"event=ready .*admin_port="), f"{name} starts", every=0.005)
        first = wait_until(lambda: handled(worker), f"{name} begins", every=0.005)
        figures = {}
        with taking([worker.pid], figures, count - first):
            began = time.monotonic()
            wait_until(lambda: handled(worker) >= count, f"{name} has done {count}", seconds, every=EVERY)
            figures["rate"] = (count - first) / (time.monotonic() - began)
        worker.stop()
        return figures
