"""Instructions of the hot paths, by callgrind: what one post costs in our processes. Unlike times they are the same on every machine."""
import re
import subprocess

from machine import Failed, handled, wait_until
from ours import Ours

WARM_UP, POSTS, FRIENDS = 300, 1000, 20


def under_callgrind(folder):
    return "valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind.%p"


def dump(process, folder):
    """Instructions since the last dump."""
    before = set(folder.glob(f"callgrind.{process.pid}.*"))
    done = subprocess.run(["callgrind_control", "--dump", str(process.pid)], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise Failed(f"callgrind_control: {done.stdout}{done.stderr}")

    def written():
        for path in set(folder.glob(f"callgrind.{process.pid}.*")) - before:
            match = re.search(r"^(?:summary|totals): (\d+)", path.read_text(errors="replace"), re.M)
            if match:
                return int(match[1])
    return wait_until(written, "callgrind has written what it counted", 60)


def gateway():
    """A post in the gateway: from the socket to the record, from the report to the socket."""
    with Ours() as ours:
        ours.people(10)
        process = ours.gateway(under=under_callgrind(ours.folder))
        client = ours_client(process)
        for i in range(WARM_UP):
            client(i)
        dump(process, ours.folder)
        for i in range(POSTS):
            client(i)
        return dump(process, ours.folder) / POSTS


def ours_client(process):
    import requests
    session, url = requests.Session(), process.url

    def post(i):
        answer = session.post(f"{url}/participant/{i % 10 + 1}/outbound", timeout=60, json={
            "from": f"/participant/{i % 10 + 1}", "occurred": "2026-01-31T12:00:00Z", "subject": f"subject {i}", "story": "lorem ipsum dolor sit amet " * 7})
        if answer.status_code != 200:
            raise Failed(f"{answer.status_code} {answer.text}")
    return post


def fanout():
    """A post in the fan-out worker, with its rows for twenty friends."""
    with Ours() as ours:
        ours.ring(1000, FRIENDS)
        ours.queue_posts(WARM_UP, 1000)
        worker = ours.worker("fanout", under=under_callgrind(ours.folder))
        wait_until(lambda: handled(worker) >= WARM_UP, "the warm-up is through", 120)
        dump(worker, ours.folder)
        ours.queue_posts(POSTS, 1000, start=WARM_UP + 1)
        wait_until(lambda: handled(worker) >= WARM_UP + POSTS, "all are through", 120)
        return dump(worker, ours.folder) / POSTS


PATHS = {"gateway": ("a post in the gateway", gateway), "fanout": (f"a post to {FRIENDS} friends in the fan-out worker", fanout)}


def measure():
    return {name: round(function()) for name, (_, function) in PATHS.items()}


def text(now, before):
    """One line a path, with what has changed since the run in the docs."""
    lines = []
    for name, (what, _) in PATHS.items():
        then = (before or {}).get(name)
        change = f" ({(now[name] - then) / then * +100:+.1f} % since the last report)" if then else ""
        lines.append(f"{what}: {now[name]:,} instructions{change}")
    return "\n".join(lines)
