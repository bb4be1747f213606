"""feedctl health: what a container engine, or a person, asks a program."""
import subprocess

import requests

from feedmill import BUILD, wait_for


def test_health_of_gateway_and_worker(make_feed):
    feed = make_feed()
    feed.ctl("migrate")
    gateway = feed.gateway(wait=False)
    address = gateway.admin.removeprefix("http://")
    missing = feed.ctl("health", address, check=False)  # no topics yet
    assert missing.returncode == 1 and missing.stdout.startswith("not ready\n")
    assert feed.queue in missing.stdout and missing.stderr == ""
    feed.ctl("topics")
    wait_for(lambda: feed.ctl("health", address, check=False).returncode == 0, "the gateway is ready")
    ready = feed.ctl("health", address).stdout.splitlines()
    assert ready[0] == "ready" and {line.split()[0] for line in ready[1:]} >= {feed.queue, "lease", "schema", "store", "search"}
    worker = feed.worker("fanout")
    assert feed.ctl("health", worker.admin.removeprefix("http://")).stdout.startswith("ready\n")
    feed.settings["gateway.admin"] = address.replace("127.0.0.1", "0.0.0.0")  # as a container has it: asked on this machine
    feed.write_config()
    assert feed.ctl("health").stdout.startswith("ready\n")


def test_health_of_nothing():
    nobody = subprocess.run([BUILD / "feedctl", "health", "127.0.0.1:1"], capture_output=True, text=True, timeout=20)
    assert nobody.returncode == 1 and "127.0.0.1" in nobody.stderr and nobody.stdout == ""
    for words in (["here"], ["127.0.0.1:0"], ["127.0.0.1:1", "127.0.0.1:2"]):
        wrong = subprocess.run([BUILD / "feedctl", "health", *words], capture_output=True, text=True, timeout=20)
        assert wrong.returncode == 2 and "health" in wrong.stderr, words


def test_the_back_end_in_use_is_the_one_that_is_named(make_feed):
    feed = make_feed().prepare()
    for process in feed.gateway(), feed.worker("fanout"):
        checks = requests.get(process.admin + "/readyz", timeout=10).json()["checks"]
        assert {"kafka", "sqlite"} & set(checks) == {feed.queue}, process.name
        line = next(line for line in process.output().splitlines() if "event=start " in line)
        assert f" {feed.queue}={feed.settings.get('kafka.brokers') or feed.settings['embedded.folder']}" in line and "brokers" not in line
        assert process.name.startswith("fanout") or " request_log=off " in line, "what is off says so"
