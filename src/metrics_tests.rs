//! What is written about metrics elsewhere names those that there are.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use instruments::metrics::Kind;

use super::every;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_page_lists_every_metric_and_no_other() {
    let mut table =
        String::from("| name | kind | labels | what it says |\n| --- | --- | --- | --- |\n");
    for metric in every() {
        let about = metric.about();
        let labels: Vec<_> = about
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, kind) = (about.name, about.kind.name());
        let _ = writeln!(
            table,
            "| `{name}` | {kind} | {} | {} |",
            labels.join(", "),
            about.help
        );
    }
    let page = read("docs/metrics.md");
    let found: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(
        found == table.lines().collect::<Vec<_>>(),
        "docs/metrics.md must list:\n{table}"
    );
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let mut names = BTreeSet::new();
    for metric in every() {
        let about = metric.about();
        names.insert(about.name.to_owned());
        if about.kind == Kind::Histogram {
            names.extend(["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", about.name)));
        }
    }
    for path in [
        "deploy/prometheus-alerts.yml",
        "deploy/grafana-dashboard.json",
    ] {
        let text = read(path);
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let used: BTreeSet<_> = text
            .split(word)
            .filter(|word| word.starts_with("showcaller_") || word.starts_with("process_"))
            .collect();
        assert!(used.len() > 5, "{path} names metrics");
        for name in used {
            assert!(
                names.contains(name),
                "{path} names {name}, which is no metric"
            );
        }
    }
}

#[test]
fn the_dashboard_is_json_whose_panels_do_not_overlap() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let of = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        assert!(of("x") + of("w") <= 24, "{}", panel["title"]);
        for x in of("x")..of("x") + of("w") {
            for y in of("y")..of("y") + of("h") {
                assert!(taken.insert((x, y)), "{} overlaps another", panel["title"]);
            }
        }
    }
}
