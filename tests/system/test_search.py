"""Search by word: contract.md, search_outbound."""
import http.client

import pytest
import requests

from expect import link, problem
from feedmill import server, wait_for


def find(feed, client, keywords, enough=1):
    def found():
        feed.searchable()
        senders = client.search(keywords)
        return senders if len(senders) >= enough else None
    return wait_for(found, f"{enough} senders for {keywords!r}")


def test_each_sender_once_best_first(feed, client):
    often, once = client.participant(), client.participant()
    client.say(once, "quokka among a great many other words that make the story long and the match weak")
    for _ in range(3):
        client.say(often, "quokka quokka")
    wait_for(lambda: len(client.outbound(often)) == 3, "the posts")
    wait_for(lambda: find(feed, client, "quokka", 2) == [link(often), link(once)], "both, the better one first")


def test_any_of_the_words_case_and_punctuation_do_not_matter(feed, client):
    one, other = client.participant(), client.participant()
    client.say(one, "The Numbat, at dusk!")
    client.say(other, "a bilby; by day")
    assert set(find(feed, client, "NUMBAT?! bilby...", 2)) == {link(one), link(other)}


def test_subject_is_not_searched(feed, client):
    one = client.participant()
    client.say(one, "a story with wombat", subject="pademelon")
    assert find(feed, client, "wombat") == [link(one)]
    assert client.search("pademelon") == []


@pytest.mark.parametrize("keywords", ['"', "AND OR NOT", "story:*", "kangaroo~2", "+kangaroo -x", "(kangaroo", "[1 TO 2]", "\\", "/re/", "*", "?", "{\"match_all\":{}}", "a" * 5000,
                                      " ".join(str(n) for n in range(1500))])
def test_query_syntax_is_plain_text(client, keywords):
    assert isinstance(client.search(keywords), list)


def test_words_of_other_scripts(feed, client):
    one = client.participant()
    client.say(one, "Ein Känguru im Straßenverkehr")
    assert find(feed, client, "känguru") == [link(one)]
    raw = client.http.get(client.url + "/outbound?keywords=", timeout=30)
    assert raw.json() == []


def test_spaces_as_plus_as_percent_and_raw_bytes(feed, client):
    one = client.participant()
    client.say(one, "dunnart möwe")
    find(feed, client, "dunnart")
    host = client.url.removeprefix("http://")
    for query in (b"xx+m\xc3\xb6we", b"xx%20m%C3%B6we", b"m%c3%b6we+xx"):
        connection = http.client.HTTPConnection(host, timeout=30)
        connection._encode_request = lambda request: request.encode("latin-1")
        connection.putrequest("GET", "/outbound?keywords=" + query.decode("latin-1"))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read().decode() == f'["{link(one)}"]', query
        connection.close()


def test_nothing_found_empty_or_missing(client):
    assert client.search("xylophagous") == []
    assert client.search("") == []
    assert client.search(" \t.,;") == []
    problem(client.get("/outbound"), 400, "keywords")
    problem(client.get("/outbound?keywords=%ff"), 400, "keywords")


@pytest.mark.servers("whose documents can be read by others")
def test_document_is_as_the_contract_says(feed, client):
    author = client.participant()
    post = client.say(author, "the numbat's document", "its subject")

    def document():
        answer = requests.get(f"{server('SEARCH_URL')}/{feed.index}/_doc/{post}", timeout=30)
        return answer.json()["_source"] if answer.status_code == 200 else None
    source = wait_for(document, "the document")
    posted_at = wait_for(lambda: client.outbound(author), "the row")[0]["posted_at"]
    assert source == {"id": str(post), "sender": author, "subject": "its subject", "story": "the numbat's document", "posted_at": posted_at}
