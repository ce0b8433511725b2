//! No descriptor is left.

use crate::world::{Launch, World, close, echo};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::time::{Duration, Instant};

/// A process with so few open files, of which it keeps 64 in reserve: 48 sessions.
fn few() -> Launch {
    Launch { by: ["prlimit", "--nofile=160:4096"].map(str::to_owned).to_vec(), ..Launch::default() }
}

#[test]
#[ignore = "needs network namespaces: make faults"]
fn with_descriptors_in_use_handshakes_are_shed_and_live_sessions_go_on() {
    let world = World::echoing("", &few());
    let mut clients: Vec<_> = (0..48).map(|_| world.open()).collect();
    for _ in 0..20 {
        world.sheds();
    }
    assert_eq!(world.records("reject").len(), 20);
    world.metric_becomes("sheave_overload_refused_total", &[], 20.0);
    for client in &mut clients {
        echo(client, b"live sessions go on");
    }
    clients.into_iter().for_each(close);
    world.recovers(0);
}

/// Connections that never say anything take descriptors, too, and the last of them are the operators'.
#[test]
#[ignore = "needs network namespaces: make faults"]
fn silent_connections_leave_descriptors_for_operators_and_live_sessions() {
    let world = World::echoing("", &few());
    let mut client = world.open();
    // From 128 of 160 on there are few, of the last 16 none. Some that are counted here may be in use for a moment only,
    // so the last ones are added one by one, slower than the proxy looks at what it has.
    let mut silent: Vec<_> = (world.descriptors()..130).map(|_| world.connect()).collect();
    world.until("descriptors are scarce", || {
        std::thread::sleep(Duration::from_millis(300));
        let scarce = world.metric("sheave_overload", &[("cause", "descriptors")]) > 0.0;
        if !scarce {
            silent.push(world.connect());
        }
        scarce
    });
    world.sheds();
    world.metric_becomes("sheave_overload_refused_total", &[("cause", "descriptors")], 1.0);
    silent.extend((0..100).map(|_| world.connect()));
    world.until("the last ones are closed as they come", || {
        world.metric("sheave_overload_refused_total", &[("cause", "descriptors")]) >= 50.0
    });
    echo(&mut client, b"live sessions go on");
    silent.last_mut().expect("there are many").gone();
    drop(silent);
    world.recovers(1);
    echo(&mut client, b"still");
}

/// Bounds that are known at the start may be lowered later: then the kernel refuses.
#[test]
#[ignore = "needs network namespaces: make faults"]
fn when_the_kernel_gives_no_descriptor_accepting_waits_without_spinning() {
    let world = World::echoing("", &Launch::default());
    let mut client = world.open();
    let process = Pid::from_raw(world.pid().cast_signed());
    let limit = |most| Rlimit { current: Some(most), maximum: Some(4096) };
    prlimit(process, Resource::Nofile, limit(8)).expect("root may");
    let mut waiting: Vec<_> = (0..4).map(|_| world.offer("")).collect();
    let failing = || world.log().matches("cannot accept").count();
    world.until("accepting fails", || failing() > 0);

    let (used, began) = (world.processor(), Instant::now());
    while began.elapsed() < Duration::from_secs(2) {
        echo(&mut client, b"live sessions go on");
        std::thread::sleep(Duration::from_millis(50)); // as a session would that is not busy
    }
    let share = (world.processor() - used) / began.elapsed().as_secs_f64();
    println!("{share:.3} of a processor while nothing can be accepted");
    assert!(share < 0.25, "{share:.3} of a processor while nothing can be accepted");

    assert!(failing() <= 2, "each worker says so once: {}", world.log());

    prlimit(process, Resource::Nofile, limit(1024)).expect("root may");
    for client in &mut waiting {
        assert_eq!(client.answer().head.status(), 101, "what waited in the backlog is served");
        echo(client, b"late");
    }
    waiting.into_iter().for_each(close);
    world.recovers(1);
}
