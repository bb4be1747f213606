"""Values of records, one of each topic: right as they are, wrong when something is changed."""
import json
import time
import uuid

COMMAND = "0190163d-8694-739b-aea5-966c26f8ad91"


def sample(defaults, change):
    """Of `change`, `...` leaves the field out."""
    return json.dumps({key: value for key, value in {**defaults, **change}.items() if value is not Ellipsis}).encode()


def post(**change):
    return sample({"v": 1, "id": 2**40, "from": 7, "posted_at": "2026-01-31T12:00:00.123Z", "subject": "s", "story": "s"}, change)


def chunk(**change):
    return sample({"v": 1, "post": 2**40, "from": 7, "chunk": 0}, change)


def command(type="product.create", data=None, **change):
    return sample({"v": 1, "command": COMMAND, "type": type, "id": 5, "data": {"name": "n", "price": 1} if data is None else data}, change)


def command_id():
    """A UUID of version 7 that nobody has."""
    return str(uuid.UUID(int=(int(time.time() * 1000) << 80) | (7 << 76) | (uuid.uuid4().int & (0xfff << 64)) | (2 << 62) | (uuid.uuid4().int & ((1 << 62) - 1))))
