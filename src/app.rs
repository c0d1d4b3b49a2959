//! What an application is made of: the built-in domain, its own aggregates, its own read models.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Parser;
use command_api::policy::Role;
use command_api::{Aggregate, Registration, hosted};
use read_models::ReadModel;

use crate::config::{CommandLine, Settings};
use crate::operate::exit::Exit;
use crate::verbs::{Streams, Verb};
use crate::{operate, serve, telemetry};

/// An application on Showcaller: accounts, and whatever is added.
pub struct App {
    pub(crate) aggregates: Vec<Registration>,
    pub(crate) models: Vec<ReadModel>,
    pub(crate) roles: Vec<Role>,
    /// The categories whose streams a decider watches over.
    pub(crate) deciders: BTreeSet<&'static str>,
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

impl App {
    /// Accounts alone.
    pub fn new() -> Self {
        Self {
            aggregates: Vec::new(),
            models: projector::built_in(),
            roles: Vec::new(),
            deciders: BTreeSet::from([
                events::account::CATEGORY,
                events::api_key::CATEGORY,
                events::projection::CATEGORY,
                events::session::CATEGORY,
            ]),
        }
    }

    /// Adds an aggregate: its commands get routes.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        self.aggregates.push(hosted::<A>());
        self.deciders.insert(A::CATEGORY);
        self
    }

    /// Adds a read model: it is projected and served.
    #[must_use]
    pub fn read_model(mut self, model: ReadModel) -> Self {
        self.models.push(model);
        self
    }

    /// Adds a role: operators grant it to accounts, and sessions of these that took a second factor hold its scopes.
    #[must_use]
    pub fn role(mut self, name: &str, scopes: &[&str]) -> Self {
        self.roles.push(Role::new(name, scopes));
        self
    }

    /// Does what the command line says; serves, if it says nothing. Exit codes: 0 done, 1 failed or found something, 2
    /// the command line is wrong or the verb refuses, 3 a server cannot be reached.
    pub fn run(self) -> ExitCode {
        let line = CommandLine::parse();
        let settings = match line.settings() {
            Ok(settings) => settings,
            Err(error) => {
                eprintln!("showcaller: {error:#}");
                return Exit::Refused.into();
            }
        };
        let done = telemetry::start(&settings).and_then(|()| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(self.act(line.verb.unwrap_or(Verb::Serve), settings))
        });
        match done {
            Ok(exit) => exit.into(),
            Err(error) => {
                let exit = Exit::of(&error);
                // Whoever read our output has seen enough: that is no error.
                if exit != Exit::Done {
                    eprintln!("showcaller: {error:#}");
                }
                exit.into()
            }
        }
    }

    async fn act(self, verb: Verb, settings: Settings) -> anyhow::Result<Exit> {
        for model in &self.models {
            model.validate()?;
        }
        match verb {
            Verb::Serve => serve::serve(self, settings).await.map(|()| Exit::Done),
            Verb::Streams(Streams::Show { stream }) => {
                operate::streams::show(&settings, &stream).await
            }
            Verb::Verify { rows } => operate::verify::verify(&self.models, &settings, rows).await,
            Verb::Rebuild(args) => {
                operate::rebuild::rebuild(&self.models, &settings, &args).await
            }
            Verb::Rebuilds => operate::rebuild::list(&settings).await,
            Verb::Rollback { name } => {
                operate::rebuild::roll_back(&self.models, &settings, &name).await
            }
            Verb::Parked(verb) => operate::parked::act(&self.models, &settings, &verb).await,
            Verb::Keys(verb) => operate::keys::act(&settings, &verb).await,
            Verb::Operator(verb) => operate::operator::act(&settings, &verb).await,
            Verb::Health => operate::health::ask(&settings).await,
            Verb::Completions { shell } => operate::completions::print(shell),
        }
    }
}
