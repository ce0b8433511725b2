//! The end-to-end suite of Sheave: what its scenarios in `tests/` are made of.
//!
//! [`backend`] is the service behind Sheave and does as each connection's URL says; [`client`] opens sockets and
//! keeps account of every message and every end; [`cluster`] holds namespaces, objects, waits and dumps. Nothing
//! here uses Sheave's own code: both sides of every connection are judged by another hand.

pub mod backend;
pub mod client;
pub mod cluster;
