"""Whether an answer is one that the contract names: status, media type, body, and the headers that must be there.

Every answer that a test's Client gets goes through check(); what no operation answers (another path or method) has no say here.
"""
import functools
import pathlib
import re
import urllib.parse

import jsonschema_rs
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]

CONTRACT = yaml.safe_load((ROOT / "config/api/feedmill.openapi.yaml").read_text())


def resolve(place):
    while "$ref" in place:
        found = CONTRACT
        for name in place["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        place = found
    return place


@functools.cache
def responses_of(method, path):
    for template, methods in CONTRACT["paths"].items():
        if method.lower() in methods and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            operation = methods[method.lower()]
            return operation["operationId"], operation["responses"]
    return None, None


@functools.cache
def validator_of(operation, status, media_type):
    responses = next(o["responses"] for p in CONTRACT["paths"].values() for o in p.values() if o["operationId"] == operation)
    schema = resolve(responses[status])["content"][media_type]["schema"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": CONTRACT["components"]}, validate_formats=True)


def check(answer):
    request = answer.request
    operation, responses = responses_of(request.method, urllib.parse.urlsplit(request.url).path)
    if operation is None:
        return
    status, where = str(answer.status_code), f"{operation} answered {answer.status_code}"
    assert status in responses, f"{where}, which the contract does not name: {answer.text[:300]}"
    response = resolve(responses[status])
    media_type = answer.headers.get("Content-Type")
    assert media_type in response["content"], f"{where} as {media_type}"
    for name, header in response.get("headers", {}).items():
        assert name in answer.headers or not resolve(header).get("required"), f"{where} without {name}"
    fault = next(iter(validator_of(operation, status, media_type).iter_errors(answer.json())), None)
    assert fault is None, f"{where}: {fault.message} at {list(fault.instance_path)}: {answer.text[:300]}"
