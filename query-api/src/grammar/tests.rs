//! What the grammar reads, and what it says of what it cannot.

use read_models::{ColumnType, Comparison, Direction, Is, Nulls, Pattern, ReadModel, Value};

use super::*;

fn model() -> ReadModel {
    ReadModel::new("things")
        .key("id", ColumnType::Integer)
        .column("name", ColumnType::Text)
        .column("open", ColumnType::Boolean)
        .column("at", ColumnType::Timestamp)
        .column("email", ColumnType::Personal)
}

fn read(query: &str) -> Result<Asked, Vec<(String, &'static str, String)>> {
    let fields: Vec<Field> = model().fields().collect();
    let query = query.replace('\\', "%5C").replace('"', "%22");
    let uri = format!("/v1/things?{query}").parse().unwrap();
    list(&uri, &fields)
        .map(|(asked, _)| asked)
        .map_err(|problem| {
            assert_eq!(problem.status(), 400);
            let errors = problem.errors().iter();
            errors
                .map(|e| (e.pointer.clone(), e.code, e.detail.clone()))
                .collect()
        })
}

fn filter(query: &str) -> Filter {
    match read(query) {
        Ok(asked) => asked.filter,
        Err(errors) => panic!("{query}: {errors:?}"),
    }
}

fn codes(query: &str) -> Vec<(String, &'static str)> {
    let errors = read(query)
        .map(|asked| panic!("{query}: {asked:?}"))
        .unwrap_err();
    errors
        .into_iter()
        .map(|(pointer, code, _)| (pointer, code))
        .collect()
}

fn compare(name: &str, comparison: Comparison, value: impl Into<Value>) -> Filter {
    Filter::Compare(model().field(name).unwrap(), comparison, value.into())
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn is(name: &str, is: Is) -> Filter {
    Filter::Is(model().field(name).unwrap(), is)
}

#[test]
fn conditions_of_columns_are_read_by_their_types() {
    let text = |value: &str| Filter::All(vec![compare("name", Comparison::Eq, value)]);
    assert_eq!(filter("name=eq.a,b%20(c)."), text("a,b (c)."));
    assert_eq!(filter("name=eq.\"a\""), text("\"a\""));
    assert_eq!(filter("name=eq."), text(""));
    assert_eq!(
        filter("id=gte.1&id=not.lt.-5&_position=neq.3"),
        Filter::All(vec![
            compare("id", Comparison::Gte, 1),
            not(compare("id", Comparison::Lt, -5)),
            compare("_position", Comparison::Neq, 3),
        ])
    );
    assert_eq!(
        filter("open=is.true&open=not.is.unknown&email=is.null&name=is.not_null"),
        Filter::All(vec![
            is("open", Is::True),
            not(is("open", Is::Null)),
            is("email", Is::Null),
            not(is("name", Is::Null)),
        ])
    );
    let name = model().field("name").unwrap();
    let pattern = Filter::Like(name.clone(), Pattern::parse("%a_", true).unwrap());
    assert_eq!(filter("name=ilike.*a_"), Filter::All(vec![pattern]));
    let listed = |values: &[&str]| {
        let values = values.iter().map(|&value| value.into()).collect();
        Filter::All(vec![Filter::In(name.clone(), values)])
    };
    assert_eq!(
        filter("name=in.(a,\"b,c\",\"d\\\"\")"),
        listed(&["a", "b,c", "d\""])
    );
    assert_eq!(filter("name=in.()"), listed(&[]));
}

#[test]
fn trees_of_conditions_are_read() {
    let (one, two) = (
        compare("id", Comparison::Eq, 1),
        compare("id", Comparison::Eq, 2),
    );
    let any = |of: &[&Filter]| Filter::Any(of.iter().map(|&f| f.clone()).collect());
    let all = |of: &[&Filter]| Filter::All(of.iter().map(|&f| f.clone()).collect());
    assert_eq!(filter("or=(id.eq.1,id.eq.2)"), all(&[&any(&[&one, &two])]));
    assert_eq!(filter("not.and=(id.eq.1)"), all(&[&not(all(&[&one]))]));
    let commas = compare("name", Comparison::Eq, "a,)\"");
    assert_eq!(
        filter(
            "and=(or(id.not.eq.1,id.in.(1,2)),not.or(id.eq.2),name.eq.\"a,)\\\"\",open.is.false)"
        ),
        all(&[&all(&[
            &any(&[
                &not(one.clone()),
                &Filter::In(model().field("id").unwrap(), vec![1.into(), 2.into()])
            ]),
            &not(any(&[&two])),
            &commas,
            &is("open", Is::False),
        ])])
    );
}

#[test]
fn columns_and_orders_are_read() {
    let asked = read("select=name,%20who:name,_updated_at&order=name.desc,at.nullsfirst,id.asc&limit=7&offset=1000000").unwrap();
    let names: Vec<_> = asked
        .select
        .iter()
        .map(|o| (o.name.as_str(), o.field.name()))
        .collect();
    assert_eq!(
        names,
        [
            ("name", "name"),
            ("who", "name"),
            ("_updated_at", "_updated_at")
        ]
    );
    let order: Vec<_> = asked
        .order
        .iter()
        .map(|o| (o.field.name(), o.direction, o.nulls))
        .collect();
    assert_eq!(
        order,
        [
            ("name", Direction::Descending, Nulls::First),
            ("at", Direction::Ascending, Nulls::First),
            ("id", Direction::Ascending, Nulls::Last)
        ]
    );
    assert_eq!((asked.limit, asked.offset), (Some(7), Some(1_000_000)));
    let whole = read("").unwrap();
    assert_eq!(whole.select.len(), 7);
    assert_eq!((whole.filter, whole.limit), (Filter::ALL, None));
    assert_eq!(read("select=*,other:id").unwrap().select.len(), 8);
}

#[test]
fn everything_wrong_is_said_at_once_with_what_is_allowed() {
    let found = codes(
        "limit=1001&limit=2&limit=3&offset=-1&status=eq.x&id=eq.x&name=foo.1&order=nope&select=id::text",
    );
    let expected = [
        ("limit", "out_of_range"),
        ("limit", "repeated"),
        ("offset", "out_of_range"),
        ("status", "unknown_parameter"),
        ("id", "invalid_value"),
        ("name", "unknown_operator"),
        ("select", "not_offered"),
        ("order", "unknown_column"),
    ];
    assert_eq!(
        found,
        expected.map(|(pointer, code)| (pointer.to_owned(), code))
    );
    let says = |query: &str, word: &str| {
        let errors = read(query).unwrap_err();
        assert!(
            errors.iter().any(|(_, _, detail)| detail.contains(word)),
            "{query}: {errors:?}"
        );
    };
    says(
        "status=eq.x",
        "and the columns id, name, open, at, email, _position, _updated_at",
    );
    says("order=nope", "There are: id, name");
    says("open=like.a", "eq, neq, gt, gte, lt, lte, in, is,");
    says("email=eq.a", "is.null and not.is.null alone");
    says("order=email", "personal");
    says("id=eq.null", "is.null");
    says("at=gt.yesterday", "RFC 3339");
    says("name=is.true", "null, not_null");
    says("or=(name.xx.1,nope.eq.1)", "There is no column \"nope\"");
    says("select=id,author(name)", "Embedded");
    says("select=id.count()", "aggregates");
}

#[test]
fn what_cannot_be_read_is_refused() {
    for query in [
        "or=",
        "or=(",
        "or=()",
        "or=(id.eq.1",
        "or=(id.eq.1))",
        "or=id.eq.1",
        "or=(id)",
        "or=(id.eq.1,)",
        "and=(name.eq.\"a)",
        "and=(or(id.eq.1)",
        "id=in.1",
        "id=in.(1",
        "id=in.(1)2",
        "id=in.(1,x)",
        "name=like.a%5C",
        "name=eq.%00",
        "name",
        "id=1",
        "id=eq",
        "id=not.eq",
        "id=is.x",
        "id=not.not.eq.1",
        "select=id,id",
        "select=a:id,a:name",
        "select=:id",
        "select=a%20b:id",
        "select=id,",
        "order=id.up",
        "order=id.asc.nullslast.x",
        "order=id.nullslast.asc",
        "order=,",
        "limit=",
        "limit=%2B5",
        "limit=1.0",
        "columns=id",
        "on_conflict=id",
        "ID=eq.1",
        "_partition=eq.1",
        "select=_partition",
    ] {
        assert!(read(query).is_err(), "{query}");
    }
}

#[test]
fn questions_have_bounds() {
    let terms = |n: usize| vec!["id.eq.1"; n].join(",");
    assert!(read(&format!("or=({})", terms(100))).is_ok());
    assert_eq!(
        codes(&format!("or=({})", terms(101))),
        [("or".to_owned(), "too_many")]
    );
    let nested = |n: usize| format!("or=({}id.eq.1{}", "or(".repeat(n - 1), ")".repeat(n));
    assert!(read(&nested(8)).is_ok() && read(&nested(9)).is_err());
    let listed = |n: usize| format!("id=in.({})", vec!["1"; n].join(","));
    assert!(read(&listed(1000)).is_ok() && read(&listed(1001)).is_err());
    let pattern = |n: usize| format!("name=like.{}", "a".repeat(n));
    assert!(read(&pattern(256)).is_ok() && read(&pattern(257)).is_err());
    assert!(read(&format!("order={}", ["id"; 9].join(","))).is_err());
    let fields: Vec<Field> = model().fields().collect();
    let long = format!("/v1/things?name=eq.{}", "a".repeat(17_000))
        .parse()
        .unwrap();
    assert_eq!(list(&long, &fields).unwrap_err().code(), "uri_too_long");
}

#[test]
fn what_no_column_can_hold_and_no_database_can_order_by_is_told_before_it_is_asked() {
    let model = ReadModel::new("things")
        .key("id", ColumnType::Integer)
        .column("tags", ColumnType::List);
    let fields: Vec<Field> = model.fields().collect();
    let asked = |query: &str| {
        let uri = format!("/v1/things?{query}").parse().unwrap();
        let problem = list(&uri, &fields).unwrap_err();
        assert_eq!(problem.status(), 400);
        problem.errors()[0].detail.clone()
    };
    let told = asked("order=tags");
    assert!(told.contains("tags holds lists"), "{told}");
    assert!(told.ends_with("There are: id, _position, _updated_at."));
    let texts = vec!["t"; 1_001].join(",");
    let told = asked(&format!("tags=cs.%7B{texts}%7D"));
    assert!(told.contains("of the form {text"), "{told}");
}
