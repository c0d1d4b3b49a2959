//! What an application is made of: the built-in domain, its own aggregates, its own read models.

use std::process::ExitCode;

use broker::asyncapi::Category;
use clap::Parser;
use command_api::policy::Role;
use command_api::{Aggregate, Registration, hosted};
use read_models::ReadModel;

use crate::config::{CommandLine, Settings};
use crate::operate::exit::Exit;
use crate::operate::state::States;
use crate::verbs::Verb;
use crate::{operate, serve, telemetry};

/// An application on Showcaller: accounts, and whatever is added.
pub struct App {
    pub(crate) aggregates: Vec<Registration>,
    pub(crate) models: Vec<ReadModel>,
    pub(crate) roles: Vec<Role>,
    /// The categories whose streams a decider watches over, and what their events say of themselves.
    pub(crate) categories: Vec<Category>,
    /// What operators see of a stream's state, by category.
    pub(crate) states: States,
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
            categories: vec![
                Category::of::<events::account::Event>(events::account::CATEGORY),
                Category::of::<events::api_key::Event>(events::api_key::CATEGORY),
                Category::of::<events::session::Event>(events::session::CATEGORY),
                Category::of::<events::projection::Event>(events::projection::CATEGORY),
                // What operators did is written by their verbs alone.
                Category::of::<events::operator::Event>(events::operator::CATEGORY),
            ],
            states: command_api::built_in_states(),
        }
    }

    /// Adds an aggregate: its commands get routes.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        self.aggregates.push(hosted::<A>());
        self.categories.push(Category::of::<A::Event>(A::CATEGORY));
        self.states.insert(A::CATEGORY, command_api::folding::<A>);
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

    /// What goes over the broker, as an AsyncAPI document.
    pub(crate) fn messages(&self, settings: &Settings) -> serde_json::Value {
        let version = env!("CARGO_PKG_VERSION");
        broker::asyncapi::document(&settings.app_name, version, &self.categories)
    }

    async fn act(self, verb: Verb, settings: Settings) -> anyhow::Result<Exit> {
        for model in &self.models {
            model.validate()?;
        }
        match verb {
            Verb::Serve => serve::serve(self, settings).await.map(|()| Exit::Done),
            Verb::Streams(verb) => {
                operate::streams::act(&settings, &self.states, &self.models, &verb).await
            }
            Verb::Events(verb) => operate::events::act(&settings, &verb).await,
            Verb::Verify { rows, backups } => {
                operate::verify::verify(&self.models, &settings, rows, &backups).await
            }
            Verb::Rebuild(args) => operate::rebuild::rebuild(&self.models, &settings, &args).await,
            Verb::Rebuilds => operate::rebuild::list(&settings).await,
            Verb::Rollback { name } => {
                operate::rebuild::roll_back(&self.models, &settings, &name).await
            }
            Verb::Parked(verb) => operate::parked::act(&self.models, &settings, &verb).await,
            Verb::Status => Box::pin(operate::status::show(&settings, &self.models)).await,
            Verb::Backup(args) => {
                operate::backup::back_up(&settings, &args.to, args.keys_to.as_deref()).await
            }
            Verb::Restore(args) => {
                operate::restore::restore(&settings, &args.from, args.dry_run).await
            }
            Verb::Export(args) => {
                operate::transfer::export(&settings, &args.select, &args.to).await
            }
            Verb::Import(args) => {
                operate::transfer::import(&settings, &args.from, args.partitions).await
            }
            Verb::Replay(args) => operate::replay::replay(&settings, &args).await,
            Verb::Retention => operate::retention::show(&settings, &self.models).await,
            Verb::Keys(verb) => operate::keys::act(&settings, &verb).await,
            Verb::Operator(verb) => operate::operator::act(&settings, &verb).await,
            Verb::Asyncapi => operate::asyncapi::print(&self, &settings),
            Verb::Health => operate::health::ask(&settings).await,
            Verb::Completions { shell } => operate::completions::print(shell),
        }
    }
}
