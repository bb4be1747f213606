"""The API page at /docs: served whole by the gateway, and good for trying things out, in a browser that may not go elsewhere."""
import json
import re
import urllib.parse

import pytest
import requests
import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from expect import problem
from feedmill import ROOT, Client

pytestmark = pytest.mark.once

CONTRACT = yaml.safe_load((ROOT / "config/api/feedmill.openapi.yaml").read_text())
OPERATIONS = {operation["operationId"]: (method, path) for path, methods in CONTRACT["paths"].items() for method, operation in methods.items()}
PATIENCE = 30


def test_the_page_and_its_files_are_served_and_kept_by_etag(client):
    index = client.ask("GET", "/docs")
    assert index.status_code == 200 and index.headers["Content-Type"] == "text/html; charset=utf-8"
    names = re.findall(r'(?:src|href)="([^"]+)"', index.text)
    assert len(names) == 5, names
    for name in names:
        assert "//" not in name, f"{name} is not ours to serve"
        answer = client.ask("GET", "/" + name)
        assert answer.status_code == 200 and len(answer.content) > 100, name
        again = client.ask("GET", "/" + name, headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304 and again.content == b"" and again.headers["ETag"] == answer.headers["ETag"]
        assert client.ask("GET", "/" + name, headers={"If-None-Match": '"another"'}).status_code == 200
    assert "default-src 'none'" in index.headers["Content-Security-Policy"]
    assert client.ask("HEAD", "/docs").headers["Content-Length"] == str(len(index.content))
    assert client.ask("GET", "/docs/LICENSE").status_code == 200
    moved = client.ask("GET", "/docs/")
    assert moved.status_code == 301 and urllib.parse.urljoin(moved.url, moved.headers["Location"]) == client.url + "/docs"
    answer = client.ask("POST", "/docs", {})
    assert problem(answer, 405) and answer.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/docs/index.html", "/docs/../docs/page.js", "/docs/%2e%2e/page.js", "/docs/..%2fMakefile", "/docs//page.js",
                                  "/docs/page.js/", "/docs/.swagger-ui-dist-5.35.0", "/docs//etc/passwd"])
def test_no_other_path_reaches_a_file(client, path):
    request = requests.Request("GET", client.url).prepare()
    request.url = client.url + path     # as it stands: a client would tidy it
    with requests.Session() as session:
        problem(session.send(request, timeout=10), 404)


def test_a_gateway_without_the_page_says_how_to_get_it(make_feed, tmp_path):
    feed = make_feed(gateway__docs=str(tmp_path)).prepare()
    gateway = feed.gateway()
    client = Client(gateway.url)
    for path in "/docs", "/docs/page.js":
        problem(client.ask("GET", path), 404, "make docs", "gateway.docs")
    assert client.ask("GET", "/openapi.json").json() == CONTRACT
    assert gateway.logged("event=.no API page.*index.html")


def test_the_page_can_be_switched_off(make_feed):
    feed = make_feed(gateway__docs="").prepare()
    gateway = feed.gateway()
    assert "make docs" not in problem(Client(gateway.url).ask("GET", "/docs"), 404)["detail"]
    assert not gateway.logged("no API page")


# ---- in a browser

@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic", "no-first-run", "disable-background-networking",
                 "disable-component-update", "disable-sync", "disable-default-apps", "no-proxy-server", "window-size=1200,3000",
                 f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument("--" + flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What a person sees of /docs, and what the browser asked for on the way."""

    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        self.asked = []
        browser.get("about:blank")
        browser.get_log("performance")      # the empty tab's own, which went to no host
        browser.get(url + "/docs")
        self.find(".opblock")

    def find(self, selector):
        """The first that is shown."""
        return WebDriverWait(self.browser, PATIENCE).until(
            lambda b: next((e for e in b.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()), None), f"nothing shown at {selector}")

    def operations(self):
        blocks = self.browser.find_elements(By.CSS_SELECTOR, ".opblock")
        def text(block, part):
            return block.find_element(By.CSS_SELECTOR, part).text.replace("\u200b", "")
        return {block.get_attribute("id").split("-")[-1]: (text(block, ".opblock-summary-method").lower(), text(block, ".opblock-summary-path"))
                for block in blocks}

    def execute(self, operation, body):
        """Opens an operation, tries it out with this body; the status and the body that the page shows."""
        block = f"[id$=-{operation}] "
        self.find(block + ".opblock-summary-control").click()
        self.find(block + ".try-out__btn").click()
        text = self.find(block + "textarea.body-param__text")
        text.send_keys(Keys.CONTROL, "a")
        text.send_keys(json.dumps(body))
        self.find(block + ".execute").click()
        answer = block + ".live-responses-table tbody "
        return int(self.find(answer + ".response-col_status").text.split()[0]), json.loads(self.find(answer + ".highlight-code code").text)

    def urls(self):
        """All that was asked for so far, by the browser's own log."""
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
        return self.asked


def test_the_page_lists_the_operations_and_try_it_out_posts_a_product(browser, client):
    page = Page(browser, client.url)
    assert page.operations() == OPERATIONS
    name = "Umbrella of the page"
    status, product = page.execute("add_product", {"name": name, "price": 12.34})
    assert status == 200
    assert product == {"id": product["id"], "name": name, "price": 12.34}
    listed = {row["id"]: row for row in client.ok("GET", "/products", params={"limit": 1000})}
    assert listed[product["id"]] == product

    asked = [urllib.parse.urlsplit(url) for url in page.urls() if not url.startswith("data:")]
    assert {f"{url.scheme}://{url.netloc}" for url in asked} == {client.url}
    assert "/openapi.json" in [url.path for url in asked] and "/products" in [url.path for url in asked]
    refused = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert refused == [], "the page wanted something that its policy forbids, or that is not there"
