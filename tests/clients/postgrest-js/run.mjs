// What @supabase/postgrest-js makes of the query API: every call that dashboards use, against a real server.
// Arguments: the server's URL, an access token, the position token to read after. Ends with 1 at the first difference.
import assert from "node:assert/strict";
import { PostgrestClient } from "@supabase/postgrest-js";

const [url, token, after] = process.argv.slice(2);
const client = new PostgrestClient(`${url}/v1`, {
  headers: { Authorization: `Bearer ${token}`, "Showcaller-After": after },
});
const history = () => client.from("account-history");

/** The answer of a query that must succeed. */
async function ok(query) {
  const answer = await query;
  assert.equal(answer.error, null, JSON.stringify(answer.error));
  return answer;
}
const versions = async (query) => (await ok(query)).data.map((row) => row.version);
const updates = () => history().select("version").eq("type", "ProfileUpdated").order("version");

// The account registered, and changed its profile six times.
assert.deepEqual(await versions(updates()), [2, 3, 4, 5, 6, 7]);
assert.deepEqual(await versions(updates().neq("version", 4)), [2, 3, 5, 6, 7]);
assert.deepEqual(await versions(updates().gt("version", 3).lt("version", 6)), [4, 5]);
assert.deepEqual(await versions(updates().gte("version", 3).lte("version", 4)), [3, 4]);
assert.deepEqual(await versions(updates().in("version", [2, 7, 99])), [2, 7]);
assert.deepEqual(await versions(updates().in("type", ["a,b", 'c"d'])), []);
assert.deepEqual(await versions(history().select("version").like("type", "Profile%").order("version")), [2, 3, 4, 5, 6, 7]);
assert.deepEqual(await versions(history().select("version").like("type", "profile%")), []);
assert.deepEqual(await versions(history().select("version").ilike("type", "%REGISTERED")), [1]);
assert.deepEqual(await versions(updates().not("version", "in", "(2,3)")), [4, 5, 6, 7]);
assert.deepEqual(await versions(updates().not("session_id", "is", null).limit(1)), [2]);
assert.deepEqual(await versions(history().select("version").is("session_id", null).eq("type", "AccountRegistered")), [1]);
assert.deepEqual(await versions(updates().or("version.eq.2,and(version.gt.5,version.lt.7)")), [2, 6]);
assert.deepEqual(
  await versions(history().select("version").eq("type", "ProfileUpdated").order("version", { ascending: false, nullsFirst: false }).limit(2)),
  [7, 6],
);
assert.deepEqual(await versions(updates().range(1, 3)), [3, 4, 5]);
assert.deepEqual(await versions(updates().match({ version: 5 })), [5]);

const counted = await ok(history().select("*", { count: "exact" }).eq("type", "ProfileUpdated").range(0, 1));
assert.deepEqual([counted.count, counted.data.length, counted.status], [6, 2, 206]);
const head = await ok(history().select("*", { count: "exact", head: true }).eq("type", "ProfileUpdated"));
assert.deepEqual([head.count, head.data], [6, null]);

const single = await ok(history().select("kind:type").eq("type", "AccountRegistered").single());
assert.deepEqual(single.data, { kind: "AccountRegistered" });
const many = await history().select().eq("type", "ProfileUpdated").single();
assert.deepEqual([many.status, many.error.code], [406, "PGRST116"]);
assert.match(many.error.details, /6 rows/);
assert.equal((await ok(history().select().eq("version", 1).eq("type", "AccountRegistered").maybeSingle())).data.version, 1);
assert.equal((await ok(history().select().eq("version", 99).maybeSingle())).data, null);
assert.equal((await history().select().eq("type", "ProfileUpdated").maybeSingle()).error.code, "PGRST116");

const csv = await ok(updates().limit(2).csv());
assert.equal(csv.data, "version\r\n2\r\n3\r\n");

const wrong = await history().select("version,nope").eq("version", "many");
assert.deepEqual([wrong.status, wrong.error.code], [400, "malformed"]);
assert.match(wrong.error.message, /nope/);
assert.match(wrong.error.details, /integer/);
const unknown = await client.from("nothing").select();
assert.deepEqual([unknown.status, unknown.error.code], [404, "not_found"]);
const foreign = await new PostgrestClient(`${url}/v1`).from("account-history").select();
assert.equal(foreign.status, 401);

console.log("postgrest-js is served");
