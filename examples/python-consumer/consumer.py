"""A consumer of Showcaller's messages that misses nothing and counts nothing twice.

It declares its queue as the AsyncAPI document says, takes an event only if it follows on the one before it in its partition,
and reads the log where something is missing. See README.md.
"""

import argparse
import itertools
import json
import logging
import os
import signal
import time

import pika
from kurrentdbclient.exceptions import KurrentDBClientError
from pika.exceptions import AMQPError

from books import Books, Event, Log, Outcome
from contract import Contract, Misunderstood
from event_log import EventLog

PREFETCH = 200
BATCH = 500
STOP_IS_SEEN_WITHIN_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0

log = logging.getLogger("consumer")


class Consumer:
    """Messages in, results in the books."""

    def __init__(self, books: Books, document: str, broker: str, events: str, queue: str):
        self.books = books
        self.document = document
        self.broker = broker
        self.events = events
        self.queue = queue
        self.contract = Contract.read(document)
        self.stopping = False
        self._connection: pika.BlockingConnection | None = None

    def stop(self, *_signal: object) -> None:
        self.stopping = True

    def run(self) -> None:
        """Until it is stopped; servers that are away are tried again."""
        pause = FIRST_PAUSE_S
        while not self.stopping:
            try:
                for _ in self._consume():
                    pause = FIRST_PAUSE_S
            except (AMQPError, KurrentDBClientError, OSError) as error:
                log.warning("trying again in %.1f s: %r", pause, error)
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    def _consume(self):
        exchange, queue = self.contract.exchange, self.contract.queue
        with pika.BlockingConnection(pika.URLParameters(self.broker)) as self._connection:
            channel = self._connection.channel()
            channel.basic_qos(prefetch_count=PREFETCH)
            channel.exchange_declare(
                exchange["name"], exchange["type"], durable=exchange["durable"], auto_delete=exchange["autoDelete"]
            )
            channel.queue_declare(self.queue, durable=queue["durable"], arguments=queue["arguments"])
            for binding in self.contract.bindings:
                channel.queue_bind(self.queue, exchange["name"], binding)
            for method, _, body in channel.consume(self.queue, inactivity_timeout=STOP_IS_SEEN_WITHIN_S):
                if self.stopping:
                    return
                if method is not None:
                    self.take(method.routing_key, json.loads(body))
                    # After the commit: whoever dies in between gets the message again, and knows it.
                    channel.basic_ack(method.delivery_tag)
                    yield

    def take(self, routing_key: str, message: dict) -> None:
        """Takes one message, whatever it is."""
        if self._understand(routing_key, message) == "Heartbeat":
            self._heartbeat(message)
        elif "replay" in message:
            log.debug("an operator replays %s: no news", message["id"])
        else:
            self._event(message)

    def _understand(self, routing_key: str, message: dict) -> str:
        try:
            return self.contract.check(routing_key, message)
        except Misunderstood:
            # The server may be newer than the document that was read.
            self.contract = Contract.read(self.document)
            return self.contract.check(routing_key, message)

    def _heartbeat(self, beat: dict) -> None:
        spoken = Log(beat["log"]["log"], beat["log"]["epoch"], beat["log"]["partitions"])
        current = self.books.current()
        if spoken != current:
            if current and current.log != spoken.log:
                log.error("log %s is not the one followed, %s: is this its virtual host?", spoken.log, current.log)
                return
            if self.books.is_known(spoken.epoch):
                return  # late news of an epoch that is over
            log.info("following epoch %s from its beginning", spoken.epoch)
            self.books.begin(spoken)
        if beat["position"] > self.books.position(beat["partition"]):
            self._read_log(beat["partition"], beat["position"])

    def _event(self, message: dict) -> None:
        if "replay" in message:
            return  # sent again by an operator: no news, and its `previous` leaves events out
        current = self.books.current()
        if current is None or (message["log"], message["epoch"]) != (current.log, current.epoch):
            # The next heartbeat, two seconds from now at most, says whether it matters; then it is read from the log.
            return
        event = Event(
            position=int(message["position"]),
            partition=int(message["partition"]),
            stream=message["subject"],
            id=message["id"],
            type=message["type"],
            data=message["data"],
            recorded_at=json.loads(message["metadata"])["recorded_at"],
        )
        if self.books.take_message(event, int(message["previous"])) is Outcome.MISSING:
            self._read_log(event.partition, event.position)

    def _read_log(self, partition: int, up_to: int) -> None:
        """Reads the log from where this partition is, and takes along every other that is at least as far."""
        current, start = self.books.current(), self.books.position(partition)
        along = {other for other in range(current.partitions) if self.books.position(other) >= start}
        log.info("reading the log from position %d for partition %d", start, partition)
        events = EventLog(self.events)
        try:
            missed = events.after(start, current.partitions)
            while batch := list(itertools.islice(missed, BATCH)):
                self.books.take_read([event for event in batch if event.partition in along])
                # A long read must not look like a dead consumer.
                self._connection.process_data_events(time_limit=0)
        finally:
            events.close()
        if self.books.position(partition) < up_to:
            raise SystemExit(f"position {up_to} was announced, and is not in the log at --events: is it the same log?")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="URLs with passwords belong in the environment: CONSUMER_BROKER, CONSUMER_EVENTS."
    )
    option = parser.add_argument
    option("--document", required=True, help="http://HOST:PORT/asyncapi.json, or a file")
    option("--broker", default=os.environ.get("CONSUMER_BROKER"), help="amqp://USER:PASSWORD@HOST:5672/VHOST")
    option(
        "--events",
        default=os.environ.get("CONSUMER_EVENTS"),
        help="where --role event-store serves the log: esdb://key:sck_…@HOST:2113",
    )
    option("--queue", default="activity", help="a name of its own for each consumer [%(default)s]")
    option("--books", default="activity.db", help="the SQLite file [%(default)s]")
    arguments = parser.parse_args()
    if not arguments.broker or not arguments.events:
        parser.error("--broker and --events are needed")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("pika").setLevel(logging.WARNING)
    consumer = Consumer(
        Books(arguments.books), arguments.document, arguments.broker, arguments.events, arguments.queue
    )
    signal.signal(signal.SIGTERM, consumer.stop)
    signal.signal(signal.SIGINT, consumer.stop)
    consumer.run()


if __name__ == "__main__":
    main()
