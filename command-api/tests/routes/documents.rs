//! What the pages say is what the code does: the policy's page is made from the table, and each attack has its test.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use command_api::policy::{self, Allowed};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
}

fn policy_page() -> String {
    let mut page = String::from(
        "# Who may do what\n\n\
         Made from `command-api/src/policy.rs`, which the commands are checked against: a command that is not in its table is \
         refused.\n\
         A test compares this page with the table, and prints what it should say.\n\n\
         ## Commands\n\n\
         All are `POST /v1…`. \"The account itself\" is somebody who logged in to it, or an API key of it with the scope \
         `self:write`.\n\
         Where a fresh log-in is asked for, an API key does not do, and the log-in is at most ten minutes ago.\n\n\
         | command | who may | fresh log-in |\n| --- | --- | --- |\n",
    );
    for rule in policy::RULES {
        let who = match rule.allowed {
            Allowed::Anyone => "everybody, without a token".to_owned(),
            Allowed::Owner => "the account itself".to_owned(),
            Allowed::OwnerOr(scope) => format!("the account itself, or the scope `{scope}`"),
            Allowed::Holder(scope) => format!("the scope `{scope}`"),
        };
        let fresh = if rule.fresh { "yes" } else { "" };
        writeln!(page, "| `{}` | {who} | {fresh} |", rule.path).unwrap();
    }
    page.push_str(
        "\nAn aggregate of one's own decides by its `allows`; before that, an API key needs `self:write` or \
         `{collection}:write`.\n\n\
         ## Roles\n\n\
         A role counts in sessions of a verified account that took a second factor. An application adds roles of its own.\n\n\
         | role | scopes |\n| --- | --- |\n",
    );
    for role in policy::roles() {
        writeln!(page, "| `{}` | `{}` |", role.name, role.scopes.join("`, `")).unwrap();
    }
    page
}

#[test]
fn docs_policy_says_what_the_table_says() {
    let path = root().join("docs/policy.md");
    let (page, made) = (fs::read_to_string(path).unwrap_or_default(), policy_page());
    assert!(
        page == made,
        "docs/policy.md is not what it should be:\n----8<----\n{made}----8<----"
    );
}

#[test]
fn each_attack_of_docs_security_has_its_test() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let table = page
        .split("## Attacks")
        .nth(1)
        .expect("the page has its table");
    let (mut found, mut rows) = (0, 0);
    for row in table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .skip(1)
    {
        rows += 1;
        let tests: Vec<_> = row
            .split('`')
            .filter(|piece| piece.contains(".rs::"))
            .collect();
        assert!(!tests.is_empty(), "no test guards this row: {row}");
        for test in tests {
            let (file, name) = test.split_once("::").expect("file::name");
            let source = fs::read_to_string(root().join(file))
                .unwrap_or_else(|_| panic!("{file} is not there: {row}"));
            let there = source.contains(&format!("fn {name}("));
            assert!(there, "{file} has no test {name}: {row}");
            found += 1;
        }
    }
    assert!(rows > 20 && found >= rows, "{rows} rows, {found} tests");
}
