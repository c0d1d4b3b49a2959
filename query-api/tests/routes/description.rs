//! The description of the API against the routes' table and the read models' definitions.

use std::collections::BTreeSet;

use query_api::{Allowed, rules};
use web::openapi::{Description, Method};

use crate::fixture::{Fixture, models};

#[tokio::test]
async fn every_query_is_described_and_nothing_else() {
    let fixture = Fixture::new().await;
    let mut served = BTreeSet::new();
    for (path, allowed) in rules() {
        let path = path.replace("/{collection}/{id}", "/{collection}/{key}");
        match allowed {
            Allowed::AsDefined => served.extend(
                models()
                    .iter()
                    .map(|model| format!("/v1{}", path.replace("{collection}", &model.name))),
            ),
            Allowed::Owner | Allowed::OwnerOr(_) | Allowed::Holder(_) => {
                served.insert(format!("/v1{path}"));
            }
        }
    }
    let described: BTreeSet<String> = Description::new("Test", "1")
        .with(query_api::describe(&fixture.state))
        .routes_described()
        .into_iter()
        .map(|(method, path)| {
            assert_eq!(method, Method::Get);
            path
        })
        .collect();
    assert_eq!(described, served);
}
