//! Sheave: a WebSocket ingress for Kubernetes that never cuts the line.
pub mod admin;
pub mod api;
pub mod compile;
pub mod control;
pub mod drain;
pub mod proxy;
pub mod routing;
pub mod settings;
pub mod telemetry;
