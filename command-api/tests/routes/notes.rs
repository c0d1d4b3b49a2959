//! A domain of one's own: notebooks that anybody may begin and write in, as far as the domain has a say.

use command_api::{Aggregate, Decider, Form, rules};
use events::DomainEvent;
use serde::{Deserialize, Serialize};
use web::Caller;

#[derive(Debug, Clone, Default)]
pub struct Notebook {
    lines: usize,
}

#[derive(Debug)]
pub struct Write(String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    LineWritten { line: String },
}

impl DomainEvent for Event {}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the notebook is full")]
pub struct Full;

impl Decider for Notebook {
    const CATEGORY: &'static str = "notebook";
    type Command = Write;
    type Event = Event;
    type Refusal = Full;

    fn decide(&self, command: &Write) -> Result<Vec<Event>, Full> {
        if self.lines == 100 {
            return Err(Full);
        }
        let line = command.0.clone();
        Ok(vec![Event::LineWritten { line }])
    }

    fn evolve(mut self, _event: &Event) -> Self {
        self.lines += 1;
        self
    }
}

impl Aggregate for Notebook {
    const COLLECTION: &'static str = "notebooks";
    const BEGINS: Option<&'static str> = Some("begin");
    const COMMANDS: &'static [&'static str] = &["write"];

    fn parse(_name: &str, form: &mut Form) -> Option<Write> {
        Some(Write(form.text("line", rules::NAME)))
    }

    fn allows(_caller: &Caller, _id: &str, _command: &Write) -> bool {
        true
    }

    fn code(_refusal: &Full) -> &'static str {
        "notebook_full"
    }
}
