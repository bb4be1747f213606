"""The history of a run: an append-only file, one JSON line an event, in the order of one monotonic clock.

    invoke   a request is about to be sent: call (its number), client, op, gateway, what it asks for
    ok       it was answered 2xx: its effect is promised. Ids that the answer gave; accepted: it was a 202
    fail     certainly not done: 4xx, 503, or nothing was listening
    info     nobody knows: a broken connection, a timeout, 504
    seen     a post's fan-out is known to be over: later friends get no copy
    fault    what was done to the system, for the reader; clock: ids of several gateways have no common order from here on

A call that never ended is an info. calls() puts the lines of a call together.
"""
import hashlib
import itertools
import json
import threading
import time


def body_hash(subject, story):
    return hashlib.sha256(f"{subject}\0{story}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


class History:
    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.events = []
        self.file = open(path, "a", encoding="utf-8")

    def add(self, type, **fields):
        with self.lock:
            event = {"t": round(time.monotonic(), 6), "type": type, **fields}
            self.events.append(event)
            self.file.write(json.dumps(event, ensure_ascii=False) + "\n")
            self.file.flush()
        return event

    def invoke(self, **fields):
        """Its call number, for the line that ends it."""
        call = next(self.numbers)
        self.add("invoke", call=call, **fields)
        return call

    def close(self):
        self.file.close()


def load(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class Call:
    """An invocation and what came of it."""

    def __init__(self, invoke):
        self.number, self.op = invoke["call"], invoke["op"]
        self.asked, self.began = invoke, invoke["t"]
        self.outcome, self.ended, self.answer = "info", float("inf"), {}
        self.lines = [invoke]

    def end(self, event):
        self.lines.append(event)
        self.outcome, self.ended, self.answer = event["type"], event["t"], event

    def __getattr__(self, name):
        if name in self.answer:
            return self.answer[name]
        return self.asked.get(name)


def calls(events):
    found = {}
    for event in events:
        if event["type"] == "invoke":
            found[event["call"]] = Call(event)
        elif event["type"] in ("ok", "fail", "info"):
            found[event["call"]].end(event)
    return list(found.values())
