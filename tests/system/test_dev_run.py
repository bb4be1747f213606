"""./dev run in a copy of the checkout: the story without servers, the addresses, and a stop that leaves nobody."""
import contextlib
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest
import requests

from feedmill import ROOT, Client, wait_for

pytestmark = pytest.mark.once

SECONDS = 200   # a build may be part of it


@pytest.fixture(scope="module")
def copy(folder):
    """With what was built already, so that make has nothing to do where that is today's."""
    there = folder / "copy"
    shutil.copytree(ROOT, there, ignore=shutil.ignore_patterns(".git", ".stack", ".feedmill", "build", "__pycache__"), symlinks=True)
    built = ROOT / "build"
    (there / "build").mkdir()
    for name in ("common", "api-gateway", "workers", "ctl", "docs"):
        if (built / name).is_dir():
            shutil.copytree(built / name, there / "build" / name)
    for file in built.glob("*"):
        if file.is_file():
            shutil.copy2(file, there / "build")
    there.chmod(0o755)
    yield there
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run([there / "dev", "down"], cwd=there, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    shutil.rmtree((there / ".stack").resolve(), ignore_errors=True)     # where it is a link, it points out of the folder of the tests


def programs(copy):
    """The processes whose program or working folder is the copy's."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{copy}/" in os.readlink(process / "exe") + "/":
                found.append(int(process.name))
    return found


def environment(copy):
    return dict(re.findall(r"^export (\w+)=(\S+)$", (copy / ".stack/env").read_text(), re.M))


def run(copy, **env):
    return subprocess.run([copy / "dev", "run"], cwd=copy, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
                          env={**os.environ, **env})


class Terminal:
    """./dev run as somebody at a terminal starts it."""

    def __init__(self, copy):
        self.text = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests were started in the background, and then for good
            os.chdir(copy)
            os.execv(copy / "dev", ["./dev", "run"])

    def read_until(self, words):
        deadline = time.monotonic() + SECONDS
        while words not in self.text.decode("utf-8", "replace"):
            assert time.monotonic() < deadline, self.text.decode("utf-8", "replace")
            try:
                self.text += os.read(self.terminal, 65536)
            except OSError:
                raise AssertionError(self.text.decode("utf-8", "replace"))

    def type(self, text):
        os.write(self.terminal, text)

    def wait(self):
        def ended():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (os.waitstatus_to_exitcode(status),) if pid else None
        return wait_for(ended, "./dev run ends", 60)[0]


def test_without_a_terminal_it_ends_after_the_story(copy):
    done = run(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    for step in ("1. Ada joins.", "POST /participant ", "3. They become friends.", "/inbound", "/outbound?keywords=", "POST /products", '"action":"created"',
                 '"action":"deleted"', "All 10 steps went as they should."):
        assert step in done.stdout, step
    assert programs(copy) == [] and not (copy / ".stack/env").exists()
    assert {path.name for path in (copy / ".stack/embedded").iterdir()} >= {"store.db", "feed.posts.topic", "fanout.group"}
    again = run(copy)
    assert again.returncode == 0 and "created" not in again.stderr, "what was made is there"


def test_at_a_terminal_it_stays_until_ctrl_c(copy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (copy / ".stack").mkdir(exist_ok=True)
        (copy / ".stack/ports").write_text(f"embedded {taken.getsockname()[1]}\n")
        one = Terminal(copy)
        one.read_until("until Ctrl-C")
        there = environment(copy)
        assert f"up at {there['FEED_URL']} until" in one.text.decode() and str(taken.getsockname()[1]) not in there["FEED_URL"]
    assert there["FEED_CONFIG"] == str((copy / ".stack/embedded.cfg").resolve()) and requests.get(there["FEED_ADMIN_URL"] + "/readyz", timeout=10).status_code == 200
    names = {f"FEED_PID_{name}" for name in ("EMBEDDED", "GATEWAY", "COMMAND", "FANOUT", "CHUNK", "INDEX", "RELAY")}
    assert {name for name in there if name.startswith("FEED_PID_")} >= names
    assert sorted(int(there[name]) for name in there if name.startswith("FEED_PID_")) == sorted(programs(copy))
    client = Client(there["FEED_URL"])
    author = client.participant("Ada")
    post = client.say(author, "kept", headers={"Prefer": "wait=30"})
    beside = run(copy)
    assert beside.returncode == 0 and sorted(programs(copy)) == sorted(int(there[name]) for name in names), "the story of a second one leaves the first one alone"
    one.type(b"\x03")
    assert one.wait() == 0
    wait_for(lambda: programs(copy) == [], "nobody is left")
    assert not (copy / ".stack/env").exists()
    two = Terminal(copy)
    two.read_until("until Ctrl-C")
    assert [row["id"] for row in Client(environment(copy)["FEED_URL"]).outbound(author)] == [post], "the data stays"
    os.kill(int(environment(copy)["FEED_PID_EMBEDDED"]), 9)
    two.read_until("ended by itself")
    assert two.wait() == 1


def test_what_can_not_start_is_said(copy):
    done = run(copy, FEEDMILL_GATEWAY_CONTRACT="nowhere.yaml")
    assert done.returncode == 1 and "nowhere.yaml" in done.stderr and "10 steps" not in done.stdout
    assert programs(copy) == []


def test_no_server_is_wanted(copy):
    """The packages that it asks for are those of the build: no server's, and nothing that only tests use."""
    asked = subprocess.run(["bash", "-c", 'set -- help; . ./dev >/dev/null; printf "%s\\n" "${packages[@]}"'], cwd=copy, capture_output=True, text=True, timeout=60)
    names = [name for name in asked.stdout.split() if not name.endswith("-dev")]
    assert "gcc" in names and "make" in names
    assert not [name for name in names if re.search(r"server|jre|maven|redis|rabbitmq|npm|python|chromium|cmocka|valgrind", name)]
