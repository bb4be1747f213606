"""What a schema can't say of a request that is to be taken, for the requests that schemathesis means to be right.

Loaded by schemathesis (SCHEMATHESIS_HOOKS); what only the service knows comes from test_schemathesis.py in FEED_KNOWN.
Requests that are meant to be wrong stay as they are.
"""
import json
import os
import uuid

import schemathesis
from schemathesis import GenerationMode

KEY = "Idempotency-Key"
KNOWN = json.loads(os.environ["FEED_KNOWN"])


def friend(case):
    """`from` is the path's participant; `to` is not, and is often somebody there is."""
    mine = f"/participant/{case.path_parameters['id']}"
    if "from" in case.body:
        case.body["from"] = mine
    to = case.body["to"]
    if to in (mine, str(case.path_parameters["id"])) or len(to) % 2 == 0:
        case.body["to"] = KNOWN["friends"][mine == KNOWN["friends"][0]]


def post(case):
    if "from" in case.body:
        case.body["from"] = f"/participant/{case.path_parameters['id']}"


def product(case):
    """Multiples of 0.01 are made by multiplication: 0.5700000000000001."""
    case.body["price"] = round(case.body["price"], 2)


def webhook(case):
    """What an address is, no schema says as the service does."""
    case.body["url"] = f"https://example.com/{uuid.uuid4()}"


BODIES = {"add_webhook": webhook, "add_friend": friend, "add_outbound": post, "add_product": product}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    operation = case.operation.definition.raw["operationId"]
    if case.query and "cursor" in case.query:
        case.query["cursor"] = KNOWN["cursors"][operation]      # opaque: it comes from the service
    if case.headers and KEY in case.headers:
        case.headers[KEY] = f'"{uuid.uuid4()}"'      # a key of its own: one that another request had is refused
    if operation in BODIES and isinstance(case.body, dict):
        BODIES[operation](case)
