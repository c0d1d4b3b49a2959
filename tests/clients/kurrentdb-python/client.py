"""KurrentDB's Python client against the log that Showcaller serves, or against a real server.

Exits with 0 if everything is as the client's own documentation says; a failed assertion says what is not.
"""

import json
import sys
from uuid import uuid4

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import NotFoundError, WrongCurrentVersionError


def event(number, type_name="SeatTaken", metadata=b""):
    data = json.dumps({"seat": number}).encode()
    return NewEvent(type=type_name, data=data, metadata=metadata, id=uuid4())


def numbers(events):
    return [json.loads(event.data)["seat"] for event in events]


def refused(client, stream, state, actual):
    """An append in this state is refused as what it is."""
    try:
        client.append_to_stream(stream, current_version=state, events=[event(99)])
    except WrongCurrentVersionError as error:
        assert actual in str(error), error
    else:
        raise AssertionError(f"an append to {stream} at {state} was let in")


def append_in_each_state(client, stream):
    refused(client, stream, StreamState.EXISTS, "does not exist")
    refused(client, stream, 0, "does not exist")
    first = [event(0), event(1)]
    at = client.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=first)
    refused(client, stream, StreamState.NO_STREAM, "1")
    refused(client, stream, 0, "1")
    again = client.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=first)
    assert again == at, "the same events again are where they were"
    client.append_to_stream(stream, current_version=1, events=[event(2)])
    client.append_to_stream(stream, current_version=StreamState.ANY, events=[event(3)])
    client.append_to_stream(stream, current_version=StreamState.EXISTS, events=[event(4)])
    refused(client, stream, 3, "4")
    return at


def read(client, stream):
    everything = client.get_stream(stream)
    assert numbers(everything) == [0, 1, 2, 3, 4]
    assert [event.stream_position for event in everything] == [0, 1, 2, 3, 4]
    assert everything[0].content_type == "application/json"
    assert everything[0].stream_name == stream and everything[0].type == "SeatTaken"
    assert numbers(client.get_stream(stream, stream_position=3)) == [3, 4]
    assert numbers(client.get_stream(stream, backwards=True)) == [4, 3, 2, 1, 0]
    assert numbers(client.get_stream(stream, stream_position=2, backwards=True)) == [2, 1, 0]
    assert numbers(client.get_stream(stream, stream_position=1, limit=2)) == [1, 2]
    try:
        client.get_stream(f"nobody-{uuid4()}")
    except NotFoundError:
        pass
    else:
        raise AssertionError("a stream that does not exist was read")


def read_all(client, stream, category):
    ours = {"filter_include": f"{category}-.*", "filter_by_stream_name": True}
    forwards = list(client.read_all(**ours))
    assert numbers(forwards) == [0, 1, 2, 3, 4]
    positions = [event.commit_position for event in forwards]
    assert positions == sorted(set(positions)), "positions rise"
    assert numbers(client.read_all(commit_position=positions[2], **ours)) == [2, 3, 4]
    assert numbers(client.read_all(backwards=True, limit=2, **ours)) == [4, 3]
    before = client.read_all(backwards=True, commit_position=positions[2], **ours)
    assert numbers(before) == [1, 0], "backwards, the event at the position is left out"
    prefix = client.read_all(
        filter_include=[f"{category}-"], filter_by_stream_name=True, filter_by_prefix=True
    )
    assert numbers(prefix) == [0, 1, 2, 3, 4]
    assert stream in {event.stream_name for event in client.read_all()}
    return positions


def keep_metadata(client, category):
    stream = f"{category}-{uuid4()}"
    sent = {"$correlationId": str(uuid4()), "tenant": "grand"}
    client.append_to_stream(
        stream,
        current_version=StreamState.NO_STREAM,
        events=[event(7, metadata=json.dumps(sent).encode())],
    )
    (stored,) = client.get_stream(stream)
    seen = json.loads(stored.metadata)
    assert {key: seen.get(key) for key in sent} == sent, seen


def take(subscription, count):
    taken = []
    for event in subscription:
        taken.append(event)
        if len(taken) == count:
            break
    subscription.stop()
    return numbers(taken)


def subscribe(client, stream, category, positions):
    ours = {"filter_include": f"{category}-.*", "filter_by_stream_name": True}
    assert take(client.subscribe_to_stream(stream), 5) == [0, 1, 2, 3, 4]
    assert take(client.subscribe_to_stream(stream, stream_position=2), 2) == [3, 4]
    assert take(client.subscribe_to_all(**ours), 5) == [0, 1, 2, 3, 4]
    after = client.subscribe_to_all(commit_position=positions[1], **ours)
    live = client.subscribe_to_stream(stream, from_end=True)
    client.append_to_stream(stream, current_version=StreamState.EXISTS, events=[event(5)])
    assert take(after, 4) == [2, 3, 4, 5]
    assert take(live, 1) == [5]

    other = f"{category}-{uuid4()}"
    client.append_to_stream(
        other,
        current_version=StreamState.NO_STREAM,
        events=[event(number, "SeatLeft") for number in range(10, 13)],
    )
    by_type = client.subscribe_to_all(
        commit_position=positions[0], filter_include="SeatLeft", filter_by_stream_name=False
    )
    assert take(by_type, 3) == [10, 11, 12]


def main(url):
    client = KurrentDBClient(url)
    category = f"seats{uuid4().hex}"
    stream = f"{category}-{uuid4()}"
    append_in_each_state(client, stream)
    read(client, stream)
    positions = read_all(client, stream, category)
    subscribe(client, stream, category, positions)
    keep_metadata(client, f"kept{uuid4().hex}")
    client.close()
    print("kurrentdbclient: append in each state, read, subscribe, filter, conflicts: as they must be")


main(sys.argv[1])
