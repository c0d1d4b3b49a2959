//! BatchAppend: many appends in one call. They are handed to the store in the order in which they arrive and answered as
//! they end; one that is refused leaves the others alone. It refuses to hold more than a bounded number.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, unfold};
use futures::{FutureExt, Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::access::authorization;
use crate::appending::{Outcome, Proposal, Refusal, carry_out};
use crate::messages::append::{ExpectedState, Revision};
use crate::messages::batch::{
    BadRequestDetail, BatchAnswer, BatchRequest, BatchResult, EmptyDetail, Failure, TooLargeDetail,
    WrongVersionDetail, detail,
};
use crate::messages::{Id, StreamName};
use crate::node::Node;

/// How many appends of one call may be under way; then no more are read until some have ended.
const MOST_UNDER_WAY: usize = 512;
/// How many bytes they may have together, about.
const MOST_BYTES: usize = 32 << 20;
/// How many appends may be sent in parts at the same time.
const MOST_UNFINISHED: usize = 64;

/// One call.
struct Session {
    node: Arc<Node>,
    authorization: Option<String>,
    requests: Streaming<BatchRequest>,
    /// Their first parts came, the last did not.
    unfinished: HashMap<Uuid, Proposal>,
    under_way: FuturesUnordered<BoxFuture<'static, (BatchAnswer, usize)>>,
    bytes: usize,
    open: bool,
}

/// Answers one BatchAppend.
pub(crate) fn batch_append(
    node: Arc<Node>,
    request: Request<Streaming<BatchRequest>>,
) -> Response<impl Stream<Item = Result<BatchAnswer, Status>> + Send + 'static> {
    let session = Session {
        authorization: authorization(request.metadata()),
        node,
        requests: request.into_inner(),
        unfinished: HashMap::new(),
        under_way: FuturesUnordered::new(),
        bytes: 0,
        open: true,
    };
    Response::new(unfold(Some(session), |session| async move {
        let mut session = session?;
        match session.next().await {
            Some(Ok(answer)) => Some((Ok(answer), Some(session))),
            // After an error the call is over.
            Some(Err(status)) => Some((Err(status), None)),
            None => None,
        }
    }))
}

impl Session {
    async fn next(&mut self) -> Option<Result<BatchAnswer, Status>> {
        loop {
            let room =
                self.open && self.under_way.len() < MOST_UNDER_WAY && self.bytes < MOST_BYTES;
            tokio::select! {
                biased;
                Some((answer, bytes)) = self.under_way.next() => {
                    self.bytes -= bytes;
                    return Some(Ok(answer));
                }
                request = self.requests.next(), if room => match request {
                    Some(Ok(request)) => match self.take(request) {
                        Ok(None) => {}
                        Ok(Some(answer)) => return Some(Ok(answer)),
                        Err(status) => return Some(Err(status)),
                    },
                    Some(Err(status)) => return Some(Err(status)),
                    None => self.open = false,
                },
                () = self.node.shutdown.cancelled(), if self.open => self.open = false,
                else => return None,
            }
        }
    }

    /// Takes one part; hands the append over with its last. `Some`: it was answered at once.
    fn take(&mut self, request: BatchRequest) -> Result<Option<BatchAnswer>, Status> {
        let correlation = request.correlation.as_ref().and_then(Id::uuid);
        let correlation = correlation
            .ok_or_else(|| Status::invalid_argument("a part has no valid correlation id"))?;
        let mut proposal = match (self.unfinished.remove(&correlation), request.target) {
            (Some(proposal), None) => proposal,
            (None, Some(target)) => Proposal::new(target.stream, target.expected),
            (Some(_), Some(_)) => {
                return Err(Status::invalid_argument("only the first part has options"));
            }
            (None, None) => return Err(Status::invalid_argument("the first part has no options")),
        };
        for event in request.events {
            if let Err(refusal) = proposal.push(event) {
                return Ok(Some(answer(
                    correlation,
                    proposal.stream,
                    proposal.expected,
                    Err(refusal),
                )));
            }
        }
        if !request.last {
            if self.unfinished.len() >= MOST_UNFINISHED {
                return Err(Status::resource_exhausted(
                    "too many appends are unfinished",
                ));
            }
            self.unfinished.insert(correlation, proposal);
            return Ok(None);
        }
        let bytes = proposal.bytes();
        let carried = carry(
            Arc::clone(&self.node),
            self.authorization.clone(),
            correlation,
            proposal,
        );
        let mut carried = carried.map(move |answer| (answer, bytes)).boxed();
        // Once now, so that appends reach the store in the order in which they came.
        if let Some((answer, _)) = (&mut carried).now_or_never() {
            return Ok(Some(answer));
        }
        self.bytes += bytes;
        self.under_way.push(carried);
        Ok(None)
    }
}

/// Sees one append through.
async fn carry(
    node: Arc<Node>,
    authorization: Option<String>,
    correlation: Uuid,
    proposal: Proposal,
) -> BatchAnswer {
    let (stream, expected) = (proposal.stream.clone(), proposal.expected);
    let outcome = match node.gate.admit(authorization.as_deref()).await {
        Ok(access) => carry_out(&node, &access, proposal).await,
        Err(denied) => Err(Refusal::Fault(denied.into())),
    };
    answer(correlation, stream, expected, outcome)
}

fn answer(
    correlation: Uuid,
    stream: Vec<u8>,
    expected: Option<ExpectedState>,
    outcome: Result<Outcome, Refusal>,
) -> BatchAnswer {
    let result = match outcome {
        Ok(Outcome::Success(success)) => BatchResult::Success(success),
        Ok(Outcome::WrongVersion(current, expected)) => {
            let current = current.map_or(Revision::NoStream(()), Revision::Current);
            let wrong = WrongVersionDetail {
                current: Some(current),
                expected: Some(expected.into()),
            };
            BatchResult::Error(Failure {
                code: Code::AlreadyExists as i32,
                message: "WrongExpectedVersion".into(),
                detail: Some(detail("WrongExpectedVersion", &wrong)),
            })
        }
        Err(refusal) => BatchResult::Error(failure(refusal)),
    };
    BatchAnswer {
        correlation: Some(Id::text(correlation)),
        result: Some(result),
        stream: Some(StreamName { name: stream }),
        expected: expected.map(Into::into),
    }
}

fn failure(refusal: Refusal) -> Failure {
    let detail = match &refusal {
        Refusal::Invalid(why) => detail(
            "BadRequest",
            &BadRequestDetail {
                message: why.clone(),
            },
        ),
        Refusal::TooLarge => detail(
            "MaximumAppendSizeExceeded",
            &TooLargeDetail {
                most_bytes: event_store::MAX_BYTES as u32,
            },
        ),
        Refusal::Denied(_) => detail("AccessDenied", &EmptyDetail {}),
        Refusal::Fault(status)
            if matches!(
                status.code(),
                Code::Unauthenticated | Code::PermissionDenied
            ) =>
        {
            detail("AccessDenied", &EmptyDetail {})
        }
        Refusal::Fault(_) => detail("Unknown", &EmptyDetail {}),
    };
    let status = Status::from(refusal);
    Failure {
        code: status.code() as i32,
        message: status.message().to_owned(),
        detail: Some(detail),
    }
}
