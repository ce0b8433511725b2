//! A refusal of the proxy's own, and the offer that a service is asked to answer.

use super::harness::{Harness, offer};
use super::head::{Answer, Head};
use super::service::Service;
use super::wire::Wire;

/// Expects a whole refusal with `status` and nothing behind it.
pub fn refusal(client: &mut Wire, row: &str, status: u16) -> Answer {
    let answer = client.answer();
    assert_eq!(answer.head.status(), status, "{row}: {answer:?}");
    assert!(answer.head.lists("Connection", "close"), "{row}: says that it closes: {answer:?}");
    assert!(answer.head.get("Content-Type").is_some_and(|t| t.starts_with("text/plain")), "{row}: {answer:?}");
    assert!(answer.body.len() > 10, "{row}: has a reason to read: {answer:?}");
    assert_eq!(client.rest(), b"", "{row}: closes after its answer");
    answer
}

/// Offers a session with `offered` lines; the client's end, the service's and what the service was asked.
pub fn asked(harness: &Harness, service: &Service, offered: &str) -> (Wire, Wire, Head) {
    let client = harness.send(offer("", offered));
    let (upstream, head) = service.request();
    (client, upstream, head)
}
