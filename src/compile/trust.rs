//! `backendTLS` to [`UpstreamTls`]: whom a WSS backend must be signed by, and what it is shown.
//!
//! Fails closed: authorities that cannot be read are never replaced by others. One unreadable bundle among
//! readable ones only narrows the trust, so the rest is used and the fault is told.

use super::certificate::{certificates_from_pem, fingerprint};
use super::inputs::Lookup;
use super::snapshot::{ObjectKey, Snapshot};
use super::verdict::Fault;
use crate::api::status::reason;
use crate::api::{BackendTls, CaKind};
use crate::routing::{Certificate, Roots, UpstreamTls};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, ServerName};
use std::collections::HashMap;
use std::sync::Arc;

/// The key of a CA bundle.
pub(super) const CA_KEY: &str = "ca.crt";

/// The CA bundles of Secrets and config maps, each parsed at most once.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    config_maps: HashMap<ObjectKey, Bundle>,
    secrets: HashMap<ObjectKey, Bundle>,
}

type Bundle = Result<Vec<CertificateDer<'static>>, Fault>;

impl Bundles {
    pub(super) fn of(&mut self, snapshot: &Snapshot, kind: CaKind, key: &ObjectKey) -> Bundle {
        let parsed = || {
            let parsed = parse(snapshot, kind, key);
            parsed.map_err(|message| Fault::new(reason::INVALID_CA_CERTIFICATE_REF, message))
        };
        self.kind(kind).entry(key.clone()).or_insert_with(parsed).clone()
    }

    pub(super) fn forget(&mut self, kind: CaKind, key: &ObjectKey) {
        self.kind(kind).remove(key);
    }

    fn kind(&mut self, kind: CaKind) -> &mut HashMap<ObjectKey, Bundle> {
        match kind {
            CaKind::ConfigMap => &mut self.config_maps,
            CaKind::Secret => &mut self.secrets,
        }
    }
}

fn parse(snapshot: &Snapshot, kind: CaKind, key: &ObjectKey) -> Result<Vec<CertificateDer<'static>>, String> {
    let (word, exists, pem) = match kind {
        CaKind::ConfigMap => {
            let map = snapshot.config_maps.get(key);
            let text = map.and_then(|m| m.data.as_ref()?.get(CA_KEY)).map(String::as_bytes);
            let bytes = map.and_then(|m| m.binary_data.as_ref()?.get(CA_KEY)).map(|bytes| bytes.0.as_slice());
            ("ConfigMap", map.is_some(), text.or(bytes))
        }
        CaKind::Secret => {
            let secret = snapshot.secrets.get(key);
            ("Secret", secret.is_some(), secret.and_then(|secret| secret.entry(CA_KEY)))
        }
    };
    if !exists {
        return Err(format!("there is no {word} {key}: create it, or correct the name"));
    }
    let pem = pem.ok_or_else(|| format!("{word} {key} has no {CA_KEY}: put the PEM bundle there"))?;
    let unusable = |why: String| {
        format!("{CA_KEY} of {word} {key} cannot be used ({why}): put the PEM certificates of the authorities there")
    };
    let certificates = certificates_from_pem(pem).map_err(unusable)?;
    for certificate in &certificates {
        RootCertStore::empty().add(certificate.clone()).map_err(|e| unusable(e.to_string()))?;
    }
    Ok(certificates)
}

/// Reads the `backendTLS` of a rule in `namespace`. Faults are pushed with `field` (that of the block) before
/// them; `None` means that no WSS backend of the rule can be used.
pub(super) fn upstream_tls(
    block: &BackendTls,
    (namespace, field): (&str, &str),
    lookup: &mut Lookup<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Arc<UpstreamTls>> {
    let hostname = block.hostname.to_ascii_lowercase();
    if ServerName::try_from(hostname.as_str()).is_err() {
        let message = format!(
            "{field}.hostname: {hostname} is no DNS name or address: write the name in the backend's certificate"
        );
        faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        return None;
    }
    let roots = roots(block, (namespace, field), lookup, faults)?;
    let client = match &block.client_certificate_ref {
        None => None,
        Some(reference) => {
            let field = format!("{field}.clientCertificateRef");
            match lookup.certificate(&ObjectKey::new(namespace, &reference.name)) {
                Ok(usable) => {
                    faults.extend(usable.stale.map(|fault| fault.at(&field)));
                    Some(usable.certificate)
                }
                Err(fault) => {
                    faults.push(fault.at(&field));
                    return None;
                }
            }
        }
    };
    Some(Arc::new(settings(hostname, roots, client)))
}

fn roots(
    block: &BackendTls,
    (namespace, field): (&str, &str),
    lookup: &mut Lookup<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Roots> {
    if block.well_known_ca_certificates.is_some() {
        return Some(Roots::System);
    }
    let mut trusted = Vec::new();
    for (at, reference) in block.ca_certificate_refs.iter().enumerate() {
        match lookup.bundle(reference.kind, &ObjectKey::new(namespace, &reference.name)) {
            Ok(certificates) => trusted.extend(certificates),
            Err(fault) => faults.push(fault.at(format_args!("{field}.caCertificateRefs[{at}]"))),
        }
    }
    trusted.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    trusted.dedup();
    (!trusted.is_empty()).then_some(Roots::Certificates(trusted))
}

fn settings(hostname: String, roots: Roots, client: Option<Arc<Certificate>>) -> UpstreamTls {
    let mut parts: Vec<&[u8]> = vec![hostname.as_bytes()];
    parts.push(client.as_ref().map_or(b"", |client| client.fingerprint.as_bytes()));
    match &roots {
        Roots::Certificates(trusted) => parts.extend(trusted.iter().map(AsRef::as_ref)),
        Roots::System => parts.push(b"System"),
    }
    let fingerprint = fingerprint(parts);
    UpstreamTls { hostname: hostname.into(), roots, client, fingerprint }
}
