"""What answers must look like, in one place."""


def problem(answer, status, *words, pointer=None):
    """A problem document of that status whose detail has these words."""
    assert answer.status_code == status, f"{answer.status_code}, not {status}: {answer.text}"
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["title"]
    for word in words:
        assert word in body["detail"], f"{word!r} is not in {body['detail']!r}"
    if pointer is not None:
        assert body.get("pointer", "") == pointer, body
    if status == 503:
        assert int(answer.headers["Retry-After"]) >= 1
    return body


def link(participant):
    return f"/participant/{participant}"
