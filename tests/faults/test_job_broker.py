"""F9: RabbitMQ itself is killed, and started again on its data, at each step of a job's life: before its delivery, while its handler runs, between
its result and its acknowledgement, while its retry or its delay has no confirm yet, while it waits in the queues of the delay. No
late-ack job is lost, and none is run more often than the cap."""
import collections
import contextlib
import os
import signal

import pika
import pytest

from feedmill import wait_for
from jobs import Jobs
from private import state_of
from proxy import DOWN, Proxy
from rabbit import Rabbit

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

    def __init__(self, folder, rabbit, queue_type, body="echo 42"):
        self.rabbit, self.proxy, self.gate = rabbit, Proxy("127.0.0.1", rabbit.port), folder / "gate"
        super().__init__(folder, rabbit.url, body, **{
            "amqp.url": rabbit.url.replace(f":{rabbit.port}", f":{self.proxy.port}"), "job.queue_type": queue_type, "job.concurrency": 2,
            "job.delivery_limit": CAP, "job.retry_first_ms": 1, "amqp.heartbeat_s": 20})
        self.app.conf.update(task_default_queue_type=queue_type, broker_transport_options={"confirm_publish": True})
        self.results = []

    def declare(self):
        self.worker("job").stop()
        if self.settings["job.queue_type"] == "quorum":  # RabbitMQ 3.10 writes down which ones there are minutes later; killed before, it can't find them again
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


@pytest.fixture
def make_jobs(tmp_path, rabbit, queue_type):
    made = []

    def make(body="echo 42"):
        made.append(Broken(tmp_path, rabbit, queue_type, body.format(gate=tmp_path / "gate")))
        made[-1].declare()
        return made[-1]
    yield make
    for jobs in made:
        jobs.gate.touch()       # nothing waits there for ever
        jobs.stop()


WAITS = "while [ ! -e {gate} ]; do sleep 0.02; done; echo 42"
RETRIES = "while [ ! -e {gate} ]; do sleep 0.02; done; [ $FEED_JOB_RETRIES -gt 0 ] || exit 75; echo 42"


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
