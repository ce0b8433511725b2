//! Access over real sockets: who is let in, who is not and with what answer, and who has to leave.

#[path = "../living/mod.rs"]
mod living;
#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod browser;
mod certificates;
mod external;
mod frames;
mod handshakes;
mod keys;
mod limits;
mod passwords;
mod raw;
mod recipes;
mod revocation;
mod rules;
mod secrecy;
mod slow;
mod storm;
mod tokens;
mod witness;
