//! Prometheus' text format, version 0.0.4. It refuses a sample of a metric that nobody has described.

use std::fmt::Write;

use super::{Metric, Metrics, Observed};

/// What is known only when it is asked for.
#[derive(Debug, Default)]
pub struct Observations(Vec<(&'static str, String, f64)>);

impl Observations {
    /// One sample, with the labels' values in the order of the labels.
    pub fn note(&mut self, observed: &'static Observed, values: &[&str], sample: f64) {
        let about = observed.about();
        self.0
            .push((about.name, labelled(about.labels, values), sample));
    }

    /// Those of another, besides.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// The page that Prometheus reads: these metrics, with what was observed for them.
pub fn render(metrics: &[Metrics], observations: &Observations) -> String {
    let mut text = String::new();
    for metric in metrics.iter().copied().flatten() {
        let about = metric.about();
        let (name, kind) = (about.name, about.kind.name());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", about.help);
        let mut page = Page {
            name,
            text: &mut text,
        };
        metric.write(&mut page);
        for (_, labels, sample) in observations.0.iter().filter(|(of, ..)| *of == name) {
            page.sample("", labels, *sample);
        }
    }
    text
}

/// Where a metric writes its samples.
#[derive(Debug)]
pub struct Page<'t> {
    name: &'static str,
    text: &'t mut String,
}

impl Page<'_> {
    pub(super) fn sample(&mut self, suffix: &str, labels: &str, sample: f64) {
        let name = self.name;
        let _ = match labels {
            "" => writeln!(self.text, "{name}{suffix} {sample}"),
            labels => writeln!(self.text, "{name}{suffix}{{{labels}}} {sample}"),
        };
    }
}

/// Labels as they are shown: `method="GET",status="200"`.
pub(super) fn labelled(names: &[&str], values: &[&str]) -> String {
    debug_assert_eq!(names.len(), values.len(), "a value for each label");
    let mut text = String::with_capacity(32 * names.len());
    for (name, value) in names.iter().zip(values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}
