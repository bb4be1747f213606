"""F9: RabbitMQ itself is killed, and started again on its data, at each step of a job's life: before its delivery, while its handler runs, between
its result and its acknowledgement, while its retry, its delay, its copy, its dead letter or its chain's next message has no confirm yet,
while it waits in the queues of the delay. No late-ack job is lost, and none is run more often than the cap. And it starts with nothing."""
import collections
import contextlib
import os
import signal

import billiard.exceptions
import celery
import pika
import pytest

from feedmill import Client, Feedmill, wait_for
from jobs import Jobs, take
from private import state_of
from proxy import DOWN, Proxy
from rabbit import Rabbit, Subscriber
from test_relay import event, id_of, state

CAP = 5
COUNT = 10


@pytest.fixture(scope="module", params=["classic", pytest.param("quorum", marks=pytest.mark.long)])
def queue_type(request):
    return request.param


@pytest.fixture(scope="module")
def rabbit(folder, queue_type):
    rabbit = Rabbit(folder)
    try:
        yield rabbit.start()
    finally:
        rabbit.stop()


class Broken(Jobs):
    """On a RabbitMQ that is killed, through a proxy that can keep its answers back."""

    def __init__(self, folder, rabbit, queue_type, body="echo 42", **settings):
        self.rabbit, self.proxy, self.gate = rabbit, Proxy("127.0.0.1", rabbit.port), folder / "gate"
        super().__init__(folder, rabbit.url, body, **{
            "amqp.url": rabbit.url.replace(f":{rabbit.port}", f":{self.proxy.port}"), "job.queue_type": queue_type, "job.concurrency": 2,
            "job.delivery_limit": CAP, "job.retry_first_ms": 1, "amqp.heartbeat_s": 20, **settings})
        self.app.conf.update(task_default_queue_type=queue_type, broker_transport_options={"confirm_publish": True})
        self.results = []

    def declare(self):
        self.worker("job").stop()
        # RabbitMQ 3.10 writes down minutes later which quorum queues there are (those of the delay always are); killed before, it can't find them again.
        self.rabbit.ctl("eval", "[dets:sync(Table) || Table <- dets:all()].")

    def send(self, count=COUNT, **options):
        self.results += [self.app.send_task("note", **options) for _ in range(count)]

    def count(self, *queues):
        """Messages that are ready in those that are there."""
        total = 0
        for queue in queues:
            with self.rabbit.connect() as connection, contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
                total += connection.channel().queue_declare(queue, passive=True).method.message_count
        return total

    def all_messages(self, queue="celery"):
        """Also those that were delivered and are not acknowledged."""
        return sum(int(line.split()[1]) for line in self.rabbit.ctl("list_queues", "--no-table-headers", "name", "messages").splitlines() if line.split()[0] == queue)

    def delayed(self):
        return self.count(*(f"celery_delayed_{level}" for level in range(6)))

    def stopped_at(self, point, passage=1):
        """A worker that stands still there. Its children go on."""
        worker = self.worker("job", env={"FAULT": f"{point}:{passage}:stop"}, wait=False)
        wait_for(lambda: state_of(worker.popen.pid) == "T", f"it stands at {point}", 60)
        return worker

    def kill_and_start(self, meanwhile=lambda: None):
        self.rabbit.kill()
        self.proxy.drop()       # what it had answered and was kept back goes with it
        self.proxy.restore()
        meanwhile()
        self.rabbit.start()

    def check(self, worker, step, tries=1):
        """The cap is for each try: a retry is a message of its own."""
        ids = {result.id for result in self.results}
        assert [result.get(timeout=120) for result in self.results] == [42] * len(ids), step
        wait_for(lambda: self.delayed() + self.all_messages() == 0, "all are acknowledged", 120)
        assert worker.stop() == 0
        with self.rabbit.connect() as connection:   # a quorum queue tells its count seconds later: what was there twice may be there still
            connection.channel().queue_purge("celery")
        assert self.count("feed.jobs.dead") == 0, "none is given up"
        runs = collections.Counter(ident for ident in self.runs() if ident in ids)  # not what an earlier test had left twice in a quorum queue
        assert set(runs) == ids and max(runs.values()) <= CAP * tries, runs
        print(f"F9 RabbitMQ killed {step}: {len(ids)} jobs, 0 lost, {max(runs.values())} runs of one at most")

    def drop(self):
        self.proxy.close()
        super().drop()


class Whole(Broken):
    """With a gateway and a relay, which have topics and tables."""

    def drop(self):
        Feedmill.drop(self)
        super().drop()


@pytest.fixture
def make_jobs(tmp_path, rabbit, queue_type):
    made = []

    def make(body="echo 42", kind=Broken, **settings):
        made.append(kind(tmp_path, rabbit, queue_type, body.format(gate=tmp_path / "gate", notes=tmp_path / "notes"), **settings))
        made[-1].declare()
        return made[-1]
    yield make
    for jobs in made:
        jobs.gate.touch()       # nothing waits there for ever
        jobs.stop()


WAITS = "while [ ! -e {gate} ]; do sleep 0.02; done; echo 42"
RETRIES = "while [ ! -e {gate} ]; do sleep 0.02; done; [ $FEED_JOB_RETRIES -gt 0 ] || exit 75; echo 42"
LOSES = ("while [ ! -e {gate} ]; do sleep 0.02; done; "     # its child, in its first run
         "[ $(grep -c $FEED_JOB_ID {notes}) -gt 1 ] || kill -9 $(cut -d' ' -f4 /proc/$PPID/stat); echo 42")
LISTS = {"queues": ("name", "durable", "auto_delete", "exclusive", "arguments"), "exchanges": ("name", "type", "durable", "auto_delete", "arguments"),
         "bindings": ("source_name", "destination_kind", "destination_name", "routing_key", "arguments")}
DELAY = {f"celery_delayed_{level}" for level in range(28)}


def listed(rabbit):
    """As an operator sees them: rows of words."""
    return {what: sorted(tuple(line.split("\t")) for line in rabbit.ctl(f"list_{what}", "--no-table-headers", *columns).splitlines())
            for what, columns in LISTS.items()}


def test_before_its_delivery(make_jobs):
    jobs = make_jobs()
    jobs.send()
    jobs.kill_and_start()
    wait_for(lambda: jobs.count("celery") == COUNT, "they are durable", 60)
    jobs.check(jobs.worker("job"), "before the delivery")


def test_right_after_its_delivery(make_jobs):
    jobs = make_jobs()
    jobs.send()
    worker = jobs.stopped_at("job.delivered", 3)
    jobs.kill_and_start(lambda: os.kill(worker.popen.pid, signal.SIGCONT))
    jobs.check(worker, "right after the delivery")


@pytest.mark.parametrize("end", ["after RabbitMQ is back", "while it is away"])
def test_while_its_handler_runs(make_jobs, end):
    """What runs goes on; it is not run again by the worker that still has it."""
    jobs = make_jobs(WAITS)
    worker = jobs.worker("job")
    jobs.send()
    wait_for(lambda: len(jobs.runs()) == 2, "two run", 60)
    running = jobs.runs()
    jobs.kill_and_start(jobs.gate.touch if end == "while it is away" else lambda: None)
    jobs.gate.touch()
    jobs.check(worker, f"while the handler runs, which ends {end}")
    assert all(jobs.runs().count(ident) == 1 for ident in running)


def test_between_its_result_and_its_acknowledgement(make_jobs):
    jobs = make_jobs()
    jobs.send()
    worker = jobs.stopped_at("job.stored", 3)
    jobs.kill_and_start(lambda: os.kill(worker.popen.pid, signal.SIGCONT))
    jobs.check(worker, "between result and acknowledgement")
    assert len(jobs.runs()) == COUNT, "the worker lives, and knows what is done"


def test_both_die_between_result_and_acknowledgement(make_jobs):
    """The worker and RabbitMQ, one after the other: nobody knows that it is done but the table, which was not asked."""
    jobs = make_jobs()
    jobs.send()
    jobs.killed_at("job.stored")
    jobs.kill_and_start()
    jobs.check(jobs.worker("job"), "with the worker, between result and acknowledgement")


def test_while_a_retry_has_no_confirm(make_jobs):
    """RabbitMQ has the message of the retry, and the worker does not know: it is sent again."""
    jobs = make_jobs(RETRIES)
    worker = jobs.worker("job")
    jobs.send(2)
    wait_for(lambda: len(jobs.runs()) == 2, "both run", 60)
    jobs.proxy.hold(DOWN)
    jobs.gate.touch()
    wait_for(lambda: jobs.all_messages() == 4, "both retries are in the queue", 60)
    jobs.kill_and_start()
    jobs.check(worker, "while a retry has no confirm", tries=2)


def test_while_a_delay_has_no_confirm(make_jobs):
    jobs = make_jobs()
    jobs.send(1, countdown=3)
    worker = jobs.stopped_at("job.delivered")
    jobs.proxy.hold(DOWN)
    os.kill(worker.popen.pid, signal.SIGCONT)
    wait_for(lambda: jobs.delayed() > 0, "it is in the queues of the delay", 60, every=0.1)
    jobs.kill_and_start()
    jobs.check(worker, "while a delay has no confirm")


def test_while_it_waits_in_the_queues_of_the_delay(make_jobs):
    """Killed as they lie there, and again as they go from level to level."""
    jobs = make_jobs()
    worker = jobs.worker("job")
    for seconds in range(11, 21):
        jobs.send(2, countdown=seconds)
    wait_for(lambda: jobs.delayed() + len(jobs.runs()) >= 20, "all were taken to the delay", 60, every=0.1)
    wait_for(lambda: jobs.all_messages() == 0, "all publishes are confirmed", 60)
    assert jobs.delayed() > 0
    jobs.kill_and_start()
    wait_for(lambda: jobs.runs(), "the first has run", 60)
    jobs.kill_and_start()
    jobs.check(worker, "twice, while jobs wait in the queues of the delay")


@pytest.mark.parametrize("pool", ["children", "threads"])
def test_while_what_follows_has_no_confirm(make_jobs, pool):
    """RabbitMQ has the copy of a job that lost its child, a dead letter and a chain's next message, and the worker does not know: each is sent
    again. With threads the chain's first job runs in one."""
    jobs = make_jobs(LOSES, **{"job.pool": pool, "job.concurrency": 3})
    with jobs.rabbit.connect() as connection:
        connection.channel().queue_declare("behind", durable=True)
    jobs.rabbit.keep_bindings()
    worker, s = jobs.worker("job"), jobs.app.signature
    lost = jobs.app.send_task("note", task_id="lost")
    dead = jobs.app.send_task("note", task_id="dead", headers={"x-feed-deliveries": CAP - 1})
    wait_for(lambda: len(jobs.runs()) == 2, "both run", 60)
    jobs.proxy.hold_after(b"behind")
    after = celery.chain(s("add", (1, 2)), s("echo", queue="behind"), app=jobs.app).apply_async()
    wait_for(lambda: jobs.count("behind") == 1, "the next message is in its queue", 60, every=0.1)
    jobs.gate.touch()
    wait_for(lambda: jobs.count("feed.jobs.dead") == 1 and jobs.all_messages() == 4, "the dead letter and the copy are in theirs", 60, every=0.1)
    jobs.kill_and_start()
    assert lost.get(timeout=120) == 42 and after.parent.get(timeout=120) == 3
    with pytest.raises(billiard.exceptions.WorkerLostError):
        dead.get(timeout=120)
    wait_for(lambda: jobs.all_messages() == 0, "all are acknowledged", 120)
    assert worker.stop() == 0
    with jobs.rabbit.connect() as connection:
        channel = connection.channel()
        letters, following = ([ident for ident, _, _ in take(channel, queue)] for queue in ("feed.jobs.dead", "behind"))
        channel.queue_delete("behind")
    assert set(letters) == {"dead"} and set(following) == {after.id} and max(len(letters), len(following)) <= 2, (letters, following)
    runs = collections.Counter(jobs.runs())
    assert set(runs) == {"lost", "dead"} and max(runs.values()) <= CAP, runs
    print(f"F9 RabbitMQ killed while what follows has no confirm, {pool}: 0 lost, {len(letters)} dead letters of one, {len(following)} next messages of one, "
          f"{runs['lost']} runs of what lost its child")


def test_back_with_nothing(make_jobs):
    """Its data is gone: worker, gateway and relay make all of theirs again. What ran ends, and the next jobs run, at once and later."""
    jobs = make_jobs(WAITS, kind=Whole, **{"gateway.jobs": "note"}).prepare()
    worker, relay, gateway = jobs.worker("job"), jobs.worker("relay"), jobs.gateway()
    client = Client(gateway.url)

    def send(**more):
        answer = client.post("/jobs/note", more)
        return answer.status_code == 202 and answer.headers["Location"]
    places = [wait_for(send, "the gateway is connected", 60, every=0.1)]
    wait_for(jobs.runs, "it runs", 60)
    wait_for(lambda: state(relay, "rabbitmq") == "ok", "the relay is connected", 60)
    before = listed(jobs.rabbit)
    names = {what: {row[0] for row in rows} for what, rows in before.items()}
    assert names["queues"] >= {"celery", "feed.jobs.dead", *DELAY} and any("pidbox" in name for name in names["queues"])
    assert names["exchanges"] >= {"celery", "celery_delayed_delivery", "celeryev", "celery.pidbox", "product_events", *DELAY}
    assert names["bindings"] >= {"celery", "celery_delayed_delivery", "celery.pidbox", *DELAY}
    jobs.kill_and_start(jobs.rabbit.forget)
    wait_for(lambda: "product_events" in jobs.rabbit.ctl("list_exchanges", "name"), "the relay is back", 60)
    worker.wait_ready()
    places += [wait_for(lambda: send(**more), "the gateway is back", 60, every=0.1) for more in ({}, {"countdown": 1})]
    assert listed(jobs.rabbit) == before
    jobs.gate.touch()
    assert [wait_for(lambda: client.ok("GET", place).get("result"), f"{place} is done", 60, every=0.1) for place in places] == [42] * 3
    subscriber, sent = Subscriber(jobs.rabbit.url), event(1)
    jobs.produce_all("product_events", [sent])
    wait_for(lambda: subscriber.ids() == [id_of(sent)], "the relay's event", 60)
    subscriber.close()
    assert worker.stop() == 0 and len(jobs.runs()) == 3
    print("F9 RabbitMQ killed, and back with nothing: " + ", ".join(f"{len(rows)} {what}" for what, rows in before.items()) + ", all there again")
