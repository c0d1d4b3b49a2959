//! `showcaller rebuild …` and `showcaller rollback NAME`: read models are built anew while they are read, or the build before
//! comes back.

use std::io::IsTerminal;

use anyhow::Result;
use clap::Args;
use command_api::operation::Command;
use events::Version;
use read_models::{Build, Phase, ReadModel, Rebuild};
use serde_json::{Value, json};

use super::confirm::Consent;
use super::desk::{Asked, Desk, built, named};
use super::exit::{Exit, refused};
use super::out::Out;
use crate::config::Settings;

/// How wide a progress bar is.
const BAR: u64 = 30;

/// What to rebuild, and how.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// The read models.
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// Every read model.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Makes the new build live only if its rows are those of the live one; says which differ.
    #[arg(long)]
    compare: bool,
    /// Ends the build that was asked for and is not live yet.
    #[arg(long, conflicts_with_all = ["compare", "drop_old"])]
    cancel: bool,
    /// Drops what is kept for `rollback`; asks before.
    #[arg(long, conflicts_with = "compare")]
    drop_old: bool,
    /// Does not wait for the end.
    #[arg(long, conflicts_with_all = ["cancel", "drop_old"])]
    detach: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Builds read models anew, beside what is read.
pub async fn rebuild(
    models: &[ReadModel],
    settings: &Settings,
    args: &RebuildArgs,
) -> Result<Exit> {
    let models: Vec<&ReadModel> = if args.all {
        built(models).collect()
    } else {
        named(models, &args.names)?
    };
    let desk = Desk::open(settings, "rebuild").await?;
    let exit = if args.drop_old {
        drop_old(&desk, &models, args.consent).await
    } else if args.cancel {
        let asked = ask_all(&desk, &models, &Command::CancelRebuild).await?;
        desk.wait(&asked, async || Ok(true)).await?;
        eprintln!("no build is on its way any more");
        Ok(Exit::Done)
    } else {
        let compare = args.compare;
        let asked = ask_all(&desk, &models, &Command::Rebuild { compare }).await?;
        if args.detach {
            eprintln!("asked for; `showcaller rebuilds` shows how far it is");
            Ok(Exit::Done)
        } else {
            watch(&desk, settings, &asked).await
        }
    };
    desk.close().await;
    exit
}

/// Shows the builds there were, and how far those are that are on their way.
pub async fn list(settings: &Settings) -> Result<Exit> {
    let store = crate::open::read_models(settings, true).await?;
    let rebuilds: Vec<Value> = store.rebuilds().await?.iter().map(object).collect();
    let mut out = Out::new(settings.output);
    out.table(
        &[
            ("read_model", "read model"),
            ("generation", "generation"),
            ("phase", "phase"),
            ("events", "events"),
            ("position", "position"),
            ("head", "head"),
            ("events_per_second", "events/s"),
            ("seconds_left", "seconds left"),
            ("began_at", "began"),
            ("detail", "detail"),
        ],
        &rebuilds,
    )?;
    out.finish()?;
    Ok(Exit::Done)
}

/// Makes the build live again that was live before.
pub async fn roll_back(models: &[ReadModel], settings: &Settings, name: &str) -> Result<Exit> {
    let models = named(models, &[name.to_owned()])?;
    let desk = Desk::open(settings, "rollback").await?;
    let mut out = Out::new(settings.output);
    let mut exit = Exit::Done;
    for model in models {
        let before = desk.builds(model).await?;
        let earlier = |build: &&Build| !build.live && (build.kept || build.serves);
        let Some(back) = before.iter().rfind(earlier) else {
            eprintln!("there is no build of {name} to go back to");
            exit = Exit::Wrong;
            continue;
        };
        if back.generation.definition_hash != model.definition_hash() {
            desk.close().await;
            return Err(refused(format!(
                "generation {} of {name} is of another definition of it: start that version's projector, then do this with \
                 that version",
                back.generation.number
            )));
        }
        let asked = [desk.ask(model, &Command::RollBack).await?];
        desk.wait(&asked, async || Ok(true)).await?;
        let live = desk
            .builds(model)
            .await?
            .into_iter()
            .find(|build| build.live);
        let number = live.map(|build| build.generation.number);
        let told = json!({"read_model": name, "live_generation": number});
        out.record(&told, || {
            format!("{name}: generation {} is live", number.unwrap_or_default())
        })?;
    }
    out.finish()?;
    desk.close().await;
    Ok(exit)
}

async fn ask_all<'m>(
    desk: &Desk,
    models: &[&'m ReadModel],
    command: &Command,
) -> Result<Vec<Asked<'m>>> {
    let mut asked = Vec::with_capacity(models.len());
    for model in models {
        asked.push(desk.ask(model, command).await?);
    }
    Ok(asked)
}

/// Waits until all are over, and says how far they are.
async fn watch(desk: &Desk, settings: &Settings, asked: &[Asked<'_>]) -> Result<Exit> {
    let bar = std::io::stderr().is_terminal();
    let mut told: Vec<Value> = Vec::new();
    desk.wait(asked, async || {
        let found = mine(&desk.store.rebuilds().await?, asked);
        let now: Vec<Value> = found.iter().map(object).collect();
        if now != told {
            if bar {
                eprint!("\r\x1b[K{}", line(&found));
            } else {
                now.iter()
                    .filter(|object| !told.contains(object))
                    .for_each(|object| eprintln!("{object}"));
            }
            told = now;
        }
        Ok(found.len() == asked.len() && found.iter().all(|one| one.progress.phase.is_over()))
    })
    .await?;
    if bar {
        eprintln!();
    }
    let found = mine(&desk.store.rebuilds().await?, asked);
    let mut out = Out::new(settings.output);
    for rebuild in &found {
        out.record(&object(rebuild), || ended(rebuild))?;
    }
    out.finish()?;
    let live = |rebuild: &Rebuild| rebuild.progress.phase == Phase::Live;
    Ok(if found.iter().all(live) {
        Exit::Done
    } else {
        Exit::Wrong
    })
}

/// Those that were asked for here.
fn mine(rebuilds: &[Rebuild], asked: &[Asked<'_>]) -> Vec<Rebuild> {
    let is_mine = |rebuild: &&Rebuild| {
        asked
            .iter()
            .any(|asked| asked.model.name == rebuild.model && asked.version == rebuild.asked)
    };
    rebuilds.iter().filter(is_mine).cloned().collect()
}

fn object(rebuild: &Rebuild) -> Value {
    let progress = &rebuild.progress;
    json!({
        "read_model": rebuild.model,
        "generation": rebuild.generation,
        "asked_for": rebuild.asked > Version::ZERO,
        "phase": progress.phase.name(),
        "compare": rebuild.compare,
        "events": progress.events,
        "position": progress.position,
        "head": progress.head,
        "events_per_second": progress.rate,
        "seconds_left": progress.left_s.filter(|_| !progress.phase.is_over()),
        "detail": progress.detail,
        "began_at": rebuild.began_at.to_rfc3339(),
    })
}

fn ended(rebuild: &Rebuild) -> String {
    let Rebuild {
        model,
        generation,
        progress,
        ..
    } = rebuild;
    let rest = match (&progress.phase, &progress.detail) {
        (Phase::Live, _) => format!(
            "is live ({} events, {} a second)",
            progress.events, progress.rate
        ),
        (Phase::Different, Some(detail)) => format!("is different, and not live: {detail}"),
        (phase, _) => phase.name().to_owned(),
    };
    format!("{model}: generation {generation} {rest}")
}

/// All that are on their way in one line.
fn line(rebuilds: &[Rebuild]) -> String {
    let sum = |of: fn(&Rebuild) -> u64| rebuilds.iter().map(of).sum::<u64>();
    let over = |rebuild: &Rebuild| rebuild.progress.phase.is_over();
    let (done, of) = (
        sum(|one| one.progress.position.get()),
        sum(|one| one.progress.head.get()).max(1),
    );
    let filled = (BAR * done / of).min(BAR) as usize;
    let left = rebuilds.iter().filter_map(|one| one.progress.left_s).max();
    let running = rebuilds.iter().find(|one| !over(one));
    format!(
        "[{:-<30}] {:>3} %  {} events/s  {}  {}",
        "#".repeat(filled),
        (100 * done / of).min(100),
        running.map_or(0, |one| one.progress.rate),
        left.map_or(String::new(), |left| format!("{left} s left")),
        running.map_or(String::new(), |one| format!(
            "{} {}",
            one.model,
            one.progress.phase.name()
        )),
    )
}

/// Everything but what is live goes.
async fn drop_old(desk: &Desk, models: &[&ReadModel], consent: Consent) -> Result<Exit> {
    let [model] = models else {
        return Err(refused("--drop-old takes one read model at a time"));
    };
    let builds = desk.builds(model).await?;
    let gone: Vec<String> = builds
        .iter()
        .filter(|build| !build.live && (build.kept || build.refused || build.serves))
        .map(|build| build.generation.table.clone())
        .collect();
    let plan = format!(
        "drops what is kept of {}: {}. After that there is nothing to roll back to.",
        model.name,
        if gone.is_empty() {
            "nothing".into()
        } else {
            gone.join(", ")
        }
    );
    if !consent.to(&plan, &model.name)? {
        return Ok(Exit::Done);
    }
    let asked = [desk.ask(model, &Command::DropKept).await?];
    desk.wait(&asked, async || Ok(true)).await?;
    eprintln!("dropped");
    Ok(Exit::Done)
}
