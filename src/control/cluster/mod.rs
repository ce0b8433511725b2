//! The cluster as the source of objects: watches them, keeps what compile needs, and turns changes into tables and
//! statuses.
//!
//! ```text
//! watch (one for each kind and namespace) ─► objects ─► pace ─► compile ─► table
//!                                                                   └────► status ─► writer (who holds the lease)
//! ```
//!
//! One task owns the objects and does everything in order; the watches only send it notices. Losing the API server
//! changes nothing here: the last objects stay, and [`health`] says since when they may be stale.

mod contents;
mod decode;
pub mod health;
mod kinds;
mod lease;
mod objects;
mod outdated;
mod pace;
mod retry;
mod run;
mod status;
mod watch;
mod writer;

pub use run::{Cluster, Settings};

/// What Sheave calls itself where it writes: field manager of statuses, reporter of events.
pub const MANAGER: &str = crate::api::CONTROLLER;
