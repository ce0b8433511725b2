//! External authorization: which service is asked, and what is exchanged with it.

use crate::routing::Backend;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// A service that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct External {
    /// Where it is.
    pub backend: Arc<Backend>,
    /// Put before the handshake's path, without a `/` at its end. One that ends in `?` takes the path's place.
    pub path_prefix: Box<str>,
    /// For the whole answer, the connection to the service included.
    #[serde(serialize_with = "crate::routing::policy::whole")]
    pub timeout: Duration,
    /// Headers of the handshake that it is shown, lower case.
    pub request_headers: Vec<Box<str>>,
    /// Whether it is asked about handshakes without any of these, too.
    pub always: bool,
    /// Headers of a yes for the backend, lower case.
    pub response_headers: Vec<Box<str>>,
    /// The header of a yes that names the client, lower case.
    pub consumer_header: Option<Box<str>>,
}
