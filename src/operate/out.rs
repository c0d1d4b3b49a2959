//! A verb's data on stdout: a table for people, or one JSON object a line. Talk does not belong here: it goes to stderr.

use std::io::{BufWriter, IsTerminal, Stdout, Write};

use anyhow::Result;
use serde_json::Value;

use crate::config::Output;

/// The widest a column of a table is made for one long value.
const WIDEST: usize = 80;

/// Where a verb's data goes. A closed pipe is an error of kind `BrokenPipe`, which ends the verb with exit code 0.
pub struct Out {
    output: Output,
    stdout: BufWriter<Stdout>,
    each: bool,
}

impl Out {
    /// Prints in this way.
    pub fn new(output: Output) -> Self {
        let stdout = std::io::stdout();
        Self {
            output,
            each: stdout.is_terminal(),
            stdout: BufWriter::new(stdout),
        }
    }

    /// Shows each record at once, whoever reads: for what goes on for ever.
    #[must_use]
    pub fn live(mut self) -> Self {
        self.each = true;
        self
    }

    /// Is it JSON that is wanted?
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// One record: the JSON object, or the text made for people.
    pub fn record(&mut self, object: &Value, text: impl FnOnce() -> String) -> Result<()> {
        match self.output {
            Output::Json => writeln!(self.stdout, "{object}")?,
            Output::Table => writeln!(self.stdout, "{}", text().trim_end())?,
        }
        if self.each {
            self.stdout.flush()?;
        }
        Ok(())
    }

    /// Many records of one shape: objects, or rows under `heads` with as wide columns as they need. The cells of a row are
    /// the values of its object under `keys`, in their order.
    pub fn table(&mut self, heads: &[(&str, &str)], objects: &[Value]) -> Result<()> {
        if self.is_json() {
            return objects
                .iter()
                .try_for_each(|object| self.record(object, String::new));
        }
        let rows: Vec<Vec<String>> = objects
            .iter()
            .map(|object| heads.iter().map(|(key, _)| cell(&object[*key])).collect())
            .collect();
        let widths: Vec<usize> = heads
            .iter()
            .enumerate()
            .map(|(column, (_, head))| {
                let cells = rows.iter().map(|row| row[column].chars().count());
                cells
                    .chain([head.len()])
                    .max()
                    .unwrap_or_default()
                    .min(WIDEST)
            })
            .collect();
        let heads: Vec<String> = heads.iter().map(|(_, head)| head.to_uppercase()).collect();
        for row in std::iter::once(&heads).chain(&rows) {
            let line: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            writeln!(self.stdout, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }

    /// An empty line between two tables; nothing in JSON.
    pub fn gap(&mut self) -> Result<()> {
        if !self.is_json() {
            writeln!(self.stdout)?;
        }
        Ok(())
    }

    /// Everything is printed. Call it at the end: what is left when it is dropped may be lost without a word.
    pub fn finish(mut self) -> Result<()> {
        Ok(self.stdout.flush()?)
    }
}

/// A value in a table: texts without quotes, nothing as a dash.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
