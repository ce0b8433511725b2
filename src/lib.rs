//! Sheave: a WebSocket ingress for Kubernetes that never cuts the line.
pub mod api;
pub mod compile;
pub mod routing;
