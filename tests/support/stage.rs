//! A proxy with sessions on it in which one side breaks a rule, and what each side must then be told.

use super::frame::{CLOSE, FIN, close, close_body, frame, masked};
use super::harness::Harness;
use super::service::Service;
use super::wire::Wire;

/// A frame of either side: its first byte and its payload.
pub type Half<'f> = (u8, &'f [u8]);

/// A broken rule: the name of the row, frames before it that pass, and the bytes that break it.
pub struct Fault {
    pub row: String,
    pub good: Vec<u8>,
    pub bad: Vec<u8>,
}

pub fn fault(row: impl Into<String>, good: Vec<u8>, bad: Vec<u8>) -> Fault {
    Fault { row: row.into(), good, bad }
}

/// A session's service and proxy, whose policy is `spec` and whose extensions are `extensions` on both sides.
pub struct Stage {
    pub service: Service,
    pub harness: Harness,
    extensions: &'static str,
}

impl Stage {
    pub fn new(spec: &str, extensions: &'static str) -> Self {
        let service = Service::start();
        let harness = Harness::start(service.address, spec);
        Self { service, harness, extensions }
    }

    pub fn open(&self) -> (Wire, Wire) {
        self.harness.open_with(&self.service, self.extensions, self.extensions)
    }

    /// Both sides may send `frames` of (first byte, payload), and the other gets the same bytes.
    pub fn passes(&self, row: &str, frames: &[Half<'_>]) {
        let (mut client, mut upstream) = self.open();
        let up: Vec<u8> = frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect();
        let down: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
        client.send(&up);
        assert!(upstream.take(up.len()) == up, "{row}: changed on the way to the service");
        upstream.send(&down);
        assert!(client.take(down.len()) == down, "{row}: changed on the way to the client");
    }
}

/// A client has sent `fault`: it is told `code`, the service gets what was good and then a Close that blames nobody.
pub fn client_is_told(fault: &Fault, code: u16, mut client: Wire, mut upstream: Wire) {
    let row = &fault.row;
    assert_eq!(upstream.take(fault.good.len()), fault.good, "{row}: what came before passes");
    let told = upstream.frame();
    assert!(told.masked, "{row}: a frame to the service is masked: {told:?}");
    assert_eq!(told.close().map(|(code, _)| code), Some(1001), "{row}: the service did nothing wrong: {told:?}");
    upstream.send(close(1000, ""));
    upstream.finish();
    let told = client.frame();
    assert!(!told.masked, "{row}: {told:?}");
    let (got, reason) = told.close().unwrap_or_else(|| panic!("{row}: no Close: {told:?}"));
    assert_eq!(got, code, "{row}: the client is told its fault ({reason})");
    assert!(!reason.is_empty(), "{row}: and why");
    assert_eq!(client.rest(), b"", "{row}: nothing behind the Close to the client");
    client.finish();
    assert_eq!(upstream.rest(), b"", "{row}: nothing behind the Close to the service");
}

/// A service has sent `fault`: it is told `code`, the client gets what was good and then 1014.
pub fn service_is_told(fault: &Fault, code: u16, mut client: Wire, mut upstream: Wire) {
    let row = &fault.row;
    assert_eq!(client.take(fault.good.len()), fault.good, "{row}: what came before passes");
    let told = client.frame();
    assert!(!told.masked, "{row}: {told:?}");
    assert_eq!(told.close().map(|(code, _)| code), Some(1014), "{row}: the client did nothing wrong: {told:?}");
    let told = upstream.frame();
    assert!(told.masked, "{row}: a frame to the service is masked: {told:?}");
    assert_eq!(told.close().map(|(code, _)| code), Some(code), "{row}: the service is told its fault: {told:?}");
    client.send(masked(FIN | CLOSE, &close_body(1014, "")));
    client.finish();
    assert_eq!(client.rest(), b"", "{row}: nothing behind the Close to the client");
    upstream.finish();
    assert_eq!(upstream.rest(), b"", "{row}: nothing behind the Close to the service");
}
