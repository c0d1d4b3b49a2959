//! The projector's part in traces: a span for each sampled event of a batch, from its arrival until its rows are committed,
//! under the span that published it; and one for the batch, linked with them. It refuses to trace what nobody samples.

use broker::Delivery;
use events::Partition;
use instruments::trace::{Context, Kind, Span};

/// What of a batch is traced.
pub(crate) struct Projecting {
    spans: Vec<Span>,
}

impl Projecting {
    /// Begins the spans of a batch.
    pub(crate) fn begin(deliveries: &[Delivery], partition: Partition) -> Self {
        let spans = deliveries.iter().filter_map(|delivery| {
            let parent = Context::collected(delivery.traceparent.as_deref())?;
            let name = format!("project {}", delivery.kind());
            let span = Span::under(&parent, name, Kind::Consumer)
                .with("messaging.operation.type", "process")
                .with("showcaller.partition", u64::from(partition.0));
            Some(span)
        });
        let mut spans: Vec<Span> = spans.collect();
        if !spans.is_empty() {
            let links = spans.iter().filter_map(Span::context);
            let batch = Span::of_many("project batch", Kind::Consumer, links)
                .with("messaging.batch.message_count", deliveries.len() as u64)
                .with("showcaller.partition", u64::from(partition.0));
            spans.push(batch);
        }
        Self { spans }
    }

    /// The rows are committed, or it was given up.
    pub(crate) fn end(self, committed: bool) {
        for mut span in self.spans {
            if !committed {
                span.fail();
            }
        }
    }
}
