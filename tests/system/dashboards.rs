//! docs/dashboards.md, statement by statement: a role that reads the views, and neither ciphertext nor bookkeeping.

use std::time::Duration;

use test_support::{Postgres, eventually, psql, temp_dir};

use crate::client::{Client, ME};
use crate::world::launch;

/// How long rows and their first answers may take.
const WITHIN: Duration = Duration::from_mins(1);
const PAGE: &str = include_str!("../../docs/dashboards.md");

/// The SQL blocks of the page, in order.
fn blocks() -> Vec<&'static str> {
    let after_fence = PAGE.split("```sql\n").skip(1);
    after_fence
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_of_the_page_reads_every_view_and_nothing_else() {
    let database = Postgres::shared().await.fresh_database().await;
    let folder = temp_dir();
    let server = launch()
        .folder(folder.path())
        .env("SHOWCALLER_DATABASE", &database)
        .start()
        .await;
    let client = Client::new(&server.url());
    let ada = client.person("ada@example.org").await;
    client.read(ME, &ada, &ada.token).await;

    let [role, questions] = blocks()[..] else {
        panic!("the page has two blocks of SQL: the role, and questions");
    };
    let owner = psql(&database, "SELECT current_user").await;
    let role = role.replace("FOR ROLE showcaller", &format!("FOR ROLE {}", owner.trim()));
    psql(&database, &role).await;
    for question in questions.lines() {
        let asked = format!("SET ROLE dashboard; {question}");
        eventually(WITHIN, || async {
            let rows = psql(&database, &asked).await;
            (!rows.trim().is_empty()).then_some(())
        })
        .await;
    }

    let readable = "SELECT string_agg(DISTINCT table_schema, ',') FROM information_schema.tables \
                    WHERE table_schema NOT IN ('pg_catalog', 'information_schema') \
                    AND has_schema_privilege('dashboard', table_schema, 'USAGE') \
                    AND has_table_privilege('dashboard', quote_ident(table_schema) || '.' || quote_ident(table_name), 'SELECT')";
    assert_eq!(psql(&database, readable).await.trim(), "dashboards");
    let personal = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'dashboards' \
                    AND column_name IN ('email', 'display_name', 'phone', 'device', 'address')";
    assert_eq!(psql(&database, personal).await.trim(), "0");
}
