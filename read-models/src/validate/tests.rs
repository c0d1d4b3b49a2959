//! Definitions that are accepted, those that are refused, and what the hash says.

use super::*;

fn accounts() -> ReadModel {
    ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("status", ColumnType::Text)
        .column("email", ColumnType::Personal)
        .category("account")
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
}

fn refused(model: &ReadModel, word: &str) {
    let problem = model.validate().unwrap_err().problem;
    assert!(problem.contains(word), "{:?}: {problem}", model.name);
}

#[test]
fn a_plain_definition_is_accepted() {
    accounts().validate().unwrap();
    let longest = format!("a{}", "-b".repeat(17));
    ReadModel::new(&longest)
        .key("k", ColumnType::Text)
        .validate()
        .unwrap();
}

#[test]
fn names_that_sql_or_urls_need_otherwise_are_refused() {
    for name in [
        "", "Accounts", "a_b", "1a", "-a", "a-", "a--b", "a\"b", "ü", "a b",
    ] {
        refused(
            &ReadModel::new(name).key("k", ColumnType::Text),
            "lower-case",
        );
    }
    for name in ["checkpoints", "sqlite-x", "accounts-12345678-g7"] {
        refused(&ReadModel::new(name).key("k", ColumnType::Text), "reserved");
    }
    refused(
        &ReadModel::new(&"a".repeat(37)).key("k", ColumnType::Text),
        "at most 36",
    );
    refused(&accounts().column("_position", ColumnType::Integer), "'_'");
    for name in ["", "A", "a-b", "a\"b", "9"] {
        refused(
            &accounts().column(name, ColumnType::Text),
            "must be lower-case",
        );
    }
    refused(
        &accounts().column("order", ColumnType::Text),
        "query parameter",
    );
    refused(&accounts().column(&"a".repeat(64), ColumnType::Text), "63");
    refused(&accounts().category("a.b"), "category");
}

#[test]
fn keys_sums_and_owners_must_make_sense() {
    refused(&ReadModel::new("a"), "no key");
    refused(
        &ReadModel::new("a").key("k", ColumnType::Personal),
        "personal",
    );
    refused(&accounts().column("status", ColumnType::Text), "twice");
    refused(&accounts().key("status", ColumnType::Text), "twice");
    refused(&ReadModel::new("a").key("k", ColumnType::List), "list");
    refused(
        &accounts().column("price", ColumnType::Decimal { scale: 10 }),
        "at most 9",
    );
    refused(
        &accounts().readable_by(Access::Owner {
            column: "status".into(),
        }),
        "Uuid",
    );
    refused(
        &accounts().readable_by(Access::Owner {
            column: "nobody".into(),
        }),
        "not declared",
    );
    let wide = (0..100).fold(accounts(), |m, i| {
        m.column(&format!("c{i}"), ColumnType::Text)
    });
    refused(&wide, "more than 100");
}

#[test]
fn shared_rows_say_how_every_column_merges() {
    use ColumnType as T;
    let shared = || ReadModel::new("a").key("k", T::Text).summed();
    refused(&shared(), "nothing to merge");
    refused(&accounts().summed(), "shared");
    refused(
        &accounts().merged("n", T::Integer, Merge::Sum),
        "no rows are shared",
    );
    for (column_type, merge) in [
        (T::Text, Merge::Sum),
        (T::Timestamp, Merge::Sum),
        (T::Personal, Merge::Min),
        (T::List, Merge::Max),
    ] {
        refused(&shared().merged("c", column_type, merge), "which has no");
    }
    let price = T::Decimal { scale: 2 };
    let every = shared()
        .column("n", T::Integer)
        .merged("price", price, Merge::Sum)
        .merged("first", T::Timestamp, Merge::Min)
        .merged("last", T::Text, Merge::Max);
    every.validate().unwrap();
    let hash = |model: ReadModel| model.definition_hash();
    let column = |merge| hash(shared().merged("n", T::Integer, merge));
    assert_eq!(column(Merge::Sum), hash(shared().column("n", T::Integer)));
    assert_ne!(column(Merge::Sum), column(Merge::Min));
    assert_ne!(column(Merge::Max), column(Merge::Min));
}

#[test]
fn indexes_are_on_declared_columns_that_have_an_order() {
    let indexed = |columns: &[&str]| accounts().index(columns);
    indexed(&["status"])
        .index(&["account_id", "status"])
        .validate()
        .unwrap();
    refused(&indexed(&[]), "1 to 4");
    refused(&indexed(&["a", "b", "c", "d", "e"]), "1 to 4");
    refused(&indexed(&["nothing"]), "not declared");
    refused(&indexed(&["email"]), "no order");
    refused(&indexed(&["status", "status"]), "twice");
    refused(&indexed(&["status"]).index(&["status"]), "twice");
    let many = (0..17).fold(accounts(), |model, _| model.index(&["status"]));
    refused(&many, "more than 16");
}

#[test]
fn a_scope_of_a_column_must_fit_into_a_token() {
    let scoped = |scope| accounts().column_with_scope("notes", ColumnType::Text, scope);
    scoped("read:notes").validate().unwrap();
    for scope in ["", "read notes", "ü", "a\"b"] {
        refused(&scoped(scope), "token");
    }
    let mut key = accounts();
    key.key[0].scope = Some("read:ids".into());
    refused(&key, "sees its key");
}

#[test]
fn rows_go_by_a_time_that_every_part_of_them_has() {
    let keep = chrono::TimeDelta::days(30);
    let visits = || accounts().column("at", ColumnType::Timestamp);
    visits().retention("at", keep).validate().unwrap();
    refused(&visits().retention("then", keep), "not declared");
    refused(&visits().retention("status", keep), "a Timestamp or a Date");
    refused(&visits().retention("at", -keep), "more than nothing");
    refused(&visits().retention("at", keep * 20_000), "at most");
    let per_day = ReadModel::new("per-day")
        .key("day", ColumnType::Date)
        .merged("last", ColumnType::Timestamp, Merge::Max)
        .summed();
    per_day.clone().retention("day", keep).validate().unwrap();
    refused(&per_day.clone().retention("last", keep), "part of the key");
    refused(&per_day.observed().retention("day", keep), "no event");
    let hash = |days| {
        let keep = chrono::TimeDelta::days(days);
        visits().retention("at", keep).definition_hash()
    };
    assert_ne!(hash(1), hash(2), "rows that were let go are built again");
    assert_ne!(hash(1), visits().definition_hash());
}

#[test]
fn the_hash_of_a_definition_never_changes() {
    assert_eq!(
        accounts().definition_hash(),
        "2f136b4281bf54c2d52e23a30d0fd3ddf7558720c76ed721278061aead36be83"
    );
    let summed = ReadModel::new("per-day")
        .key("day", ColumnType::Date)
        .column("count", ColumnType::Integer)
        .summed();
    assert_eq!(
        summed.definition_hash(),
        "bc29d91f531cec37f429c1ab7d533d2bd052c2dc0569d95a24f1a5207af12d32"
    );
}

#[test]
fn whatever_decides_the_rows_changes_the_hash_and_access_does_not() {
    let base = accounts().definition_hash();
    let others = [
        accounts().revision(2),
        accounts().column("x", ColumnType::Text),
        accounts().key("x", ColumnType::Text),
        accounts().category("session"),
        accounts().summed(),
        accounts().column("x", ColumnType::Decimal { scale: 2 }),
        accounts().column("x", ColumnType::Decimal { scale: 3 }),
        accounts().column("x", ColumnType::List),
        ReadModel {
            name: "b".into(),
            ..accounts()
        },
    ];
    let hashes: HashSet<_> = others.iter().map(ReadModel::definition_hash).collect();
    assert!(hashes.len() == others.len() && !hashes.contains(&base));
    let mut scoped = accounts().readable_by(Access::Scope).index(&["status"]);
    scoped.columns[0].scope = Some("read:status".into());
    assert_eq!(scoped.definition_hash(), base);
}
