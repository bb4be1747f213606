"""feedctl up: one command runs gateway and workers, replaces them under load, and leaves nobody behind."""
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
import requests

from feedmill import BUILD, ROOT, Client, Process, wait_for


WORKERS = len(subprocess.run([BUILD / "feed-worker", "--list"], capture_output=True, text=True).stdout.splitlines())


class Up(Process):
    """A running `feedctl up`."""

    @property
    def port(self):
        return int(self.wait_logged(r"event=holding port=(\d+)")[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self):
        self.wait_logged('event="all ready"', 60)
        return self

    def pids(self, replica):
        return [int(pid) for pid in re.findall(rf"event=started replica={replica} pid=(\d+)", self.output())]

    def roll(self, seconds=120):
        done = self.output().count('event="rolling restart done"')
        self.signal(signal.SIGHUP)
        wait_for(lambda: self.output().count('event="rolling restart done"') > done or self.logged("given up"), "the rolling restart is done", seconds)
        assert not self.logged("given up"), self.output()[-3000:]


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter: it went between the opening and the reading
        return False


@pytest.fixture
def up(make_feed):
    def start(feed, *arguments, env=None, config=None):
        return feed._start(Up, "up", "feedctl", "up", *arguments, env=env, config=config)
    return start


class Load:
    """Clients that never retry by themselves: whatever is not a good answer counts as a failure."""

    def __init__(self, port, author, reader):
        self.port, self.author, self.reader = port, author, reader
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.failures, self.posts, self.count, self.slowest = [], [], {}, {}
        self.threads = [threading.Thread(target=self.run, args=arguments) for arguments in (
            ("post, kept", self.post, True, 0.002), ("post, kept, slower", self.post, True, 0.1), ("post, new", self.post, False, 0.01),
            ("read, kept", self.read, True, 0.002), ("read, new", self.read, False, 0.01), ("command, kept", self.command, True, 0.02),
            ("command, new", self.command, False, 0.05))]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def exchange(self, connection, method, path, body=None):
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, f"{answer.status} {text[:300]}"
        return json.loads(text)

    def post(self, connection):
        post = self.exchange(connection, "POST", f"/participant/{self.author}/outbound", {"subject": "s", "story": "a story under load"})
        with self.lock:
            self.posts.append(post["id"])

    def read(self, connection):
        self.exchange(connection, "GET", f"/participant/{self.reader}/inbound?limit=1")

    def command(self, connection):
        self.exchange(connection, "POST", "/products", {"name": "under load", "price": 1})

    def run(self, name, what, kept, pause):
        connection = None
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                if connection is None or not kept:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                what(connection)
                if not kept:
                    connection.close()
            except Exception as problem:  # any failure is what is looked for
                with self.lock:
                    self.failures.append(f"{name}: {problem!r}")
                connection = None
            with self.lock:
                self.count[name] = self.count.get(name, 0) + 1
                self.slowest[name] = max(self.slowest.get(name, 0), time.monotonic() - began)
            self.stop.wait(pause)


@pytest.mark.parametrize("replicas", ["gateway=1", "gateway=2,fanout=2,command=2"])
def test_rolling_restart_fails_no_request(make_feed, up, replicas):
    feed = make_feed().prepare()
    one = up(feed, "--replicas", replicas).wait_ready()
    names = {match for match in re.findall(r"event=started replica=(\S+)", one.output())}
    assert len(names) == WORKERS + (1 if replicas == "gateway=1" else 4)
    before = {name: one.pids(name)[-1] for name in names}
    client = Client(one.url)
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    with Load(one.port, author, reader) as load:
        wait_for(lambda: len(load.count) == len(load.threads) and min(load.count.values()) > 5, "all clients are at work")
        one.roll()
        counted = dict(load.count)
        wait_for(lambda: all(load.count[name] > counted[name] + 5 for name in counted), "all clients go on")
    print(replicas, load.count, {name: round(seconds, 3) for name, seconds in load.slowest.items()})
    assert not load.failures, (len(load.failures), load.failures[:10])
    for name in names:
        assert one.pids(name)[-1] != before[name], f"{name} was replaced"
        assert not alive(before[name])
    assert sorted(children(one.pid)) == sorted(one.pids(name)[-1] for name in names)
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM inbound") >= len(load.posts), "every post arrives", 60)
    assert {row[0] for row in feed.sql("SELECT post_id FROM inbound WHERE participant_id = %s", reader)} == set(load.posts)
    assert one.stop() == 0


def test_a_killed_child_comes_back(make_feed, up):
    feed = make_feed().prepare()
    one = up(feed, "--replicas", "gateway=2,chunk=0,index=0").wait_ready()
    assert not one.pids("chunk.1") and not one.pids("index.1") and len(children(one.pid)) == WORKERS - 2 + 2
    victims = {name: one.pids(name)[0] for name in ("gateway.2", "fanout.1", "command.1")}
    for pid in victims.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in victims.items():
        one.wait_logged(rf"event=ended replica={name} pid={pid} signal=9 again_in_ms=\d+")
        wait_for(lambda: len(one.pids(name)) == 2, f"{name} is started again")
        wait_for(lambda: len(re.findall(rf"^replica={name} time=.* event=ready ", one.output(), re.M)) == 2, f"{name} is ready again", 40)
    client = Client(one.url)
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    post = client.say(author, "after the kill")
    wait_for(lambda: [row["id"] for row in client.inbound(reader)] == [post], "the post arrives")
    assert one.stop() == 0


def test_what_dies_at_once_is_started_ever_more_slowly(make_feed, up):
    feed = make_feed()  # without tables: gateways end, saying what to do
    one = up(feed, "--replicas", "command=0,fanout=0,chunk=0,index=0")
    wait_for(lambda: len(one.pids("gateway.1")) >= 4, "it is tried again", 60)
    assert "feedctl migrate" in one.output()
    assert max(int(ms) for ms in re.findall(r"again_in_ms=(\d+)", one.output())) <= 30000
    feed.prepare()
    one.wait_ready()
    assert one.stop() == 0


def test_stop_is_in_order_and_leaves_nobody(make_feed, up):
    feed = make_feed().prepare()
    one = up(feed).wait_ready()
    mine = children(one.pid)
    assert len(mine) == WORKERS + 1
    client = Client(one.url)
    client.participant()
    assert one.stop() == 0
    assert not any(map(alive, mine))
    text = one.output()
    gone = text.index("event=ended replica=gateway.1")
    assert all(gone < match.start() for match in re.finditer("event=draining", text)), "workers are asked when the gateway has gone"
    assert len(re.findall("event=draining", text)) == WORKERS
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", one.port), 1)


def test_ctrl_c_reaches_feedctl_alone(make_feed, up):
    """At a terminal the whole foreground group gets SIGINT: children would count it as their first signal."""
    feed = make_feed().prepare()
    one = up(feed, "--replicas", "chunk=0,index=0,fanout=0").wait_ready()
    assert all(os.getpgid(pid) == pid for pid in children(one.pid))
    one.signal(signal.SIGINT)
    assert one.popen.wait(40) == 0


def ask_for_ever(port):
    with contextlib.suppress(requests.RequestException):
        Client(f"http://127.0.0.1:{port}").post("/products", {"name": "x", "price": 1})


def test_a_second_signal_ends_all_at_once(make_feed, up):
    feed = make_feed(gateway__wait_ms=30000).prepare()
    one = up(feed, "--replicas", "command=0,fanout=0,chunk=0,index=0").wait_ready()
    mine = children(one.pid)
    waiting = threading.Thread(target=ask_for_ever, args=(one.port,))
    waiting.start()
    wait_for(lambda: feed.lag("command") == 1, "a request waits for a worker that is not there")
    one.signal(signal.SIGTERM)
    one.wait_logged("event=stopping pending=1")
    assert one.running()
    one.signal(signal.SIGTERM)
    assert one.popen.wait(5) == 130
    wait_for(lambda: not any(map(alive, mine)), "no child is left", 5)
    waiting.join(40)
    feed.processes.remove(one)


def test_no_orphans_when_killed(make_feed, up):
    feed = make_feed().prepare()
    one = up(feed).wait_ready()
    mine = children(one.pid)
    one.kill()
    wait_for(lambda: not any(map(alive, mine)), "no child is left", 5)


def test_settings_that_are_refused_stop_all(make_feed, up, tmp_path):
    feed = make_feed().prepare()
    wrong = feed.write_config(tmp_path / "wrong.cfg", **{"mysql.prt": 5})
    one = up(feed, config=wrong)
    assert one.popen.wait(20) == 2 and "mysql.prt" in one.output() and "event=started" not in one.output()
    contract = tmp_path / "contract.yaml"
    contract.write_text("openapi: 3.1.0\n")
    two = up(feed, config=feed.write_config(tmp_path / "contract.cfg", **{"gateway.contract": str(contract)}))
    assert two.popen.wait(60) == 2
    assert "stopping all: the settings are refused" in two.output() and "contract refused" in two.output()
    assert len(two.pids("gateway.1")) == 1, "not started again"
    for process in (one, two):
        feed.processes.remove(process)


def test_rolling_restart_takes_new_settings_and_refuses_wrong_ones(make_feed, up):
    feed = make_feed(gateway__cors_origin="http://before").prepare()
    one = up(feed, "--replicas", "fanout=0,chunk=0,index=0").wait_ready()
    client = Client(one.url)
    origin = lambda: client.get("/products").headers["Access-Control-Allow-Origin"]
    assert origin() == "http://before"
    feed.write_config(**{"mysql.prt": 5})
    one.signal(signal.SIGHUP)
    one.wait_logged('event="no rolling restart.*mysql.prt')
    assert len(one.pids("gateway.1")) == len(one.pids("command.1")) == 1
    feed.write_config(**{"gateway.cors_origin": "http://after", "gateway.contract": "nowhere.yaml"})
    one.signal(signal.SIGHUP)
    one.wait_logged('event="rolling restart given up" replica=gateway.1', 60)
    assert origin() == "http://before", "the one before goes on when the next one can't"
    feed.write_config(**{"gateway.cors_origin": "http://after", "log.level": "warn"})
    told = len(one.output())
    before = children(one.pid)
    one.signal(signal.SIGHUP)
    wait_for(lambda: not any(map(alive, before)), "all are replaced, though nobody says so at this level", 60)
    assert origin() == "http://after"
    assert one.stop() == 0
    assert "level=info" not in one.output()[told:]


def test_a_worker_with_a_name_of_its_own_stops_first(make_feed, up):
    """Two members of one name would put each other out."""
    feed = make_feed(**{"instance": "here"}).prepare()
    one = up(feed, "--replicas", "command=2,fanout=0,chunk=0,index=0").wait_ready()
    one.roll()
    text = one.output()
    for name in ("command.1", "command.2"):
        first, second = one.pids(name)
        assert text.index(f"event=ended replica={name} pid={first} code=0") < text.index(f"event=started replica={name} pid={second}")
    assert "fenced" not in text.lower()
    Client(one.url).participant()
    assert one.stop() == 0


def two_free_ports():
    """The first of two in a row that nobody has, below those that the system gives to outgoing connections."""
    for port in range(20000 + os.getpid() % 10000, 32000, 2):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
            return port
    raise AssertionError("no two ports are free")


def test_replicas_of_the_gateway_have_admin_ports_of_their_own(make_feed, up):
    port = two_free_ports()
    feed = make_feed(gateway__admin=f"127.0.0.1:{port}").prepare()
    one = up(feed, "--replicas", "gateway=2,command=0,fanout=0,chunk=0,index=0").wait_ready()
    ports = re.findall(r"^replica=(gateway\.\d) .*event=ready .*admin_port=(\d+)", one.output(), re.M)
    assert sorted(ports) == [("gateway.1", str(port)), ("gateway.2", str(port + 1))]
    assert one.stop() == 0


def test_a_log_that_nobody_reads_stops_nothing(make_feed):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    feed = make_feed(gateway__listen=f"127.0.0.1:{port}", log__level="debug").prepare()
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    one = subprocess.Popen([BUILD / "feedctl", "-c", feed.config, "up"], stdout=writing, stderr=writing, cwd=ROOT)
    os.close(writing)
    try:
        client, answered = Client(f"http://127.0.0.1:{port}"), []

        def is_up():
            with contextlib.suppress(requests.ConnectionError):
                answered.append(client.post("/participant", {"name": "somebody"}).status_code == 200)
                return answered[-1]
        wait_for(is_up, "all is up behind a full pipe", 60)
        before = children(one.pid)
        one.send_signal(signal.SIGHUP)
        wait_for(lambda: not any(map(alive, before)), "all are replaced", 60)
        assert is_up()
        one.terminate()
        assert one.wait(40) == 0
    finally:
        one.kill()
        one.wait()
        os.close(reading)


def test_it_takes_a_socket_from_above(make_feed, folder):
    """As a service manager does it: LISTEN_FDS."""
    feed = make_feed().prepare()
    launcher = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
    with socket.create_server(("127.0.0.1", 0), backlog=64) as held:
        log = folder / f"{feed.name}-above.log"
        argv = [sys.executable, "-c", launcher, str(held.fileno()), str(BUILD / "feedctl"), "-c", str(feed.config), "up", "--replicas", "chunk=0,index=0,fanout=0"]
        with open(log, "ab") as out:
            above = subprocess.Popen(argv, stdout=out, stderr=out, cwd=ROOT, env={**os.environ, "LISTEN_FDS": "1"}, pass_fds=[held.fileno()])
        try:
            wait_for(lambda: 'event="all ready"' in log.read_text(), "it is up", 60)
            assert f"event=holding port={held.getsockname()[1]} " in log.read_text()
            Client(f"http://127.0.0.1:{held.getsockname()[1]}").participant()
            above.terminate()
            assert above.wait(40) == 0
        finally:
            above.kill()
            above.wait()


@pytest.mark.parametrize("arguments, words", [
    (("--replicas", "fanuot=2"), "fanout"), (("--replicas", "fanout=x"), "0 to 64"), (("--replicas", "fanout=65"), "0 to 64"),
    (("--replicas", "fanout"), "0 to 64"), (("--replica",), "--replicas"), (("now",), "now"),
])
def test_wrong_words(make_feed, arguments, words):
    done = subprocess.run([BUILD / "feedctl", "up", *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and words in done.stderr, done.stderr


def test_help():
    shown = subprocess.run([BUILD / "feedctl", "up", "--help"], capture_output=True, text=True, timeout=20)
    assert shown.returncode == 0 and "--replicas" in shown.stdout and "SIGHUP" in shown.stdout


def test_programs_that_are_not_there_are_named(tmp_path):
    alone = tmp_path / "feedctl"
    alone.write_bytes((BUILD / "feedctl").read_bytes())
    alone.chmod(alone.stat().st_mode | stat.S_IXUSR)
    done = subprocess.run([alone, "up"], capture_output=True, text=True, timeout=20, env={"PATH": str(tmp_path)})
    assert done.returncode == 1 and "feed-worker" in done.stderr, done.stderr
