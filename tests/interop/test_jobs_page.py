"""The examples of docs/jobs.md, from nothing to running: taken from the page as they stand, played in a folder of their own, what they print compared."""
import contextlib
import doctest
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from feedmill import BUILD, ROOT, wait_for

SHELL, PYTHON = "$ ", ">>> "
PATIENCE = 60


def sections():
    """{heading: [lines of one indented block, …]}; the part before the first heading has none. A shell and a Python are two blocks."""
    found, heading, was_code = {"": []}, "", False
    for line in (ROOT / "docs/jobs.md").read_text().splitlines():
        is_code = line.startswith("    ") or (was_code and not line)
        if line.startswith("## "):
            heading = line[3:]
            found[heading] = []
        elif is_code:
            if not was_code or (line[4:].startswith(PYTHON) and not found[heading][-1][-1]):
                found[heading].append([])
            found[heading][-1].append(line[4:])
        was_code = is_code
    return found


def commands(lines):
    """A block's commands, each with the lines below it."""
    found = []
    for line in lines:
        if line.startswith(SHELL):
            found.append((line[len(SHELL):], []))
        else:
            found[-1][1].append(line)
    return found


class Player:
    """A shell in a folder, programs that go on, and a Python."""

    def __init__(self, folder, replacements, env):
        self.folder, self.replacements, self.env = folder, replacements, {**os.environ, **env}
        self.running, self.names, self.played = [], {}, []

    def replaced(self, text):
        for old, new in self.replacements.items():
            text = text.replace(old, new)
        return text

    def play(self, blocks):
        for lines in blocks:
            if lines[0].startswith(PYTHON):
                self.python("\n".join(lines) + "\n")
            elif lines[0].startswith(SHELL):
                for command, below in commands(lines):
                    self.shell(self.replaced(command), [self.replaced(line) for line in below])

    def shell(self, command, below):
        """`cat FILE` makes it; what a program prints that ends is compared; a worker, and what has & behind it, goes on."""
        self.played.append(command)
        if match := re.fullmatch(r"cat (\S+)", command):
            while below and not below[-1]:
                below.pop()
            path = self.folder / match[1]
            assert path.parent.is_dir() and not path.exists()
            path.write_text("\n".join(below) + "\n")
        elif match := re.fullmatch(r"export (\w+)=(\S+)( +#.*)?", command):
            self.env[match[1]] = match[2]
        elif "feed-worker job" in command or command.endswith("&"):
            self.start(command.removesuffix("&"))
        else:
            done = wait_for(lambda: self.run(command), f"an answer to {command}", PATIENCE)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            self.compare(command, done.stdout.splitlines(), [re.sub("  +#.*", "", line) for line in below if line])

    def run(self, command):
        """None: workers had no time to answer."""
        done = subprocess.run(command, shell=True, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=600)
        return None if done.returncode != 0 and "no node has answered" in done.stderr else done

    def compare(self, command, said, shown):
        """What the page shortens (019aa7c1-…) is what was said in its place, from then on."""
        assert len(said) == len(shown), (command, said, shown)
        for one, other in zip(said, shown):
            parts = re.split(r"([\w-]+…)", other)
            match = re.fullmatch("".join(r"([\w-]+)" if part.endswith("…") else re.escape(part) for part in parts), one)
            assert match, (command, one, other)
            self.replacements.update(zip(parts[1::2], match.groups()))

    def start(self, command):
        log = self.folder / f"log{len(self.running)}"
        with open(log, "wb") as out:
            popen = subprocess.Popen(["bash", "-c", command], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=out,
                                     stderr=subprocess.STDOUT, start_new_session=True)
        self.running.append(popen)

        def is_up():
            assert popen.poll() is None, log.read_text()[-3000:]
            return "event=ready" in log.read_text() if "feed-worker" in command else self.answers()
        wait_for(is_up, f"{command}: ready\n{log}", 600)

    def answers(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.replacements["8000"]), 5).close()
            return True

    def python(self, text):
        """As doctest plays what it finds in a page."""
        said = []
        test = doctest.DocTestParser().get_doctest(self.replaced(text), self.names, "docs/jobs.md", None, 0)
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
        self.names = test.globs
        assert results.attempted > 0 and results.failed == 0, "".join(said)
        self.played.append(text)

    def stop(self):
        """What goes on has a process group of its own."""
        for popen in reversed(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGTERM)
            popen.wait(PATIENCE)
            until = time.monotonic() + PATIENCE
            with contextlib.suppress(ProcessLookupError):
                while time.monotonic() < until:
                    os.killpg(popen.pid, 0)
                    time.sleep(0.05)    # its children, which nobody here can wait for
                os.killpg(popen.pid, signal.SIGKILL)
        self.running.clear()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def player(make_cluster, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    player = Player(folder, {"amqp://guest:guest@localhost": make_cluster().url, "8000": str(free_port()), "timeout=10": f"timeout={PATIENCE}",
                             "--wait 10": f"--wait {PATIENCE}", "one@host": "page@test"},
                    {"PATH": f"{BUILD}:{os.environ['PATH']}", "FEEDMILL_JOB_NODE": "page@test"})
    yield player
    player.stop()
    if "app" in player.names:
        player.names["app"].close()


PAGE = sections()


@pytest.mark.timeout(900)    # that in C builds the sources, from nothing where they are not built
@pytest.mark.parametrize("heading, commands, pythons", [
    ("A handler in a shell script", 3, 1), ("A handler in Python", 3, 1), ("An HTTP endpoint", 3, 1), ("A handler in C", 4, 1),
    ("Queues with arguments of their own", 2, 1)])
def test_an_example_of_the_page(player, heading, commands, pythons):
    """After the first one, which makes the client and ends with its worker."""
    player.play(PAGE[""])
    player.stop()
    assert len(player.played) == 3, "a setting, a worker, a client"
    player.played.clear()
    if heading == "A handler in C":     # in a copy of the sources, with what is built of them
        shutil.rmtree(player.folder)
        leave = [name for name in os.listdir(ROOT) if name.startswith(".") or name in ("tests", "bench", "docs")]
        shutil.copytree(ROOT, player.folder, ignore=lambda folder, names: leave if folder == str(ROOT) else
                        [name for name in names if folder == str(ROOT / "build") and name in ("faults", "san", "tsan", "cov", "tests")])
        player.env["MAKEFLAGS"] = f"-j{os.cpu_count()}"
    player.play(PAGE[heading])
    assert len(player.played) == commands + pythons, player.played


def test_by_hand(player):
    """Each command, and what it prints, beside the worker of the page's first example."""
    tables = player.folder.parent / "tables"
    tables.mkdir()
    player.env.update(FEEDMILL_JOB_RESULTS="both", FEEDMILL_STORE_TYPE="sqlite", FEEDMILL_SEARCH_TYPE="sqlite", FEEDMILL_EMBEDDED_FOLDER=str(tables))
    subprocess.run([BUILD / "feedctl", "migrate"], cwd=ROOT, env=player.env, check=True, timeout=60)
    player.play(PAGE[""])
    player.played.clear()
    player.play(PAGE["By hand"])
    assert len(player.played) == 6, player.played


def test_the_page_is_read_as_it_is_meant():
    """A block with a prompt that no test plays would rot."""
    prompts = {heading for heading, blocks in PAGE.items() for block in blocks if block[0].startswith((SHELL, PYTHON))}
    assert prompts == {"", "A handler in a shell script", "A handler in Python", "An HTTP endpoint", "A handler in C", "Queues with arguments of their own", "By hand"}
