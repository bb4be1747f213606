"""The contract is read at launch: what the file says is what the gateway checks, and both must agree."""
import pytest

from expect import problem
from feedmill import ROOT, Client

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
