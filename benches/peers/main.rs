//! Sheave beside nginx, haproxy, Envoy and Traefik, in one interleaved run (`make bench`).
//!
//! Measures what a proxy costs, not how fast a machine is: CPU time of all the
//! proxy's processes for each message, megabyte and handshake, and memory for
//! each idle connection. `row` says what, `trial` how, `rivals` with which
//! settings. The rounds go A B C A B C, so that a machine that slows down slows
//! all of them. How to read the figures is told in `benches/README.md`.

mod backend;
mod blocks;
mod cpu;
mod frame;
mod load;
mod process;
mod report;
mod rivals;
mod row;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use process::Role;
use report::{Added, Line, Report};
use rivals::{CONTESTANTS, Contestant};
use row::{ROWS, Row, Shape};
use trial::{Asked, Outcome, Pace, Place};

/// Memory hardly varies from round to round, and these rounds, like those of edits, take longest.
const IDLE_ROUNDS: usize = 3;

/// Cores that others may keep busy before a window counts as disturbed.
const DISTURBED: f64 = 0.1;

/// Compares what Sheave, nginx, haproxy, Envoy and Traefik cost.
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
    /// Worker threads, or processes.
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
    let backend_port = u16::try_from(backend.answer().await.context("the echo backend")?)?;
    let mut run = Run {
        pace: pace(comparison),
        place: Place { backend: backend_port, folder: folder.path() },
        present: Vec::new(),
        notes: Vec::new(),
        troubles: Vec::new(),
        disturbed: 0,
    };
    let versions = run.call_roll().await;
    let mut lines = Vec::new();
    for row in rows {
        lines.extend(run.measure(row, rounds(comparison, row)).await);
    }
    let mut added = Vec::new();
    for block in blocks::all()?.iter().filter(|block| is_chosen(&comparison.only, block.name)) {
        added.extend(run.compare_block(block, rounds(comparison, block.row)).await);
    }
    if run.disturbed > 0 {
        run.troubles.push(format!(
            "{} window(s) shared the machine with other work: figures with a wide ± are worth \
             repeating when it is quiet",
            run.disturbed
        ));
    }
    let setting = setting(comparison, &run.pace, &versions);
    let report = Report { setting, lines, added, notes: run.notes, troubles: run.troubles };
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
    place: Place<'a>,
    present: Vec<Contestant>,
    notes: Vec<String>,
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
    async fn measure(&mut self, row: &Row, rounds: usize) -> Vec<Line> {
        let mut lines: Vec<Line> =
            row.parts.iter().map(|part| Line { part: *part, figures: Default::default() }).collect();
        let mut fit = self.present.clone();
        let mut notes = Vec::new();
        for _ in 0..rounds {
            for (at, contestant) in CONTESTANTS.into_iter().enumerate() {
                if !fit.contains(&contestant) {
                    continue;
                }
                let name = contestant.name();
                match trial::run(row, contestant, &self.pace, self.place, None).await {
                    Ok(outcome) => {
                        self.tell(row, name, &outcome);
                        notes.extend(outcome.note.map(|note| (contestant, format!("{}, {name}: {note}", row.name))));
                        lines.iter_mut().zip(outcome.figures).for_each(|(line, figure)| line.figures[at].push(figure));
                    }
                    Err(error) => {
                        self.troubles.push(format!("{name} failed {}: {error:#}", row.name));
                        fit.retain(|one| *one != contestant);
                    }
                }
            }
        }
        // The last of each says enough.
        for contestant in CONTESTANTS {
            self.notes.extend(notes.iter().rfind(|(of, _)| *of == contestant).map(|(_, note)| note.clone()));
        }
        lines
    }

    /// Measures Sheave with and without a block of access, in turns.
    async fn compare_block(&mut self, block: &blocks::Block, rounds: usize) -> Option<Added> {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (figures, fields) in figures.iter_mut().zip(["", &block.fields]) {
                let asked = Asked { block: fields, header: &block.header };
                match trial::run(block.row, Contestant::Sheave, &self.pace, self.place, Some(asked)).await {
                    Ok(outcome) => {
                        self.tell(block.row, block.name, &outcome);
                        figures.extend(outcome.figures.first());
                    }
                    Err(error) => {
                        self.troubles.push(format!("Sheave failed {}: {error:#}", block.name));
                        return None;
                    }
                }
            }
        }
        let [part, ..] = block.row.parts else { return None };
        Some(Added { title: format!("{}: {}", part.title, block.title), unit: part.unit, figures })
    }

    fn tell(&mut self, row: &Row, name: &str, outcome: &Outcome) {
        let disturbed = outcome.cores_of_others > DISTURBED;
        let mark = if disturbed { " (disturbed)" } else { "" };
        for (figure, part) in outcome.figures.iter().zip(row.parts) {
            eprintln!("{} {name} {figure:.2} {}{mark}", row.name, part.unit);
        }
        self.disturbed += usize::from(disturbed);
    }
}

fn is_chosen(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

/// The rows that `--only` names, or all.
fn chosen_rows(only: &[String]) -> Result<Vec<&'static Row>> {
    let chosen: Vec<&Row> = ROWS.iter().filter(|row| is_chosen(only, row.name)).collect();
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).chain(blocks::NAMES).collect();
    let any = !chosen.is_empty() || blocks::NAMES.iter().any(|name| is_chosen(only, name));
    ensure!(any, "--only names no row; the rows are {}", names.join(", "));
    Ok(chosen)
}

fn pace(comparison: &Comparison) -> Pace {
    let (warm_up, window, settle, edits) = if comparison.quick { (150, 500, 200, 2) } else { (300, 1_600, 500, 5) };
    Pace {
        warm_up: Duration::from_millis(warm_up),
        window: Duration::from_millis(window),
        idle: if comparison.quick { &[500, 1_500] } else { &[1_000, 3_000, 5_000, 7_000, 9_000] },
        settle: Duration::from_millis(settle),
        edits,
        workers: comparison.workers,
    }
}

fn rounds(comparison: &Comparison, row: &Row) -> usize {
    match comparison.rounds {
        Some(rounds) => usize::from(rounds),
        None if comparison.quick => 1,
        None if matches!(row.shape, Shape::Idle | Shape::Swap { .. }) => IDLE_ROUNDS,
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
        pace.idle[pace.idle.len() - 1],
    )
}
