//! What the network, the kernel and the clock can do to a Sheave, done to a real one: `make faults`.
//!
//! Each test has three network namespaces of its own, client - proxy - backend, joined by two links, and the program
//! `sheave serve` in the one in the middle. It makes one fault, looks at what clients, backends, metrics and records are
//! told, takes the fault away, and wants new handshakes to work by themselves. What a test needs and the machine lacks
//! fails the test by name.

#[path = "../living/mod.rs"]
mod living;
#[path = "../support/mod.rs"]
mod support;

mod space;
mod world;

mod buffers;
mod clock;
mod descriptors;
mod loss;
mod memory;
mod ports;
mod vanish;
