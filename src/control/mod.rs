//! The control wing: where objects come from, and how a change of them becomes a new table.

pub mod document;
pub mod folder;
mod location;
mod problem;
mod publish;
pub mod rebuild;
mod schema;
mod secret;
pub mod single;

pub use location::Position;
