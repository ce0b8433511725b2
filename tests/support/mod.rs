//! A whole Sheave between a raw client and a raw service, so that a test decides every byte that is on the wire.
//!
//! Nothing here speaks WebSocket by itself: [`Wire`] is one end of a connection with deadlines, [`Service`] the
//! listener behind the route, [`Harness`] the proxy with a folder of its own. What is right is said in the tests.

// Each test file takes what it needs; the others' share is not dead.
#![allow(dead_code, unused_imports, unreachable_pub)]

mod frame;
mod harness;
mod head;
mod refusal;
mod service;
mod stage;
mod wire;

pub use frame::{
    BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, RSV1, RSV2, RSV3, TEXT, close, close_body, frame, masked,
};
pub use harness::{HOST, Harness, KEY, lines, objects, offer, request};
pub use head::{Answer, Head};
pub use refusal::{asked, refusal};
pub use service::{Service, accept_for, switching};
pub use stage::{Fault, Half, Stage, client_is_told, fault, service_is_told};
pub use wire::{DEADLINE, Wire};
