"""The description of the topics is valid AsyncAPI, names the topics that there are, and real records are as it says."""
import itertools
import json
import re

import jsonschema_rs
import pytest
import yaml

import npm
from feedmill import ROOT

DESCRIPTION = yaml.safe_load((ROOT / "config/api/feedmill.asyncapi.yaml").read_text())
SPECS = ("@asyncapi/specs", "6.11.1", "A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ==")
UNITS = {"d": 86400000, "h": 3600000, "min": 60000, "s": 1000, "ms": 1}


def resolve(place):
    while isinstance(place, dict) and "$ref" in place:
        found = DESCRIPTION
        for name in place["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        place = found
    return place


def validator(schema):
    return jsonschema_rs.Draft7Validator({**schema, "components": DESCRIPTION["components"]}, validate_formats=True)


def channels():
    """(address, channel) of every topic; a parameter stands for each of its values."""
    for channel in DESCRIPTION["channels"].values():
        parameters = channel.get("parameters", {})
        for values in itertools.product(*(parameter.get("enum", parameter.get("examples")) for parameter in parameters.values())):
            yield channel["address"].format(**dict(zip(parameters, values))), channel


def messages():
    for channel in DESCRIPTION["channels"].values():
        for name, message in channel["messages"].items():
            yield name, resolve(message)


def test_it_is_valid_by_the_official_schema():
    schema = json.loads((npm.package(*SPECS) / f"schemas/{DESCRIPTION['asyncapi']}.json").read_text())
    official = jsonschema_rs.Draft7Validator(schema)
    assert [error.message for error in official.iter_errors(DESCRIPTION)] == []
    assert not official.is_valid({**DESCRIPTION, "channels": {"x": {"adress": "x"}}}), "this schema finds no fault"


def test_its_channels_are_the_topics_there_are(make_feed):
    feed = make_feed(gateway__request_log_topic="feed").prepare()
    described = {}
    for address, channel in channels():
        kafka = channel["bindings"]["kafka"]
        described[address] = (kafka.get("partitions", feed.settings["kafka.partitions"]), kafka["topicConfiguration"]["retention.ms"])
        assert kafka.get("topic", address) == address
    lines = [re.split(r"\s{2,}", line.strip()) for line in feed.ctl("topics").stdout.splitlines()[1:]]
    there = {}
    for name, partitions, replication, retention, state in lines:
        number, unit = retention.split()
        there[name.removeprefix(feed.prefix)] = (int(partitions), int(number) * UNITS[unit])
    assert described == there


def test_its_groups_are_those_there_are(feed):
    receivers = [o["bindings"]["kafka"]["groupId"]["enum"] for o in DESCRIPTION["operations"].values() if "bindings" in o]
    known = {line.split()[0] for line in feed.ctl("lag").stdout.splitlines()[1:] if line.strip()}
    assert {group for groups in receivers for group in groups} == known


@pytest.mark.parametrize("name, message", [pytest.param(n, m, id=n) for n, m in messages()])
def test_its_examples_are_as_it_says(name, message):
    for example in message.get("examples", []):
        assert [e.message for e in validator(message["payload"]).iter_errors(example["payload"])] == []
        if "headers" in example:
            assert [e.message for e in validator(resolve(message["headers"])).iter_errors(example["headers"])] == []


# ---- real records

def faults(message, record):
    """What of a record is not as the message says."""
    found = []
    if message["contentType"] != "application/octet-stream":
        payload = record.value().decode() if message["contentType"] == "text/plain" else json.loads(record.value())
        found += [e.message for e in validator(message["payload"]).iter_errors(payload)]
    headers = {name: value.decode() for name, value in record.headers() or []}
    found += [e.message for e in validator(resolve(message.get("headers", {"maxProperties": 0}))).iter_errors(headers)]
    key = message.get("bindings", {}).get("kafka", {}).get("key")
    if key:
        found += [e.message for e in validator(key).iter_errors(record.key().decode())]
    return found


def test_real_records_are_as_it_says(make_feed):
    feed = make_feed(fanout__chunk=2, gateway__request_log_topic="feed").start()
    client = feed.client
    author, *friends = (client.participant(name) for name in ("Ada", "Bob", "Cleo", "Dan"))
    for friend in friends:
        client.befriend(author, friend)
    client.say(friends[0], "for one", headers={"Prefer": "wait=30"})
    client.say(author, "in chunks", headers={"Prefer": "wait=30"})
    product = client.ok("POST", "/products", {"name": "Umbrella", "price": 12.5})["id"]
    client.ok("DELETE", f"/products/{product}")
    assert client.delete(f"/products/{product}").status_code == 404
    feed.produce("feed.posts", b"no JSON", key=b"7")
    feed.records("fanout.dlq", lambda found: found)
    feed.ctl("dlq", "replay", "fanout")
    seen = set()
    wanted = {"feed.posts": 3, "feed.commands": 10, "feed.chunks": 2, "feed.results": 12, "product_events": 2, "fanout.dlq": 3, "feed": 9}

    def is_enough(address, found):  # a result may be there twice, and then another is still to come
        return len(found) >= wanted.get(address, 0) and (address != "feed.results" or any(b'"failed"' in record.value() for record in found))
    for address, channel in channels():
        records = feed.records(address, lambda found: is_enough(address, found), 60)
        for record in records:
            if record.value() == b"no JSON" and address == "feed.posts":
                continue
            told = {name: faults(resolve(message), record) for name, message in channel["messages"].items()}
            fitting = [name for name, found in told.items() if not found]
            assert len(fitting) == 1, f"{address}: {record.value()}, {record.headers()}: {told}"
            seen.add(fitting[0])
    seen.add("retry")  # test_retries.py looks at those
    assert seen == {name for name, _ in messages()}, "a message that was never sent"
