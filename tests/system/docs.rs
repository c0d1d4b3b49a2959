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
