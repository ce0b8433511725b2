//! What clients and services may get wrong, and what attackers try: tables of bad input over raw sockets, in clear and
//! over TLS, on both sides of a whole proxy.
//!
//! A row is a name, bytes and what must follow. All rows of a table run beside each other against the same proxy, next
//! to sessions that must not notice; a table names every row that failed, not the first only. The service keeps each
//! connection until its row takes it, so that what should have been refused and was not is found, whatever it became.

#[path = "../living/mod.rs"]
mod living;
#[path = "../support/mod.rs"]
mod support;

mod backend;
mod client_frames;
mod client_heads;
mod client_passes;
mod floods;
mod halves;
mod slow;
mod smuggling;
mod stand;
mod upstream_frames;
mod upstream_heads;
mod upstream_refusals;
mod violations;
