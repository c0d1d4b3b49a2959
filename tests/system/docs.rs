//! What docs/your-own-domain.md shows is what the example's files say: each of its pieces of Rust, line for line.

use std::fs;
use std::path::Path;

#[test]
fn the_walk_through_the_example_shows_its_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/your-own-domain.md")).expect("the page is there");
    let pieces: Vec<&str> = page.split("```rust\n").skip(1).collect();
    assert!(pieces.len() > 5, "the page has pieces of Rust");
    for piece in pieces {
        let (piece, _) = piece.split_once("```").expect("a piece ends");
        let (first, piece) = piece.split_once('\n').expect("a piece has lines");
        let file = first
            .strip_prefix("// ")
            .expect("the first line of a piece names its file");
        let text = fs::read_to_string(root.join("examples/booking").join(file))
            .expect("the file is there");
        assert!(text.contains(piece), "{file} does not say:\n{piece}");
    }
}

/// The startup text is run as it stands by another test; here the README is held to it.
#[test]
fn the_readme_shows_the_lines_of_the_startup_text() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("README.md")).expect("the page is there");
    let source = fs::read_to_string(root.join("src/welcome.rs")).expect("the source is there");
    let printed = source.replace("{{", "{").replace("}}", "}");
    let lines: Vec<&str> = page
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the page has lines to paste")
        .lines()
        .filter(|line| !line.starts_with("URL="))
        .collect();
    assert!(lines.len() > 5, "the page has lines to paste");
    for line in lines {
        assert!(
            printed.contains(line),
            "the startup text does not say:\n{line}"
        );
    }
}

#[test]
fn every_test_that_the_architecture_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the page is there");
    let mut sources = String::new();
    read_sources(root, &mut sources);
    let guards: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("**"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|name| name.matches('_').count() > 2)
        .collect();
    assert!(guards.len() > 30, "the page names tests");
    for name in guards {
        assert!(
            sources.contains(&format!("fn {name}(")),
            "no test is named {name}"
        );
    }
}

fn read_sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            read_sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("sources are text"));
        }
    }
}
