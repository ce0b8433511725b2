//! The program: reads its settings, then does what they say. Everything else is in the library.

use sheave::app::{self, Options, Source};
use sheave::command;
use sheave::control::rebuild;
use sheave::control::single;
use sheave::proxy::ListenerLimits;
use sheave::proxy::overload::Bounds;
use sheave::proxy::workers::Listen;
use sheave::routing::Scheme;
use sheave::settings::{LogFormat, Run, Settings, SettingsError};
use sheave::telemetry::log;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// tokio asks for memory at multiples of 128 bytes. The system's allocator leaves holes before and behind each piece, of
/// 600 bytes in an idle session; this one has them in its sizes. It is built without huge pages, which a process with
/// many small and quiet sessions would fill a part of only.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        Settings::ApplyClass(class) => command::apply_class::run(&class, out),
        Settings::Check(folder) => command::check::run(&folder, out),
        Settings::Controller { run, cluster } => {
            let source = sheave::control::cluster::Settings {
                config: None,
                watch_namespaces: cluster.watch_namespaces,
                allow_external_name: cluster.allow_external_name,
                own_addresses: cluster.pod_ips,
                pod_name: cluster.pod_name,
                pod_namespace: cluster.pod_namespace,
                lease: cluster.lease,
            };
            serve(Source::Cluster(Box::new(source)), &run)
        }
        Settings::Connect(connect) => command::connect::run(&connect, out),
        Settings::Crd => command::crd::run(out).map(|()| ExitCode::SUCCESS),
        Settings::Echo(listen) => command::echo::run(listen, out),
        Settings::Explain(asked) => command::explain::run(&asked, out),
        Settings::Proxy { run, to } => {
            let text = single::objects(&to.host, to.port, to.tls);
            serve(Source::Files(rebuild::Source::Fixed("--to".to_owned(), text)), &run)
        }
        Settings::Serve { run, folder } => serve(Source::Files(rebuild::Source::Folder(folder)), &run),
    }
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends at once.
fn serve(source: Source, run: &Run) -> anyhow::Result<ExitCode> {
    log::start(&run.log.filter, run.log.format == LogFormat::Json)?;
    let mut listen = vec![Listen { address: run.listen, scheme: Scheme::Ws }];
    listen.extend(run.listen_tls.map(|address| Listen { address, scheme: Scheme::Wss }));
    let bounds = Bounds {
        max_connections: run.capacity.max_connections,
        max_memory_percent: run.capacity.max_memory_percent,
        handshakes_per_second: run.capacity.handshakes_per_second,
        handshake_queue: run.capacity.handshake_queue,
        ..Bounds::default()
    };
    let options = Options {
        source,
        listen,
        admin: run.admin,
        workers: run.workers,
        min_drain: run.min_drain,
        drain_timeout: run.drain_timeout,
        record_open: run.log.open_records,
        limits: ListenerLimits::default(),
        bounds,
    };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let starting = tokio::task::spawn_blocking(move || app::start(options));
        let running = tokio::select! {
            started = starting => started??,
            // Nobody is served yet, so there is nothing to drain.
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        };
        tracing::info!(listen = ?running.addresses(), admin = %running.admin(), workers = run.workers, "serving");
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
    });
    // A start that still waits for the API server is not waited for.
    runtime.shutdown_background();
    stopped
}
