//! A backend with a domain of its own: classes whose seats can be booked. Accounts, log-in and everything else is
//! Showcaller's.

mod class;
mod classes;

fn main() -> std::process::ExitCode {
    showcaller::App::new()
        .aggregate::<class::Class>()
        .read_model(classes::read_model())
        .run()
}
