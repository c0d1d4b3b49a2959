//! The relay's part in traces: a span for each sampled event of a batch, under the request that made it, and one for the
//! batch, linked with them. What the projector does with a message belongs under the span that sent it. It refuses to trace
//! what nobody samples.

use instruments::trace::{Context, Kind, Span};

use crate::port::Envelope;

/// What of a batch is traced.
pub(super) struct Publishing {
    events: Vec<Span>,
    batch: Option<Span>,
}

impl Publishing {
    /// Begins the spans of a batch, and has its sampled messages name them.
    pub(super) fn begin(batch: &mut [Envelope]) -> Self {
        let mut events = Vec::new();
        let size = batch.len() as u64;
        for envelope in batch {
            let Some(parent) = Context::collected(envelope.traceparent.as_deref()) else {
                continue;
            };
            let name = format!("publish {}", envelope.kind());
            let span = Span::under(&parent, name, Kind::Producer)
                .with("messaging.operation.type", "send")
                .with("messaging.message.id", envelope.message_id.as_str());
            envelope.traceparent = span.context().map(|context| context.to_string());
            events.push(span);
        }
        let batch = (!events.is_empty()).then(|| {
            let links = events.iter().filter_map(Span::context);
            Span::of_many("publish batch", Kind::Producer, links)
                .with("messaging.batch.message_count", size)
        });
        Self { events, batch }
    }

    /// The broker has confirmed the batch, or not.
    pub(super) fn end(self, confirmed: bool) {
        for mut span in self.events.into_iter().chain(self.batch) {
            if !confirmed {
                span.fail();
            }
        }
    }
}
