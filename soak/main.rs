//! The soak (`make soak`): everything at once for as long as it is told, and every message accounted for.
//!
//! Two real Sheaves serve one folder: one lives as long as the run and is looked at when idle, for what it has not given
//! back; the other is drained and replaced again and again. Some hundred clients go through them to backends of this
//! process, each by a plan drawn from the seed: sizes, fragments, pings, stalls, slow readers, resets, half-closes,
//! credentials right and wrong. Meanwhile `chaos` edits the folder, restarts backends, revokes keys and drains. A session
//! ends as its plan or a disturbance that met it says, or that is a fault (`judge`). The exit status says whether all
//! that must be zero was.
//!
//! Without `--seconds` nothing is done, for `cargo test` comes here, too.

mod backend;
#[allow(dead_code, unreachable_pub)] // what the tests share; not all of it is needed here
#[path = "../tests/living/certificate.rs"]
mod certificate;
mod chaos;
mod client;
mod doors;
#[allow(dead_code, unreachable_pub)] // likewise
#[path = "../tests/living/folder.rs"]
mod folder;
#[allow(dead_code)] // likewise, of the benches
#[path = "../benches/peers/frame.rs"]
mod frame;
mod judge;
mod ledger;
mod load;
mod message;
mod objects;
mod plan;
mod proxy;
mod tally;
mod wire;
mod world;

use anyhow::Result;
use clap::Parser;
use ledger::Which;
use objects::Objects;
use plan::CONSUMERS;
use proxy::{Holdings, Sheave};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use world::{Ports, World};

/// How many backends there are.
const BACKENDS: usize = 6;

/// What memory may grow between two idle moments of one process, in MiB: the allocator keeps what the busiest moment
/// needed, in pieces, and one moment is busier than another. A leak of 1 KiB a session is above it within minutes.
const ALLOWANCE: u64 = 16;

/// Relays through faults, edits and drains, and accounts for every message.
#[derive(Parser)]
struct Options {
    /// How long.
    #[arg(long)]
    seconds: u64,
    /// What plans and disturbances are drawn from; default: another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// How many clients at a time.
    #[arg(long, default_value_t = 240)]
    clients: usize,
}

fn main() -> Result<ExitCode> {
    if !std::env::args().any(|argument| argument.starts_with("--seconds")) {
        println!("nothing soaked: run it by `make soak`");
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clean = runtime.block_on(soak(&options))?;
    runtime.shutdown_background();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn soak(options: &Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("soak: {} s, {} clients, seed {seed}", options.seconds, options.clients);
    // Below the range that the kernel takes for outgoing connections; another run of this machine begins elsewhere.
    let from = 21_000 + u16::try_from(std::process::id() % 500)? * 20;
    let mut free = (from..32_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let mut port = || free.next().ok_or_else(|| anyhow::anyhow!("no free port between {from} and 32000"));
    let backends = (0..BACKENDS).map(|_| port()).collect::<Result<Vec<u16>>>()?;
    let mut ports = || anyhow::Ok(Ports { ws: port()?, wss: port()?, admin: port()? });
    let ports = [ports()?, ports()?];
    let door = port()?;
    let keys = (0..CONSUMERS).map(|consumer| format!("key-{consumer}")).collect();
    let world = Arc::new(World::new(seed, Objects::new(backends.clone(), door, keys), ports));
    tokio::spawn(doors::decide(Arc::clone(&world), door));
    let mut orders = Vec::new();
    for (number, port) in backends.into_iter().enumerate() {
        let (order, received) = mpsc::channel(1);
        orders.push(order);
        tokio::spawn(backend::run(Arc::clone(&world), number, port, received));
    }

    let length = Duration::from_secs(options.seconds);
    let began = Instant::now();
    let steady = Sheave::start(&world, Which::Steady).await?;
    let books = [Mutex::new(steady.record_book()), Mutex::default()];
    let books = Arc::new(books);
    let (stop, stopped) = watch::channel(false);
    let clients = load::start(&world, &books, options.clients, &stopped);
    let every = (length / 5).clamp(Duration::from_secs(5), Duration::from_secs(20));
    let (rolling, (), (), mut samples) = tokio::try_join!(
        chaos::roll(&world, &books[1], every, stopped.clone()),
        chaos::edits(&world, stopped.clone()),
        chaos::restarts(&world, &orders, stopped.clone()),
        watch_over(&world, &steady, began, length, stop),
    )?;
    for which in [Which::Steady, Which::Rolling] {
        world.set_rest(which, true);
    }
    for client in clients {
        client.await?;
    }
    samples.push((began.elapsed(), census(&world, &steady).await?));
    census(&world, &rolling).await?;
    remember(&world, &samples);
    for sheave in [steady, rolling] {
        chaos::account(&world, sheave).await?;
    }
    let tally = world.tally();
    print!("{}", tally.table(began.elapsed()));
    let clean = tally.is_clean();
    if !clean {
        println!("NOT CLEAN; repeat it with: make soak SECONDS={} SEED={seed}", options.seconds);
    }
    Ok(clean)
}

/// Has the steady Sheave's load rest at each fifth of the run and looks at what it holds then; ends the run.
async fn watch_over(
    world: &World,
    steady: &Sheave,
    began: Instant,
    length: Duration,
    stop: watch::Sender<bool>,
) -> Result<Vec<(Duration, Holdings)>> {
    let mut samples = Vec::new();
    for fifth in 1..=5 {
        let due = began + length * fifth / 5;
        while Instant::now() < due {
            tokio::time::sleep_until(due.min(Instant::now() + Duration::from_secs(5))).await;
            println!("{:>5.0} s: {}", began.elapsed().as_secs_f64(), world.tally().line());
        }
        // In a short run there is time for the first and the last only; the last comes after the load has ended.
        if fifth < 5 && (fifth == 1 || length >= Duration::from_secs(120)) {
            world.set_rest(Which::Steady, true);
            while world.live(Which::Steady) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            samples.push((began.elapsed(), census(world, steady).await?));
            world.set_rest(Which::Steady, false);
        }
    }
    stop.send_replace(true);
    Ok(samples)
}

/// What an idle Sheave has not given back is leaked.
async fn census(world: &World, sheave: &Sheave) -> Result<Holdings> {
    let now = sheave.settled(Some(sheave.empty)).await?;
    let leaked = &mut world.tally().leaked;
    leaked.tasks += now.tasks.saturating_sub(sheave.empty.tasks);
    leaked.sessions += now.sessions;
    leaked.descriptors += now.descriptors.saturating_sub(sheave.empty.descriptors);
    leaked.threads += now.threads.saturating_sub(sheave.empty.threads);
    Ok(now)
}

/// Tells how the memory of the steady Sheave went from its first idle moment under load to its last, and judges it.
fn remember(world: &World, samples: &[(Duration, Holdings)]) {
    let mut tally = world.tally();
    for (at, now) in samples {
        let Holdings { tasks, sessions, descriptors, threads, memory } = now;
        let at = at.as_secs();
        tally.notes.push(format!(
            "idle after {at} s: {tasks} tasks, {sessions} sessions, {descriptors} descriptors, {threads} threads, \
             {memory} KiB resident"
        ));
    }
    let (Some((from, first)), Some((to, last))) = (samples.first(), samples.last()) else { return };
    let minutes = to.saturating_sub(*from).as_secs_f64() / 60.0;
    let growth = last.memory as f64 - first.memory as f64;
    let slope = growth / minutes.max(f64::MIN_POSITIVE);
    tally.notes.push(format!("memory slope: {slope:+.0} KiB/min ({growth:+.0} KiB in all, {ALLOWANCE} MiB allowed)"));
    let most = first.memory + (ALLOWANCE << 10);
    tally.leaked.memory += last.memory.saturating_sub(most).div_ceil(1024);
}
