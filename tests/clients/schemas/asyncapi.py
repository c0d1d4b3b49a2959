"""Holds an AsyncAPI document against AsyncAPI's own JSON Schema, its examples and recorded messages against the document.

`asyncapi.py DOCUMENT MESSAGES`: a message a line, `{"key": routing key, "headers": {…}, "body": {…}}`. Prints how many messages
of each name there were, as JSON.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
SPECS = ROOT / "target/clients/schemas/node_modules/@asyncapi/specs/schemas"
sys.path.insert(0, str(ROOT / "examples/python-consumer"))

from contract import Contract  # noqa: E402


def headers_of(document, name):
    for message in document["components"]["messages"].values():
        if message["name"] == name:
            return message.get("headers", {})
    raise AssertionError(f"no message is named {name}")


document = json.loads(Path(sys.argv[1]).read_text())
schema = json.loads((SPECS / f"{document['asyncapi']}.json").read_text())
problems = [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(document)]
assert not problems, "not valid AsyncAPI:\n" + "\n".join(problems[:10])

registry = Registry().with_resource("urn:document", Resource(document, DRAFT7))
for key, message in document["components"]["messages"].items():
    payload = {"$ref": f"urn:document#/components/messages/{key}/payload"}
    Draft7Validator.check_schema(message["payload"])
    for example in message.get("examples", []):
        Draft7Validator(payload, registry=registry).validate(example["payload"])
        Draft7Validator(message.get("headers", {})).validate(example.get("headers", {}))

contract, names = Contract(document), Counter()
for line in Path(sys.argv[2]).read_text().splitlines():
    message = json.loads(line)
    name = contract.check(message["key"], message["body"])
    Draft7Validator(headers_of(document, name)).validate(message["headers"])
    names[name] += 1
    if "metadata" in message["body"]:
        metadata = {"$ref": "urn:document#/components/schemas/Metadata"}
        Draft7Validator(metadata, registry=registry).validate(json.loads(message["body"]["metadata"]))
print(json.dumps(names))
