//! The program: reads its settings, then does what they say. Everything else is in the library.

use sheave::app::{self, Options};
use sheave::command;
use sheave::control::rebuild::Source;
use sheave::control::single;
use sheave::proxy::ListenerLimits;
use sheave::proxy::workers::Listen;
use sheave::routing::Scheme;
use sheave::settings::{LogFormat, Run, Settings, SettingsError};
use sheave::telemetry::log;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<ExitCode> {
    let settings = match Settings::parse(std::env::args_os()) {
        Ok(settings) => settings,
        Err(SettingsError::Words(words)) => words.exit(),
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(2));
        }
    };
    let out = &mut std::io::stdout().lock();
    match settings {
        Settings::Check(folder) => command::check::run(&folder, out),
        Settings::Crd => command::crd::run(out).map(|()| ExitCode::SUCCESS),
        Settings::Explain(asked) => command::explain::run(&asked, out),
        Settings::Proxy { run, to } => {
            serve(Source::Fixed("--to".to_owned(), single::objects(&to.host, to.port, to.tls)), &run)
        }
        Settings::Serve { run, folder } => serve(Source::Folder(folder), &run),
    }
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends at once.
fn serve(source: Source, run: &Run) -> anyhow::Result<ExitCode> {
    log::start(&run.log.filter, run.log.format == LogFormat::Json)?;
    let mut listen = vec![Listen { address: run.listen, scheme: Scheme::Ws }];
    listen.extend(run.listen_tls.map(|address| Listen { address, scheme: Scheme::Wss }));
    let running = app::start(Options {
        source,
        listen,
        admin: run.admin,
        workers: run.workers,
        min_drain: run.min_drain,
        drain_timeout: run.drain_timeout,
        record_open: run.log.open_records,
        limits: ListenerLimits::default(),
    })?;
    tracing::info!(listen = ?running.addresses(), admin = %running.admin(), workers = run.workers, "serving");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let hurry = running.hurry();
        let stop = tokio::task::spawn_blocking(move || running.stop());
        let second = async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::warn!("second signal: ending at once");
            hurry();
            std::future::pending::<()>().await;
        };
        tokio::select! { stopped = stop => stopped?, () = second => {} }
        Ok(ExitCode::SUCCESS)
    })
}
