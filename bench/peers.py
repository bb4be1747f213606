"""The peers, each in a run of its own script: metrics by name. Their Redis is as durable as it can be."""
import json
import os
import shutil
import subprocess
import tempfile

from machine import ROOT, TOOLS, Failed, Program, free_port, wait_until

FOLDER = TOOLS / "peers"  # a copy, beside what they bring along

# Each peer, and the variants in which it is at its best for one figure or another.
PEERS = {
    "express": {"peer": "express-bullmq"},
    "celery": {"peer": "fastapi-celery"},
    "celery-threads": {"peer": "fastapi-celery", "WORKER_ARGS": "-P threads -c 16"},
    "celery-solo": {"peer": "fastapi-celery", "WORKER_ARGS": "-P solo", "WORKERS": "2", "ONLY": "noop"},
}


def install():
    """The peers with what they need, from their registries; what is there already stays."""
    shutil.copytree(ROOT / "bench/peers", FOLDER, dirs_exist_ok=True)
    if not (FOLDER / "express-bullmq/node_modules").is_dir():
        subprocess.run(["npm", "install", "--no-package-lock", "--silent"], cwd=FOLDER / "express-bullmq", check=True, stdin=subprocess.DEVNULL)
    venv = FOLDER / "fastapi-celery/.venv"
    if not (venv / "bin/uvicorn").exists():
        subprocess.run(["/usr/bin/python3", "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "-q", "-r", "requirements.txt"], cwd=FOLDER / "fastapi-celery", check=True, stdin=subprocess.DEVNULL)


class DurableRedis:
    """Redis that answers when what it was given is on disk."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="feedmill-bench-redis-")
        port = free_port()
        self.program = Program(["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", self.folder.name, "--appendonly", "yes",
                                "--appendfsync", "always", "--save", ""])
        self.url = f"redis://127.0.0.1:{port}"
        wait_until(lambda: b"PONG" in subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True).stdout, "Redis answers")
        return self

    def __exit__(self, *error):
        self.program.stop()
        self.folder.cleanup()


def measure(label, redis, is_quick):
    """One round of one peer."""
    settings = dict(PEERS[label])
    peer = settings.pop("peer")
    amounts = ({"SECONDS_EACH": "3", "POSTS": "1500", "JOBS": "6000"} if is_quick else {"SECONDS_EACH": "6", "POSTS": "3000", "JOBS": "20000"})
    env = {**os.environ, **amounts, **settings, "LABEL": label, "CONNECTIONS": "64 400", "PORT": str(free_port()), "REDIS_URL": redis.url,
           "MYSQL_DATABASE": "feedmill_test_peer_bench", "SEARCH_INDEX": "peer-feed", "VISIBLE": str(TOOLS / "visible")}
    done = subprocess.run([FOLDER / "measure.sh", peer], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    if done.returncode != 0:
        raise Failed(f"{label}: {done.stderr[-2000:]}")
    found = {line["metric"]: float(line["value"]) for line in map(json.loads, done.stdout.splitlines())}
    for metric, count in found.items():
        if metric.endswith("_late") and count > 0:
            print(f"{label}: {count:.0f} requests of {metric.removesuffix('_late')} took more than 2 s", flush=True)
    return found
