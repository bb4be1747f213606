"""The contract is read at launch: what the file says is what the gateway checks, and both must agree."""
import pytest

from expect import problem
from feedmill import ROOT, Client

pytestmark = pytest.mark.once

CONTRACT = (ROOT / "config/api/feedmill.openapi.yaml").read_text()


@pytest.fixture
def launch(make_feed):
    def with_contract(text, **how):
        feed = make_feed()
        file = feed.folder / f"{feed.name}.yaml"
        file.write_text(text)
        feed.settings["gateway.contract"] = str(file)
        feed.write_config()
        feed.prepare()
        return feed, feed.gateway(**how)
    return with_contract


def test_a_changed_maxlength_changes_the_answer(launch):
    assert CONTRACT.count("maxLength: 50 }") >= 1
    feed, gateway = launch(CONTRACT.replace("maxLength: 50 }", "maxLength: 3 }"))
    problem(Client(gateway.url).post("/participant", {"name": "four"}), 400, "at most 3", pointer="/name")


def test_a_contract_that_allows_more_than_records_hold_loses_nothing(launch):
    """What a worker would refuse is refused before it is answered well."""
    wide = CONTRACT.replace("maxLength: 50 }", "maxLength: 60 }").replace("maxLength: 4000", "maxLength: 5000") \
        .replace("minLength: 1, maxLength: 255", "maxLength: 300")
    assert wide.count("maxLength: 60 }") >= 1 and wide.count("maxLength: 5000") >= 1 and wide.count("maxLength: 300") >= 1
    feed, gateway = launch(wide)
    feed.worker("command")
    client = Client(gateway.url)
    author = client.participant("x" * 50)
    problem(client.post("/participant", {"name": "x" * 51}), 400, "1 to 50 characters, not 51", pointer="/name")
    problem(client.post("/products", {"name": "", "price": 1}), 400, "1 to 255 characters, not 0", pointer="/name")
    problem(client.post("/products", {"name": "x" * 256, "price": 1}), 400, "not 256", pointer="/name")
    path = f"/participant/{author}/outbound"
    problem(client.post(path, {"subject": "s" * 4001, "story": ""}), 400, "0 to 4000 characters, not 4001", pointer="/subject")
    client.say(author, "", "s" * 4000)
    assert [r.value() for r in feed.records("feed.commands", lambda rs: len(rs) >= 1)] != [], "one command alone was published"
    assert len(feed.records("feed.posts", lambda rs: len(rs) >= 1)) == 1


@pytest.mark.parametrize("change, words", [
    (("operationId: get_products", "operationId: list_products"), "list_products"),
    (("  /products/{id}:\n    delete:\n      operationId: delete_product", "  /products/{id}:\n    delete:\n      operationId: remove"), "delete_product|remove"),
    (("minLength: 1, maxLength: 50", "minLenght: 1, maxLength: 50"), "minLenght"),
    (("paths:\n", "paths: [\n"), "line"),
])
def test_a_contract_that_does_not_agree_refuses_the_launch(launch, change, words):
    assert change[0] in CONTRACT
    feed, gateway = launch(CONTRACT.replace(*change), wait=False)
    assert gateway.popen.wait(30) == 2
    assert gateway.logged(words), gateway.output()
    feed.processes.remove(gateway)


def test_a_contract_that_is_not_there_refuses_the_launch(make_feed):
    feed = make_feed(gateway__contract="/nowhere/contract.yaml").prepare()
    gateway = feed.gateway(wait=False)
    assert gateway.popen.wait(30) == 2
    assert gateway.logged("/nowhere/contract.yaml"), gateway.output()
    feed.processes.remove(gateway)
