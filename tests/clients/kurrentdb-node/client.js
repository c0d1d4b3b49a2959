// KurrentDB's Node client against the log that Showcaller serves, or against a real server. Exits with 0 if everything is
// as the client's own documentation says; a failed assertion says what is not.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import {
  ANY,
  BACKWARDS,
  END,
  KurrentDBClient,
  NO_STREAM,
  START,
  STREAM_EXISTS,
  StreamNotFoundError,
  WrongExpectedVersionError,
  eventTypeFilter,
  jsonEvent,
  streamNameFilter,
} from "@kurrent/kurrentdb-client";

const seat = (number, type = "SeatTaken", metadata) =>
  jsonEvent({ id: randomUUID(), type, data: { seat: number }, metadata });

/** What a read or a subscription gives, until `count` events came. */
async function take(events, count = Infinity) {
  const taken = [];
  for await (const { event } of events) {
    taken.push(event);
    if (taken.length === count) break;
  }
  return taken;
}

const numbers = (events) => events.map((event) => event.data.seat);

const refused = (client, stream, streamState) =>
  assert.rejects(
    client.appendToStream(stream, seat(99), { streamState }),
    WrongExpectedVersionError,
  );

async function appendInEachState(client, stream) {
  await refused(client, stream, STREAM_EXISTS);
  await refused(client, stream, 0n);
  const first = [seat(0), seat(1)];
  const begun = await client.appendToStream(stream, first, { streamState: NO_STREAM });
  assert.equal(begun.nextExpectedRevision, 1n);
  await refused(client, stream, NO_STREAM);
  await refused(client, stream, 0n);
  const again = await client.appendToStream(stream, first, { streamState: NO_STREAM });
  assert.equal(again.nextExpectedRevision, 1n);
  await client.appendToStream(stream, seat(2), { streamState: 1n });
  await client.appendToStream(stream, seat(3), { streamState: ANY });
  await client.appendToStream(stream, seat(4), { streamState: STREAM_EXISTS });
  await refused(client, stream, 3n);
}

async function read(client, stream) {
  const everything = await take(client.readStream(stream));
  assert.deepEqual(numbers(everything), [0, 1, 2, 3, 4]);
  assert.deepEqual(everything.map((event) => event.revision), [0n, 1n, 2n, 3n, 4n]);
  assert.equal(everything[0].streamId, stream);
  const some = async (options) => numbers(await take(client.readStream(stream, options)));
  assert.deepEqual(await some({ fromRevision: 3n }), [3, 4]);
  assert.deepEqual(await some({ direction: BACKWARDS, fromRevision: END }), [4, 3, 2, 1, 0]);
  assert.deepEqual(await some({ direction: BACKWARDS, fromRevision: 2n }), [2, 1, 0]);
  assert.deepEqual(await some({ fromRevision: 1n, maxCount: 2 }), [1, 2]);
  await assert.rejects(take(client.readStream(`nobody-${randomUUID()}`)), StreamNotFoundError);
}

async function readAll(client, category) {
  const filter = streamNameFilter({ prefixes: [`${category}-`] });
  const forwards = await take(client.readAll({ fromPosition: START, filter }));
  const ours = forwards.filter((event) => event.streamId.startsWith(`${category}-`));
  assert.deepEqual(numbers(ours), [0, 1, 2, 3, 4]);
  const position = ours[2].position;
  const rest = await take(client.readAll({ fromPosition: position }), 3);
  assert.deepEqual(numbers(rest), [2, 3, 4]);
  const last = await take(client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 2 }));
  assert.deepEqual(numbers(last), [4, 3]);
  return ours.map((event) => event.position);
}

async function subscribe(client, stream, category, positions) {
  const from = (fromRevision) => client.subscribeToStream(stream, { fromRevision });
  assert.deepEqual(numbers(await take(from(START), 5)), [0, 1, 2, 3, 4]);
  assert.deepEqual(numbers(await take(from(2n), 2)), [3, 4]);
  const filter = streamNameFilter({ regex: `^${category}-.*` });
  const after = client.subscribeToAll({ fromPosition: positions[1], filter });
  const live = take(after, 4);
  await client.appendToStream(stream, seat(5), { streamState: STREAM_EXISTS });
  assert.deepEqual(numbers(await live), [2, 3, 4, 5]);

  const left = [10, 11, 12].map((number) => seat(number, "SeatLeft"));
  await client.appendToStream(`${category}-${randomUUID()}`, left, { streamState: NO_STREAM });
  const byType = client.subscribeToAll({
    fromPosition: positions[0],
    filter: eventTypeFilter({ prefixes: ["SeatLeft"] }),
  });
  assert.deepEqual(numbers(await take(byType, 3)), [10, 11, 12]);
}

async function keepMetadata(client) {
  const stream = `kept-${randomUUID()}`;
  const sent = { $correlationId: randomUUID(), tenant: "grand" };
  await client.appendToStream(stream, seat(7, "SeatTaken", sent), { streamState: NO_STREAM });
  const [stored] = await take(client.readStream(stream));
  for (const key of Object.keys(sent)) assert.equal(stored.metadata[key], sent[key]);
}

const client = KurrentDBClient.connectionString(process.argv[2]);
const category = `seats${randomUUID().replaceAll("-", "")}`;
const stream = `${category}-${randomUUID()}`;
await appendInEachState(client, stream);
await read(client, stream);
const positions = await readAll(client, category);
await subscribe(client, stream, category, positions);
await keepMetadata(client);
await client.dispose();
console.log("@kurrent/kurrentdb-client: append in each state, read, subscribe, filter, conflicts: as they must be");
process.exit(0);
