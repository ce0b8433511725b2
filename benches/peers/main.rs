//! Sheave beside nginx and haproxy, in one interleaved run (`make bench`).
//!
//! Measures what a proxy costs, not how fast a machine is: CPU time of all the
//! proxy's processes for each message, megabyte and handshake, and memory for
//! each idle connection. `row` says what, `trial` how, `rivals` with which
//! settings. The rounds go A B C A B C, so that a machine that slows down slows
//! all of them. How to read the figures is told in `benches/README.md`.

mod backend;
mod cpu;
mod frame;
mod load;
mod process;
mod report;
mod rivals;
mod row;
mod trial;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use process::Role;
use report::{Line, Report};
use rivals::{CONTESTANTS, Contestant};
use row::{ROWS, Row, Shape};
use trial::Pace;

/// Memory hardly varies from round to round, and these rounds take longest.
const IDLE_ROUNDS: usize = 3;

/// Cores that others may keep busy before a window counts as disturbed.
const DISTURBED: f64 = 0.1;

/// Compares what Sheave, nginx and haproxy cost.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<RoleName>,
    #[command(flatten)]
    comparison: Comparison,
}

/// The parts that this binary plays in processes of their own.
#[derive(Subcommand)]
enum RoleName {
    /// Echo messages (started by the comparison itself).
    EchoBackend,
    /// Make load (started by the comparison itself).
    Load(load::Load),
}

/// How the comparison is made.
#[derive(Args)]
struct Comparison {
    /// Rounds for each row; the table shows their median [default: 5; 1 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Only rows whose name contains this, such as `tls` or `idle-plain`; may be repeated.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Worker threads (Sheave, haproxy) or processes (nginx).
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// A smoke run of half a minute: shows that all works, its figures are rough.
    #[arg(long)]
    quick: bool,
    /// Write the table as Markdown to this file too.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Given by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match options.role {
            Some(RoleName::EchoBackend) => backend::run().await,
            Some(RoleName::Load(load)) => load::run(load).await,
            None if !options.comparison.bench => {
                // `cargo test --all-targets` comes here; it wants no five minutes of load.
                println!("nothing measured: run it by `cargo bench --bench peers`");
                Ok(())
            }
            None => compare_or_stop(&options.comparison).await,
        }
    })
}

/// Compares until done or told to stop; either way all children are ended.
async fn compare_or_stop(comparison: &Comparison) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        outcome = compare(comparison) => outcome,
        _ = terminate.recv() => anyhow::bail!("stopped"),
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
    }
}

/// Runs all trials, prints the table and writes it to the file that was named.
///
/// # Errors
/// Sheave is absent or failed a trial. A rival's trouble is only reported.
async fn compare(comparison: &Comparison) -> Result<()> {
    let rows = chosen_rows(&comparison.only)?;
    process::allow_descriptors()?;
    let folder = tempfile::tempdir()?;
    rivals::write_certificate(folder.path())?;
    let mut backend = Role::start(&["echo-backend".to_owned()])?;
    let mut run = Run {
        pace: pace(comparison),
        backend: u16::try_from(backend.answer().await.context("the echo backend")?)?,
        folder: folder.path(),
        present: Vec::new(),
        troubles: Vec::new(),
        disturbed: 0,
    };
    let versions = run.call_roll().await;
    let mut lines = Vec::new();
    for row in rows {
        lines.push(run.measure(row, rounds(comparison, row)).await);
    }
    if run.disturbed > 0 {
        run.troubles.push(format!(
            "{} window(s) shared the machine with other work: figures with a wide ± are worth \
             repeating when it is quiet",
            run.disturbed
        ));
    }
    let report = Report { setting: setting(comparison, &run.pace, &versions), lines, troubles: run.troubles };
    let markdown = report.markdown();
    println!("\n{markdown}");
    if let Some(path) = &comparison.report {
        std::fs::write(path, &markdown).with_context(|| format!("cannot write the report to {}", path.display()))?;
    }
    let ours = Contestant::Sheave.name();
    let complete = !report.troubles.iter().any(|one| one.starts_with(ours));
    ensure!(complete, "{ours} did not complete every trial; the list below the table says why");
    Ok(())
}

/// The state of one comparison.
struct Run<'a> {
    pace: Pace,
    backend: u16,
    folder: &'a Path,
    present: Vec<Contestant>,
    troubles: Vec<String>,
    disturbed: usize,
}

impl Run<'_> {
    /// Finds who is installed and gives their versions.
    async fn call_roll(&mut self) -> Vec<String> {
        let mut versions = Vec::new();
        for contestant in CONTESTANTS {
            if let Some(version) = contestant.version().await {
                versions.push(version);
                self.present.push(contestant);
            } else {
                self.troubles.push(format!(
                    "{} is not here: install the package, or for Sheave mend SHEAVE_BIN",
                    contestant.name()
                ));
            }
        }
        versions
    }

    /// Measures one row in turns. Who fails it once is out of it, since the
    /// reason would only repeat.
    async fn measure<'r>(&mut self, row: &'r Row, rounds: usize) -> Line<'r> {
        let mut line = Line { row, figures: Default::default() };
        let mut fit = self.present.clone();
        for _ in 0..rounds {
            for (contestant, figures) in CONTESTANTS.into_iter().zip(&mut line.figures) {
                if !fit.contains(&contestant) {
                    continue;
                }
                let name = contestant.name();
                match trial::run(row, contestant, &self.pace, self.backend, self.folder).await {
                    Ok(outcome) => {
                        let disturbed = outcome.cores_of_others > DISTURBED;
                        let mark = if disturbed { " (disturbed)" } else { "" };
                        eprintln!("{} {name} {:.2} {}{mark}", row.name, outcome.figure, row.unit);
                        self.disturbed += usize::from(disturbed);
                        figures.push(outcome.figure);
                    }
                    Err(error) => {
                        self.troubles.push(format!("{name} failed {}: {error:#}", row.name));
                        fit.retain(|one| *one != contestant);
                    }
                }
            }
        }
        line
    }
}

/// The rows that `--only` names, or all.
fn chosen_rows(only: &[String]) -> Result<Vec<&'static Row>> {
    let chosen: Vec<&Row> =
        ROWS.iter().filter(|row| only.is_empty() || only.iter().any(|part| row.name.contains(part.as_str()))).collect();
    let names = ROWS.map(|row| row.name).join(", ");
    ensure!(!chosen.is_empty(), "--only names no row; the rows are {names}");
    Ok(chosen)
}

fn pace(comparison: &Comparison) -> Pace {
    let (warm_up, window, idle, settle) =
        if comparison.quick { (150, 500, [500, 1_500], 200) } else { (300, 1_600, [1_000, 5_000], 500) };
    Pace {
        warm_up: Duration::from_millis(warm_up),
        window: Duration::from_millis(window),
        idle,
        settle: Duration::from_millis(settle),
        workers: comparison.workers,
    }
}

fn rounds(comparison: &Comparison, row: &Row) -> usize {
    match comparison.rounds {
        Some(rounds) => usize::from(rounds),
        None if comparison.quick => 1,
        None if matches!(row.shape, Shape::Idle) => IDLE_ROUNDS,
        None => 5,
    }
}

/// One paragraph that a reader needs to judge or repeat the figures.
fn setting(comparison: &Comparison, pace: &Pace, versions: &[String]) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let rounds = comparison.rounds.unwrap_or(if comparison.quick { 1 } else { 5 });
    format!(
        "{}; {} worker(s) each; {cores} cores shared with load and backend; Linux {}; median of \
         {rounds} interleaved round(s) of {:.1} s, ± half their width; idle memory is the slope \
         from {} to {} connections. A message counts once for each way it is relayed.",
        versions.join(", "),
        pace.workers,
        kernel.trim(),
        pace.window.as_secs_f64(),
        pace.idle[0],
        pace.idle[1],
    )
}
