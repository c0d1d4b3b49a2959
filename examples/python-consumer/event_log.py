"""Reading the log itself, over EventStoreDB's protocol: what the queue has lost is here."""

import hashlib
import json
from collections.abc import Iterator

from kurrentdbclient import KurrentDBClient

from books import Event


def partition_of(stream: str, partitions: int) -> int:
    """Where a stream's messages go: the document says how, under the parameter `partition`."""
    digest = hashlib.sha256(stream.encode()).digest()
    return int.from_bytes(digest[:8], "big") % partitions


class EventLog:
    """A served log, or EventStoreDB itself."""

    def __init__(self, uri: str):
        self._client = KurrentDBClient(uri)

    def after(self, position: int, partitions: int) -> Iterator[Event]:
        """Every event after this position, in order, up to the log's end."""
        start = {"commit_position": position} if position > 0 else {}
        for recorded in self._client.read_all(**start):
            # Reading begins with the event at the position.
            if recorded.commit_position <= position:
                continue
            # What the log has no field for stands in the metadata, under a key of its own.
            envelope = json.loads(recorded.metadata)["showcaller"]
            yield Event(
                position=recorded.commit_position,
                partition=partition_of(recorded.stream_name, partitions),
                stream=recorded.stream_name,
                id=envelope["id"],
                type=recorded.type,
                data=json.loads(recorded.data),
                recorded_at=envelope["metadata"]["recorded_at"],
            )

    def close(self) -> None:
        self._client.close()
