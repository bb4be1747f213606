"""Two gateways and two replicas of each worker at once."""
import collections
import concurrent.futures

from feedmill import Client, wait_for


def test_two_of_everything(make_feed):
    feed = make_feed(kafka__partitions=6, fanout__chunk=8).prepare()
    gateways = [feed.gateway(wait=False) for _ in range(2)]
    workers = {name: [feed.worker(name, wait=False) for _ in range(2)] for name in feed.workers}
    for process in gateways + sum(workers.values(), []):
        process.wait_ready()
    clients = [Client(gateway.url) for gateway in gateways for _ in range(3)]
    with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
        people = list(pool.map(lambda n: clients[n % len(clients)].participant(f"p{n}"), range(24)))
        assert len(set(people)) == len(people), "ids of two gateways never meet"
        pairs = [(people[i], people[(i + d) % 24]) for i in range(24) for d in (1, 2, 3)] + [(people[0], other) for other in people[4:21]]
        ids = list(pool.map(lambda n: clients[n % len(clients)].befriend(*pairs[n]), range(len(pairs))))
        assert len(set(ids)) == len(pairs)
        friends = collections.defaultdict(set)
        for one, other in pairs:
            friends[one].add(other)
            friends[other].add(one)
        for victim in (workers["fanout"][0], workers["chunk"][1], workers["index"][0]):
            victim.kill()
        replaced = [feed.worker("fanout", wait=False), feed.worker("chunk", wait=False), feed.worker("index", wait=False)]
        posts = dict(pool.map(lambda n: (clients[n % len(clients)].say(people[n % 24], f"story {n}"), people[n % 24]), range(240)))
        assert len(posts) == 240
        products = list(pool.map(lambda n: clients[n % len(clients)].ok("POST", "/products", {"name": f"n{n}", "price": n})["id"], range(60)))
    wanted = {(friend, post) for post, author in posts.items() for friend in friends[author]}
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM inbound") >= len(wanted), f"{len(wanted)} inbound rows", 60)
    wait_for(lambda: feed.documents() >= 240, "240 documents", 60)
    for group in feed.workers:
        wait_for(lambda: feed.lag(group) == 0, f"{group} is through", 60)
    assert set(feed.sql("SELECT participant_id, post_id FROM inbound")) == wanted
    assert feed.documents() == 240
    assert [row["id"] for row in clients[0].ok("GET", "/products?limit=1000")] == sorted(products)
    events = feed.records("product_events", lambda rs: len({r.key() for r in rs}) >= 60)
    assert {int(r.key()) for r in events} == set(products)
    assert all(process.running() for process in gateways + replaced)
    author = people[0]
    assert [row["id"] for row in clients[0].ok("GET", f"/participant/{author}/outbound")] == sorted((p for p, a in posts.items() if a == author), reverse=True)


def test_gateway_numbers_are_leased(make_feed):
    feed = make_feed().prepare()
    gateways = [feed.gateway() for _ in range(3)]
    numbers = [row[0] for row in feed.sql("SELECT number FROM gateway_lease WHERE holder <> '' ORDER BY number")]
    assert len(numbers) == len(set(numbers)) == 3
    gateways[1].stop()
    another = feed.gateway()
    assert another.running()
    assert len(feed.sql("SELECT number FROM gateway_lease WHERE holder <> ''")) == 3, "a released number is taken again"
