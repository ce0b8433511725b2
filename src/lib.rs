//! Sheave: a WebSocket ingress for Kubernetes that never cuts the line.
//!
//! ```text
//!  objects ──────► Snapshot ──► compile ──► RoutingTable ──► listener ─► handshake ─► upstream ─► relay
//!  (folder)          │          (pure)          │               one function: proxy::connection::serve
//!  control ──────────┘             └► verdicts  └► also: certificates, "may this session stay?"
//! ```
//!
//! Two wings on one ground: [`control`] and [`compile`] write the table, [`proxy`] reads it, and neither knows the
//! other. [`app`] wires them. Start reading at [`routing`] (the glossary), then [`compile`], then
//! [`proxy::connection`]. The allowed arrows between modules are in `tests/layers.rs`.

pub mod admin;
pub mod api;
pub mod app;
pub mod command;
pub mod compile;
pub mod control;
pub mod drain;
pub mod feedback;
pub mod proxy;
pub mod routing;
pub mod settings;
pub mod telemetry;
