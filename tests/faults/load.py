"""A load of clients, each a thread with connections of its own, and the history of what they asked and were told.

Every story, name and product carries a token that is used once, so that what is found afterwards is known to belong to one
request. What an answer means: 2xx is a promise (ok); 4xx, 503 and a connection that nobody took are a certain no (fail); a
broken connection, a timeout and 504 are neither (info).
"""
import http.client
import itertools
import json
import random
import threading
import time

from history import body_hash

TEXTS = ("plain", "emoji \U0001f916\U0001f469\u200d\U0001f680", "שלום עולם", "quotes \" ' \\ <b>&amp;</b>", "two\nlines\tand a tab", "\u00e9 and e\u0301", "漢字 かな")
TIMEOUT_S = 20


class Gateways:
    """Where clients may ask: names and addresses, as the driver changes them."""

    def __init__(self):
        self.lock, self.places = threading.Lock(), {}

    def add(self, name, url):
        host, port = url.removeprefix("http://").split(":")
        with self.lock:
            self.places[name] = (host, int(port))

    def remove(self, name):
        with self.lock:
            self.places.pop(name, None)

    def any(self, random):
        with self.lock:
            return random.choice(sorted(self.places.items())) if self.places else None


class Answer:
    def __init__(self, outcome, status=0, body=None, headers=None, why=""):
        self.outcome, self.status, self.body, self.headers, self.why = outcome, status, body, headers or {}, why


def outcome_of(status):
    if 200 <= status < 300:
        return "ok"
    return "info" if status == 504 or status == 500 else "fail"


class Client:
    """One thread's way to the gateways."""

    def __init__(self, history, gateways, name, seed):
        self.history, self.gateways, self.name = history, gateways, name
        self.random = random.Random(f"{seed}/{name}")
        self.tokens = itertools.count(1)
        self.patience_s = 20.0
        self.links = {}

    def token(self):
        return f"{self.name}x{next(self.tokens)}"

    def exchange(self, place, method, path, body, headers):
        """One request to one gateway. A connection that was not made is a certain no."""
        link = self.links.get(place)
        if link is None:
            link = http.client.HTTPConnection(*place[1], timeout=TIMEOUT_S)
            try:
                link.connect()
            except OSError as error:
                return Answer("fail", why=f"not connected: {error}")
            self.links[place] = link
        try:
            link.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = link.getresponse()
            text = answer.read()
            if answer.will_close:
                self.forget(place)
            return Answer(outcome_of(answer.status), answer.status, json.loads(text) if text else None, answer.headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.forget(place)
            return Answer("info", why=f"{type(error).__name__}: {error}")

    def forget(self, place):
        link = self.links.pop(place, None)
        if link is not None:
            link.close()

    def close(self):
        for place in list(self.links):
            self.forget(place)

    def ask(self, op, method, path, body=None, headers=None, **asked):
        """A request with its lines in the history; the answer."""
        place = self.gateways.any(self.random)
        call = self.history.invoke(client=self.name, op=op, gateway=place[0] if place else None, **asked)
        if place is None:
            answer = Answer("fail", why="no gateway is up")
        else:
            answer = self.exchange(place, method, path, body, {"Content-Type": "application/json", **(headers or {})})
        self.history.add(answer.outcome, call=call, status=answer.status, **self.told(answer))
        return answer

    @staticmethod
    def told(answer):
        """What of an answer goes into the history."""
        told = {}
        if answer.why:
            told["why"] = answer.why
        if answer.outcome == "ok" and answer.status == 200:
            told["id"] = answer.body.get("id")
            told["answer_hash"] = body_hash(json.dumps(answer.body, sort_keys=True), "")
        if answer.status == 202:
            told["accepted"] = True
        if "Location" in answer.headers:
            told["command"] = answer.headers["Location"].rpartition("/")[2]
        return told

    # ---- what clients do

    def keyed(self, key):
        return {"Idempotency-Key": f'"{key}"'} if key else {}

    def participant(self, key=None):
        name = self.token()
        return self.until_known(key, lambda: self.ask("participant", "POST", "/participant", {"name": name}, self.keyed(key), name=name, key=key))

    def befriend(self, one, other):
        body = {"from": f"/participant/{one}", "to": f"/participant/{other}"}
        return self.ask("friend", "POST", f"/participant/{one}/friends", body, one=one, other=other)

    def post(self, author, wait=None, size=0, key=None):
        token = self.token()
        story = f"{token} {self.random.choice(TEXTS)}" + " lorem" * size
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        answer = self.until_known(key, lambda: self.ask("post", "POST", f"/participant/{author}/outbound", {"subject": f"s {token}", "story": story},
                                                        {**headers, **self.keyed(key)}, author=author, token=token, hash=body_hash(f"s {token}", story), key=key))
        if answer.status == 200 and "Preference-Applied" in answer.headers:
            self.history.add("seen", post=answer.body["id"])
        return answer

    def product(self, key=None):
        name, price = self.token(), round(self.random.random() * 1000, 2)
        return self.until_known(key, lambda: self.ask("product", "POST", "/products", {"name": name, "price": price}, self.keyed(key), name=name, price=price, key=key))

    def delete(self, product, key=None):
        return self.until_known(key, lambda: self.ask("delete", "DELETE", f"/products/{product}", None, self.keyed(key), product=product, key=key))

    def until_known(self, key, ask):
        """Whoever has a key asks again until the answer is certain, as the key is for. A gateway that died with the key reserved holds it for
        twice its wait."""
        until = time.monotonic() + self.patience_s
        answer = ask()
        while key and time.monotonic() < until and (answer.outcome == "info" or answer.status in (0, 409, 503)):
            time.sleep(0.3)
            answer = ask()
        return answer


class Load:
    """Clients at work: posts, friendships, products made and deleted, newcomers."""

    def __init__(self, history, gateways, seed, clients=4, rate=60.0, long_author_friends=30, people=24):
        self.history, self.gateways, self.seed = history, gateways, seed
        self.clients = [Client(history, gateways, f"c{n}", seed) for n in range(clients)]
        self.pause = clients / rate
        self.people, self.count, self.long_friends = [], people, long_author_friends
        self.products, self.lock = [], threading.Lock()
        self.ending, self.threads, self.failed = threading.Event(), [], []

    def prepare(self):
        """People and friendships that all the rest is about: one author has a list that is planned in chunks."""
        client = self.clients[0]
        for _ in range(self.count + self.long_friends):
            self.people.append(self.certain(client.participant).body["id"])
        self.long_author = self.people[0]
        pairs = [(self.long_author, other) for other in self.people[-self.long_friends:]]
        pairs += [(self.people[n], self.people[(n + step) % self.count]) for n in range(self.count) for step in (1, 2, 5)]
        for one, other in pairs:
            self.certain(lambda: client.befriend(one, other))
        return self

    def certain(self, ask):
        for _ in range(100):
            answer = ask()
            if answer.status == 200:
                return answer
            time.sleep(0.1)
        raise AssertionError(f"the people of the run can't be made: {answer.status} {answer.body} {answer.why}")

    def start(self):
        self.ending.clear()
        for client in self.clients:
            thread = threading.Thread(target=self.work, args=(client,), daemon=True)
            thread.start()
            self.threads.append(thread)
        return self

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(200)
            assert not thread.is_alive(), "a client hangs"
        self.threads = []
        assert not self.failed, self.failed[0]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def work(self, client):
        try:
            while not self.ending.is_set():
                began = time.monotonic()
                self.step(client)
                self.ending.wait(max(0.0, self.pause - (time.monotonic() - began)))
        except Exception as error:     # the run must not go on without a client
            self.failed.append(f"{client.name}: {type(error).__name__}: {error}")
            raise
        finally:
            client.close()

    def step(self, client):
        random = client.random
        key = f"k-{client.name}-{random.getrandbits(48):x}" if random.random() < 0.25 else None
        choice = random.random()
        if choice < 0.60:
            client.post(random.choice(self.people), size=random.choice((0, 0, 0, 5, 200)), key=key)
        elif choice < 0.66:
            client.post(self.long_author, key=key)
        elif choice < 0.76:
            client.post(random.choice(self.people), wait=2)
        elif choice < 0.84:
            client.befriend(*random.sample(self.people, 2))
        elif choice < 0.86:
            self.newcomer(client, key)
        elif choice < 0.95:
            self.make_product(client, key)
        else:
            self.delete_product(client, key)

    def newcomer(self, client, key):
        answer = client.participant(key)
        if answer.status == 200:
            client.befriend(client.random.choice(self.people), answer.body["id"])

    def make_product(self, client, key):
        answer = client.product(key)
        if answer.status == 200:
            with self.lock:
                self.products.append(answer.body["id"])

    def delete_product(self, client, key):
        with self.lock:
            id = self.products.pop(client.random.randrange(len(self.products))) if self.products else None
        if id is not None:
            client.delete(id, key)
