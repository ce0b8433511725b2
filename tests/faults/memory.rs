//! Memory is bounded by a control group, as a container's is.

use crate::support::{BINARY, FIN, Wire, frame, masked};
use crate::world::{Launch, World};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

const MIB: usize = 1 << 20;
const BOUND: usize = 96 * MIB;
/// What a stalled session holds.
const HELD: usize = 4 * MIB;

/// A control group of the test's own, of either version.
struct Group {
    path: PathBuf,
    used: &'static str,
    /// Where the kills by the kernel are counted.
    kills: &'static str,
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path); // the proxy is gone; if not, it is in use
    }
}

impl Group {
    fn new() -> Self {
        let name = format!("sheave-faults-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let (parent, used, kills, bounds): (_, _, _, &[(&str, usize)]) = if root.join("cgroup.controllers").exists() {
            let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory"); // it may be there already
            let bounds = &[("memory.max", BOUND)];
            (root.to_owned(), "memory.current", "memory.events", bounds)
        } else {
            let bounds = &[("memory.limit_in_bytes", BOUND)];
            (root.join("memory"), "memory.usage_in_bytes", "memory.oom_control", bounds)
        };
        // What a test that was killed left goes as soon as nothing is in it.
        for old in std::fs::read_dir(&parent).into_iter().flatten().filter_map(Result::ok) {
            if old.file_name().to_string_lossy().starts_with("sheave-faults-") {
                let _ = std::fs::remove_dir(old.path());
            }
        }
        let path = parent.join(name);
        let made = std::fs::create_dir(&path);
        made.unwrap_or_else(|error| panic!("a control group for memory is needed, {}: {error}", path.display()));
        let group = Self { path, used, kills };
        for (file, bound) in bounds {
            let written = std::fs::write(group.path.join(file), bound.to_string());
            written.unwrap_or_else(|error| panic!("{file} of a control group cannot be set: {error}"));
        }
        let _ = std::fs::write(group.path.join("memory.swap.max"), "0"); // where there is none, nothing is swapped
        group
    }

    /// What makes a program go into it.
    fn launch(&self) -> Launch {
        let into = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.path.display());
        let by = vec!["sh".to_owned(), "-c".to_owned(), into, "sh".to_owned()];
        Launch { by, flags: vec!["--max-memory-percent", "75"] }
    }

    fn used(&self) -> usize {
        let text = std::fs::read_to_string(self.path.join(self.used)).expect("it counts");
        text.trim().parse().expect("a number")
    }

    fn kills(&self) -> String {
        let text = std::fs::read_to_string(self.path.join(self.kills)).expect("it counts");
        text.lines().find(|line| line.starts_with("oom_kill ")).unwrap_or("oom_kill 0").to_owned()
    }
}

/// Sends until nobody takes it any more.
fn pour(side: &Wire) -> JoinHandle<()> {
    let mut side = side.again();
    let message = frame(FIN | BINARY, &vec![7; 60_000]);
    std::thread::spawn(move || while side.try_send(&message).is_ok() {})
}

#[test]
#[ignore = "needs network namespaces: make faults"]
fn near_the_bound_of_memory_handshakes_are_shed_before_the_kernel_kills() {
    let group = Group::new();
    let spec = format!("messages: {{bufferLimitBytes: {HELD}, slowConsumer: {{timeout: 1m}}}}");
    let (world, service) = World::serving(&spec, &group.launch());
    let (mut client, mut upstream) = world.open_on(&service);
    let mut stalled = Vec::new();
    let full = || world.metric("sheave_overload", &[("cause", "memory")]) > 0.0;
    while !full() {
        assert!(stalled.len() < 40, "{} stalled sessions, and {} bytes in use", stalled.len(), group.used());
        let (client, upstream) = world.open_on(&service);
        stalled.push((pour(&upstream), client, upstream));
        let mut passed = 0.0;
        world.until("the session stalls", || {
            std::thread::sleep(Duration::from_millis(100)); // for which nothing more may pass
            let before = std::mem::replace(&mut passed, world.metric("sheave_bytes_total", &[("direction", "out")]));
            full() || (passed > 0.0 && (passed - before).abs() < f64::EPSILON)
        });
    }
    println!("{} stalled sessions, {} MiB of {}", stalled.len(), group.used() / MIB, BOUND / MIB);
    for _ in 0..50 {
        world.sheds();
    }
    assert!(world.metric("sheave_overload_refused_total", &[("cause", "memory")]) >= 50.0);
    assert!(world.log().contains("overloaded: new handshakes get 503, live sessions go on"));
    client.send(masked(FIN | BINARY, b"up"));
    assert_eq!(upstream.frame().payload, b"up", "live sessions go on");
    upstream.send(frame(FIN | BINARY, b"down"));
    assert_eq!(client.frame().payload, b"down", "live sessions go on");
    assert_eq!(group.kills(), "oom_kill 0");

    for (pouring, client, upstream) in stalled {
        client.reset();
        upstream.reset();
        pouring.join().expect("it ends");
    }
    world.live(1);
    world.until("memory is given back", || !full());
    println!("afterwards {} MiB", group.used() / MIB);
    let (_client, _upstream) = world.open_on(&service);
    world.live(2);
}
