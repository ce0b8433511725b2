//! What both refusals have in common: the proxy's own, which reaches no service, and the one for a service's bad answer.

use super::harness::{Harness, offer, request};
use super::head::{Answer, Head};
use super::service::Service;
use super::wire::Wire;

/// Sends `bytes` and expects a whole refusal with `status`, of which nothing reached the service.
pub fn refused(harness: &Harness, service: &Service, row: &str, bytes: impl AsRef<[u8]>, status: u16) -> Answer {
    let shown = String::from_utf8_lossy(&bytes.as_ref()[..bytes.as_ref().len().min(300)]).into_owned();
    let row = format!("{row}: {shown:?}");
    let mut client = harness.send(bytes);
    let answer = client.answer();
    assert_eq!(answer.head.status(), status, "{row}: {answer:?}");
    assert!(answer.head.lists("Connection", "close"), "{row}: says that it closes: {answer:?}");
    assert!(answer.head.get("Content-Type").is_some_and(|t| t.starts_with("text/plain")), "{row}: {answer:?}");
    assert!(answer.body.len() > 10, "{row}: has a reason to read: {answer:?}");
    assert_eq!(client.rest(), b"", "{row}: closes after its answer");
    assert!(service.is_untouched(), "{row}: reached the service");
    answer
}

/// One offer for each row of (name of the row, header to leave out, lines to add, status).
pub fn refuses_each(rows: &[(&str, &str, &str, u16)]) {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, without, with, status) in rows {
        refused(&harness, &service, row, offer(without, with), *status);
    }
}

/// One request for each row of (name of the row, first line, status).
pub fn refuses_each_line(rows: &[(&str, &str, u16)]) {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, line, status) in rows {
        refused(&harness, &service, row, request(line, "", ""), *status);
    }
}

/// Offers a session with `offered` lines; the client's end, the service's and what the service was asked.
pub fn asked(harness: &Harness, service: &Service, offered: &str) -> (Wire, Wire, Head) {
    let client = harness.send(offer("", offered));
    let (upstream, head) = service.request();
    (client, upstream, head)
}

/// Expects 502 with a reason to read, and both connections closed without another byte.
pub fn bad_gateway(row: &str, client: &mut Wire, upstream: &mut Wire) {
    let answer = client.answer();
    assert_eq!(answer.head.status(), 502, "{row}: {answer:?}");
    assert!(answer.body.len() > 10, "{row}: has a reason to read: {answer:?}");
    assert_eq!(client.rest(), b"", "{row}: closes after its answer");
    upstream.gone();
}
