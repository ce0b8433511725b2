//! The control wing: where objects come from, and how a change of them becomes a new table.

pub mod document;
pub mod folder;
mod gather;
mod location;
mod problem;
mod schema;
mod secret;

pub use location::Position;
