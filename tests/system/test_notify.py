"""The service manager's protocol: ready when ready, signs of life only while something moves, and when it stops."""
import os
import socket
import threading

import pytest

from feedmill import server, wait_for
from proxy import Proxy

WATCHDOG_SECONDS = 2  # signs are due every quarter of it; the slowest round is the gateway's, 5 s
SILENCE_SECONDS = 7


class Manager:
    """A socket as systemd's, and what was said to it."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.env = {"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": str(WATCHDOG_SECONDS * 1000000)}
        self.said = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            self.said.append(self.socket.recv(4096).decode())

    def signs(self):
        return self.said.count("WATCHDOG=1")


def are_silent(*managers):
    """Whether for some time no sign came to any."""
    before = [manager.signs() for manager in managers]
    try:
        wait_for(lambda: [manager.signs() for manager in managers] != before, "a sign", SILENCE_SECONDS)
    except AssertionError:
        return True
    return False


@pytest.fixture
def proxy(request):
    proxy = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT"))
    request.addfinalizer(proxy.close)
    return proxy


@pytest.fixture
def held_feed(make_feed, proxy):
    """Its database can be held so that a call hangs: for longer than the watchdog waits, and not for ever."""
    feed = make_feed(gateway__wait_ms=25000, mysql__read_timeout_ms=25000)
    feed.prepare()
    feed.settings["mysql.port"] = proxy.port
    feed.write_config()
    return feed


@pytest.mark.servers("a database that hangs")
def test_ready_signs_of_life_and_stopping(held_feed, proxy, tmp_path):
    proxy.hold()  # the database can be reached and says nothing: not ready
    managers = [Manager(str(tmp_path / "gateway")), Manager(str(tmp_path / "worker"))]
    processes = [held_feed.gateway(env=managers[0].env, wait=False), held_feed.worker("command", env=managers[1].env, wait=False)]
    for process in processes:
        process.wait_logged("event=start ")
    assert [manager.said for manager in managers] == [[], []]
    proxy.restore()
    for manager, process in zip(managers, processes):
        wait_for(lambda: manager.said, "the first word")
        assert manager.said[0] == "READY=1"
        process.wait_logged("event=ready ")
        wait_for(lambda: manager.signs() > 0, "signs of life")

    proxy.hold()  # calls hang
    wait_for(lambda: are_silent(*managers), "no more signs of life", 40)
    assert all(process.running() for process in processes)
    proxy.restore()
    for manager in managers:
        signs = manager.signs()
        wait_for(lambda: manager.signs() > signs, "signs of life again")

    proxy.cut()  # calls fail: a restart would not help
    for manager in managers:
        signs = manager.signs()
        wait_for(lambda: manager.signs() >= signs + 2, "signs of life while the database is away")
    proxy.restore()

    for manager, process in zip(managers, processes):
        assert process.stop() == 0
        wait_for(lambda: "STOPPING=1" in manager.said, "the last word")
        assert manager.said.count("READY=1") == 1 and manager.said[-1] == "STOPPING=1"


@pytest.mark.servers("a database that hangs")
def test_watchdog_of_another_process(held_feed, tmp_path):
    """And a socket with an abstract name."""
    manager = Manager(f"\0feedmill-test-{os.getpid()}-{tmp_path.name}")
    process = held_feed.worker("fanout", env={**manager.env, "WATCHDOG_PID": "1"})
    wait_for(lambda: manager.said == ["READY=1"], "ready")
    assert are_silent(manager) and manager.signs() == 0
    assert process.stop() == 0
    wait_for(lambda: manager.said == ["READY=1", "STOPPING=1"], "the last word")
