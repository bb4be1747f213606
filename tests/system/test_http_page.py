"""The examples of docs/http.md are run as they stand there, and answer what they show, ids and times apart."""
import json
import os
import re
import subprocess

import pytest

from feedmill import ROOT, wait_for

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs/http.md").read_text()
SAME = [(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"), (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"), (r"\d{4}-\d\d-\d\d", "DATE"),
        (r"cursor=[\w-]+", "CURSOR"), (r"\d{12,16}", "ID")]


def examples():
    """(command, lines it shows)"""
    for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.M | re.S):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            yield command, shown.strip().splitlines()


def blurred(line):
    for pattern, word in SAME:
        line = re.sub(pattern, word, line)
    return line


def names_from(body, names):
    """What later examples name: participants and products by their name, and the command."""
    if isinstance(body, dict) and "name" in body:
        names[body["name"].upper()] = str(body["id"])
    if isinstance(body, dict) and "status" in body and "id" in body:
        names["COMMAND"] = body["id"]


def test_the_examples_answer_what_they_show(make_feed):
    feed = make_feed().start()
    names = {**os.environ, "FEED_URL": feed.client.url, "JSON": re.search(r"^    JSON='(.*)'$", PAGE, re.M)[1]}
    ran = 0
    for command, shown in examples():
        def run():
            lines = subprocess.run(["bash", "-c", command], env=names, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
            missing = [line for line in shown if blurred(line) not in map(blurred, lines)]
            return (lines, missing)
        if "keywords=" in command or "/commands/" in command:     # follows soon, says the page
            wait_for(lambda: run()[1] == [], command)
        lines, missing = run()
        assert missing == [], f"{command}\nanswered\n" + "\n".join(lines)
        if lines and lines[-1].startswith("{"):
            names_from(json.loads(lines[-1]), names)
        ran += 1
    assert ran >= 18
