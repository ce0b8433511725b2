//! A proxy with sessions on it in which one side breaks a rule, and what each side must then be told.

use super::frame::{CLOSE, FIN, close, close_body, frame, masked};
use super::harness::Harness;
use super::service::Service;
use super::wire::Wire;

/// A frame of either side: its first byte and its payload.
pub type Half<'f> = (u8, &'f [u8]);

/// A broken rule: the name of the row, frames before it that pass, and the bytes that break it.
pub struct Fault {
    pub row: &'static str,
    pub good: Vec<u8>,
    pub bad: Vec<u8>,
}

pub fn fault(row: &'static str, good: Vec<u8>, bad: Vec<u8>) -> Fault {
    Fault { row, good, bad }
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

    /// The client breaks a rule: it gets `code`, the service what was good and then a Close that blames nobody.
    pub fn client_breaks(&self, fault: &Fault, code: u16) {
        let row = fault.row;
        let (mut client, mut upstream) = self.open();
        client.send([&fault.good[..], &fault.bad].concat());
        let told = client.frame();
        assert!(!told.masked, "{row}: {told:?}");
        let (got, reason) = told.close().unwrap_or_else(|| panic!("{row}: no Close: {told:?}"));
        assert_eq!(got, code, "{row}: the client is told its fault ({reason})");
        assert!(!reason.is_empty(), "{row}: and why");
        assert_eq!(upstream.take(fault.good.len()), fault.good, "{row}: what came before passes");
        let told = upstream.frame();
        assert!(told.masked, "{row}: a frame to the service is masked: {told:?}");
        assert_eq!(told.close().map(|(code, _)| code), Some(1001), "{row}: the service did nothing wrong: {told:?}");
        upstream.send(close(1000, ""));
        upstream.finish();
        assert_eq!(client.rest(), b"", "{row}: nothing behind the Close to the client");
        client.finish();
        assert_eq!(upstream.rest(), b"", "{row}: nothing behind the Close to the service");
    }

    /// The service breaks a rule: it gets `code`, the client what was good and then 1014.
    pub fn service_breaks(&self, fault: &Fault, code: u16) {
        let row = fault.row;
        let (mut client, mut upstream) = self.open();
        upstream.send([&fault.good[..], &fault.bad].concat());
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

/// Rows of (name, first bytes and payloads that pass, the same that break the rule): 1002 in both directions.
pub fn breaks_both_ways(stage: &Stage, rows: &[(&'static str, &[Half<'_>], Half<'_>)]) {
    for (row, good, (first, payload)) in rows {
        let join = |make: fn(u8, &[u8]) -> Vec<u8>| good.iter().flat_map(|(f, p)| make(*f, p)).collect::<Vec<u8>>();
        stage.client_breaks(&fault(row, join(masked), masked(*first, payload)), 1002);
        stage.service_breaks(&fault(row, join(frame), frame(*first, payload)), 1002);
    }
}
