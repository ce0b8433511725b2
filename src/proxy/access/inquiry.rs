//! Inquiries: one HTTP/1.1 request to a service that decides, and its whole answer in time.
//!
//! Decides which connection an inquiry goes over, how long it may take, how large the answer may be, and when the control
//! wing is told of trouble. What is asked and what an answer means is decided in `external`. No request is sent twice:
//! another connection is dialled only while not a byte of the request has been written.

use crate::feedback::{Report, Reporter};
use crate::proxy::dial::{DialError, dial};
use crate::proxy::upstream_tls::UpstreamTlsConfigs;
use crate::routing::{Address, RouteId};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Connections to one endpoint that are kept for the next inquiry.
const IDLE: usize = 32;
/// How long one is kept.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// Endpoints to which connections are kept.
const ENDPOINTS: usize = 256;
/// Of an answer's head, in bytes.
const HEAD: usize = 64 << 10;
/// Header lines of an answer.
const LINES: usize = 100;
/// Of an answer's body, in bytes.
const BODY: usize = 64 << 10;
/// Providers whose trouble is remembered.
const TROUBLED: usize = 4096;
/// After a recovery: new trouble within it is not told, so that a service that fails every other time is no flood.
const QUIET: Duration = Duration::from_secs(1);

type Sender = SendRequest<Empty<Bytes>>;

/// A provider of a route.
type Asker = (RouteId, Arc<str>);

/// Connections between two inquiries, and the providers that were in trouble. One for the whole process.
#[derive(Default)]
pub struct Inquiries {
    idle: Mutex<HashMap<Address, Vec<Idle>>>,
    /// When it had recovered; `None` while it has not.
    troubled: Mutex<HashMap<Asker, Option<Instant>>>,
    /// Whether one may be in trouble: the only thing looked at while all is well.
    trouble: AtomicBool,
}

/// A connection that waits for an inquiry.
struct Idle {
    sender: Sender,
    since: Instant,
}

impl Idle {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && self.since.elapsed() < IDLE_TIME
    }
}

impl fmt::Debug for Inquiries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiries").finish_non_exhaustive()
    }
}

/// Why there is no answer; continues "the service". Holds nothing that the service sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silence {
    /// It closed or broke, or what it sent is no HTTP/1.1.
    #[error("gave no whole HTTP/1.1 answer: {0}")]
    Broken(Box<dyn Error + Send + Sync>),
    /// No connection.
    #[error("could not be reached: {0}")]
    Dial(#[from] DialError),
    /// It is too late.
    #[error("did not answer within {0:?}")]
    Late(Duration),
}

impl From<hyper::Error> for Silence {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl Inquiries {
    /// Sends `request` to `address` and reads the answer, all of it within `timeout` and before `deadline`. The body is
    /// `None` if it has more than 64 KiB.
    ///
    /// # Errors
    /// [`Silence`].
    ///
    /// # Cancel safety
    /// Dropping it closes the connection it was using.
    pub(super) async fn ask(
        &self,
        address: &Address,
        request: Request<Empty<Bytes>>,
        tls: &UpstreamTlsConfigs,
        (timeout, deadline): (Duration, Instant),
    ) -> Result<Response<Option<Bytes>>, Silence> {
        let began = Instant::now();
        let in_time = deadline.min(began + timeout);
        let exchange = async {
            let (sender, answer) = self.send(address, request, tls, in_time).await?;
            let (head, body) = answer.into_parts();
            let body = match Limited::new(body, BODY).collect().await {
                Ok(body) => Some(body.to_bytes()),
                Err(error) if error.is::<LengthLimitError>() => None,
                Err(error) => return Err(Silence::Broken(error)),
            };
            if body.is_some() {
                self.keep(address, sender);
            }
            Ok(Response::from_parts(head, body))
        };
        match timeout_at(in_time, exchange).await {
            Ok(Err(Silence::Dial(DialError::Timeout))) | Err(_) => Err(Silence::Late(in_time - began)),
            Ok(answered) => answered,
        }
    }

    /// Sends over a kept connection that is still good, else over a new one.
    async fn send(
        &self,
        address: &Address,
        mut request: Request<Empty<Bytes>>,
        tls: &UpstreamTlsConfigs,
        in_time: Instant,
    ) -> Result<(Sender, Response<Incoming>), Silence> {
        while let Some(mut sender) = self.take(address) {
            if sender.ready().await.is_err() {
                continue; // closed while it was waiting
            }
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok((sender, answer)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let transport = dial(address, None, None, tls, in_time).await?;
        let mut protocol = http1::Builder::new();
        protocol.max_buf_size(HEAD).max_headers(LINES);
        let (mut sender, connection) = protocol.handshake(TokioIo::new(transport)).await?;
        // It ends with the last of its users, or with the peer; what it has to say reaches whoever waits for an answer.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        Ok((sender, answer))
    }

    fn take(&self, address: &Address) -> Option<Sender> {
        let mut idle = lock(&self.idle);
        let kept = idle.get_mut(address)?;
        std::iter::from_fn(|| kept.pop()).find(Idle::is_usable).map(|idle| idle.sender)
    }

    fn keep(&self, address: &Address, sender: Sender) {
        let mut idle = lock(&self.idle);
        if !idle.contains_key(address) {
            // A new endpoint: others may be gone for good.
            idle.retain(|_, kept| {
                kept.retain(Idle::is_usable);
                !kept.is_empty()
            });
            if idle.len() >= ENDPOINTS {
                return;
            }
        }
        let kept = idle.entry(address.clone()).or_default();
        kept.retain(Idle::is_usable);
        if kept.len() < IDLE {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Notes how an inquiry of `asker` went, and reports it where that is a change.
    pub(super) fn note(&self, reporter: &Reporter, (route, provider): (&RouteId, &Arc<str>), trouble: Option<&str>) {
        if trouble.is_none() && !self.trouble.load(Ordering::Acquire) {
            return;
        }
        let mut troubled = lock(&self.troubled);
        troubled.retain(|_, recovered| recovered.is_none_or(|at| at.elapsed() < QUIET));
        let asker = (route.clone(), Arc::clone(provider));
        let told = match (troubled.get(&asker), trouble) {
            (Some(None), Some(_)) | (Some(Some(_)), _) | (None, None) => true,
            (None, Some(_)) => troubled.len() >= TROUBLED,
            (Some(None), None) => false,
        };
        let report = || Report::Provider {
            route: route.clone(),
            provider: Arc::clone(provider),
            trouble: trouble.map(Arc::from),
        };
        // What found no place is told by the next inquiry.
        if !told && reporter.report(report()) {
            troubled.insert(asker, trouble.is_none().then(Instant::now));
        }
        self.trouble.store(troubled.values().any(Option::is_none), Ordering::Release);
    }
}

/// A poisoned lock means a panic elsewhere; the plain data behind it is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_told_once_and_its_end_once() {
        let (reporter, mut reports) = feedback::channel();
        let inquiries = Inquiries::default();
        let route = RouteId { namespace: "ns".into(), name: "chat".into() };
        let provider: Arc<str> = "auth".into();
        let mut note = |trouble: Option<&str>| {
            inquiries.note(&reporter, (&route, &provider), trouble);
            match reports.try_recv() {
                Ok(Report::Provider { trouble, .. }) => Some(trouble.as_deref().unwrap_or("well").to_owned()),
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            }
        };
        assert_eq!(note(None), None, "there was no trouble");
        assert_eq!(note(Some("away")).as_deref(), Some("away"));
        assert_eq!(note(Some("late")), None);
        assert_eq!(note(None).as_deref(), Some("well"));
        assert_eq!(note(None), None);
        assert_eq!(note(Some("away")), None, "too soon after the recovery");
        tokio::time::advance(QUIET).await;
        assert_eq!(note(Some("away")).as_deref(), Some("away"));
        assert_eq!(note(None).as_deref(), Some("well"));
    }

    #[test]
    fn trouble_that_found_no_place_is_told_by_the_next_inquiry() {
        let (reporter, mut reports) = feedback::channel();
        while reporter.report(Report::UnknownKey { uri: "https://example.com".into() }) {}
        let inquiries = Inquiries::default();
        let route = RouteId { namespace: "ns".into(), name: "chat".into() };
        let provider: Arc<str> = "auth".into();
        inquiries.note(&reporter, (&route, &provider), Some("away"));
        while reports.try_recv().is_ok() {}
        inquiries.note(&reporter, (&route, &provider), Some("away"));
        let trouble = Some("away".into());
        assert_eq!(reports.try_recv(), Ok(Report::Provider { route, provider, trouble }));
    }
}
