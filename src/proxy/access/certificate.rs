//! Client certificates: whether the one that a client presented is valid for a route.

use super::Denial;
use crate::routing::access::{Access, ClientCertificate};
use crate::telemetry::HandshakeReason;
use http::StatusCode;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// What a client has shown in its TLS handshake, with proof that it holds the key and nothing else judged.
#[derive(Debug)]
pub(in crate::proxy) struct PresentedCertificate {
    /// Its own certificate first.
    pub(in crate::proxy) chain: Arc<[CertificateDer<'static>]>,
}

/// Judges it by the route's authorities, `now` in seconds since 1970.
pub(super) fn check(
    access: &Access,
    presented: Option<&PresentedCertificate>,
    now: i64,
) -> Result<Option<ClientCertificate>, Denial> {
    let Some(trust) = &access.certificates else { return Ok(None) };
    let denied = |text| Denial::new(StatusCode::FORBIDDEN, HandshakeReason::ClientCertificate, text);
    match presented.map(|presented| trust.admit(&presented.chain, now)) {
        Some(Ok(certificate)) => Ok(Some(certificate)),
        _ if trust.optional => Ok(None),
        Some(Err(why)) => Err(denied("the client certificate is not valid here").detailed(why)),
        None => Err(denied("a client certificate is needed here, shown in TLS under this host's name").detailed(
            "no client certificate: the client has none, came in clear, or its TLS server name is none of the hosts of \
             a route that asks for one",
        )),
    }
}
