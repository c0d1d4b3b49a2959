"""What the server says of its messages: its AsyncAPI document, and nothing that is repeated here by hand."""

import json
import re
import urllib.request
from dataclasses import dataclass

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

DOCUMENT = "urn:showcaller:asyncapi"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
FETCH_TIMEOUT_S = 10


class Misunderstood(Exception):
    """A message that is not what the document says. Nothing is guessed of it."""


@dataclass(frozen=True)
class Channel:
    """One channel: which routing keys are its own, and how its messages are checked."""

    address: re.Pattern
    placeholders: int
    types: frozenset  # those that it names; empty: whatever there is
    messages: dict  # name -> validator


class Contract:
    """An AsyncAPI document, read once."""

    def __init__(self, document: dict):
        self._registry = Registry().with_resource(DOCUMENT, Resource(document, DRAFT7))
        channels = document["channels"].values()
        amqp = [channel["bindings"]["amqp"] for channel in channels]
        self.exchange: dict = amqp[0]["exchange"]
        self.queue: dict = amqp[0]["x-queue"]
        if any(other["exchange"] != self.exchange for other in amqp):
            raise ValueError("this consumer follows one exchange, and the document names several")
        # `{partition}.account.{type}` binds as `*.account.*`.
        self.bindings = sorted({PLACEHOLDER.sub("*", channel["address"]) for channel in channels})
        found = [self._channel(key, channel) for key, channel in document["channels"].items()]
        # What names a category comes before what takes any.
        self._channels = sorted(found, key=lambda channel: channel.placeholders)

    @classmethod
    def read(cls, source: str) -> "Contract":
        """From a server (`http://…/asyncapi.json`) or a file."""
        if source.startswith(("http://", "https://")):
            with urllib.request.urlopen(source, timeout=FETCH_TIMEOUT_S) as answer:
                return cls(json.load(answer))
        with open(source, encoding="utf-8") as file:
            return cls(json.load(file))

    def check(self, routing_key: str, message: dict) -> str:
        """The name of the message that this is; raises `Misunderstood` where it is none."""
        for channel in self._channels:
            match = channel.address.fullmatch(routing_key)
            if match is None:
                continue
            kind = match.groupdict().get("type")
            if channel.types and kind not in channel.types:
                continue
            name = kind if channel.types else next(iter(channel.messages))
            error = best_match(channel.messages[name].iter_errors(message))
            if error is not None:
                raise Misunderstood(f"{routing_key}: {error.json_path}: {error.message}")
            return name
        raise Misunderstood(f"{routing_key}: no channel of the document has this key")

    def _channel(self, key: str, channel: dict) -> Channel:
        pattern, end = "", 0
        for found in PLACEHOLDER.finditer(channel["address"]):
            literal = channel["address"][end : found.start()]
            pattern += re.escape(literal) + f"(?P<{found[1]}>[^.]+)"
            end = found.end()
        pattern += re.escape(channel["address"][end:])
        messages = {}
        for message in channel["messages"].values():
            target = message["$ref"]
            name = self._registry.resolver(DOCUMENT).lookup(target).contents["name"]
            schema = {"$ref": f"{DOCUMENT}{target}/payload"}
            messages[name] = Draft7Validator(schema, registry=self._registry)
        types = frozenset(channel.get("parameters", {}).get("type", {}).get("enum", ()))
        placeholders = len(PLACEHOLDER.findall(channel["address"]))
        return Channel(re.compile(pattern), placeholders, types, messages)
