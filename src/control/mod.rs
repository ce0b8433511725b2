//! The control wing: where objects come from, and how a change of them becomes a new table.

pub mod cluster;
pub mod document;
pub mod folder;
pub mod key_sets;
mod location;
mod problem;
pub mod publish;
pub mod rebuild;
mod schema;
mod secret;
pub mod single;

pub use location::Position;
