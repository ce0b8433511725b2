//! Client certificates: whose are trusted, and what a valid one says.
//!
//! What a client shows comes with proof that it holds the key; whether its chain leads to an authority of the route, is
//! in its time and is for clients (RFC 5280 §4.2.1.12) is decided here, at each handshake and again when the authorities
//! of the route become others.

use super::admission::Revoked;
use super::subject::{alternative_names, distinguished_name};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The authorities of client certificates, and what the backend is told of a valid one.
#[derive(Clone, Serialize)]
pub struct ClientTrust {
    /// Whether a handshake without a valid certificate goes on.
    pub optional: bool,
    /// How many authorities there are; with none no certificate is valid.
    pub authorities: usize,
    /// First 16 hexadecimal digits of SHA-256 over the authorities.
    pub fingerprint: Box<str>,
    /// The header in which the backend is told the subject; lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_header: Option<Box<str>>,
    /// The header in which it is told the alternative names; lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_alt_names_header: Option<Box<str>>,
    #[serde(skip)]
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl PartialEq for ClientTrust {
    /// The fingerprint stands for the authorities.
    fn eq(&self, other: &Self) -> bool {
        self.optional == other.optional
            && self.fingerprint == other.fingerprint
            && self.subject_header == other.subject_header
            && self.subject_alt_names_header == other.subject_alt_names_header
    }
}

impl Eq for ClientTrust {}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.optional { "optional" } else { "required" };
        write!(f, "ClientTrust({word}, {} authorities, {})", self.authorities, self.fingerprint)
    }
}

/// A certificate that was found valid.
#[derive(Clone)]
pub struct ClientCertificate {
    /// Its subject (RFC 4514), as `openssl x509 -nameopt RFC2253` writes it.
    pub subject: Box<str>,
    /// Its alternative names, `DNS:`, `URI:`, `email:` or `IP:` before each.
    pub subject_alt_names: Vec<Box<str>>,
    /// End of its validity, seconds since 1970.
    pub not_after: i64,
    /// The first end of validity among the other certificates that were shown with it.
    chain_not_after: i64,
    /// Of the authorities under which it was found valid.
    trust: Box<str>,
    /// The certificate and what was shown with it: to be judged again by other authorities.
    chain: Arc<[CertificateDer<'static>]>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({:?})", self.subject)
    }
}

impl ClientTrust {
    /// One that no certificate satisfies, until it is given authorities. `fingerprint` is theirs.
    pub fn new(optional: bool, fingerprint: Box<str>) -> Self {
        let (subject_header, subject_alt_names_header) = (None, None);
        Self { optional, authorities: 0, fingerprint, subject_header, subject_alt_names_header, verifier: None }
    }

    /// Trusts what `authorities` have signed.
    ///
    /// # Errors
    /// When one of them is no certificate that can be a root.
    pub fn trusting(mut self, authorities: Vec<CertificateDer<'static>>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        self.authorities = roots.len();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        // Without roots there is no verifier, and nothing is valid.
        self.verifier = verifier.ok();
        Ok(self)
    }

    /// Judges `chain`, the client's own certificate first, `now` in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not valid here, for the record.
    pub fn admit(&self, chain: &Arc<[CertificateDer<'static>]>, now: i64) -> Result<ClientCertificate, String> {
        self.verify(chain, now)?;
        let unreadable = || "the certificate cannot be read".to_owned();
        let mut ends = Vec::with_capacity(chain.len());
        for certificate in chain.iter() {
            let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| unreadable())?;
            ends.push(certificate.validity().not_after.timestamp());
        }
        let leaf = chain.first().ok_or_else(unreadable)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| unreadable())?;
        Ok(ClientCertificate {
            subject: distinguished_name(leaf.subject()).into(),
            subject_alt_names: alternative_names(&leaf),
            not_after: ends[0],
            chain_not_after: ends[1..].iter().copied().min().unwrap_or(i64::MAX),
            trust: self.fingerprint.clone(),
            chain: Arc::clone(chain),
        })
    }

    fn verify(&self, chain: &[CertificateDer<'static>], now: i64) -> Result<(), String> {
        let verifier = self.verifier.as_ref().ok_or("no authority can be used: see the conditions of the route")?;
        let (leaf, others) = chain.split_first().ok_or("no certificate")?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        verifier.verify_client_cert(leaf, others, now).map(drop).map_err(|error| error.to_string())
    }

    /// Whether a session that was let in with `certificate` still would be. A session that rests on a certificate ends
    /// with it, even where it could have come without: its backend and its rule have been told whose it is.
    ///
    /// # Errors
    /// What has become of it.
    pub fn stands(&self, certificate: Option<&ClientCertificate>, now: i64) -> Result<(), Revoked> {
        let Some(certificate) = certificate else {
            return if self.optional { Ok(()) } else { Err(Revoked::Policy) };
        };
        if now > certificate.not_after {
            return Err(Revoked::Expired);
        }
        let same = certificate.trust == self.fingerprint;
        if same && now <= certificate.chain_not_after {
            return Ok(());
        }
        let lost = if same { Revoked::Expired } else { Revoked::Credential };
        self.verify(&certificate.chain, now).map_err(|_| lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

    const NOW: i64 = 1_767_225_600; // 2026-01-01

    type Authority = (Issuer<'static, KeyPair>, CertificateDer<'static>);

    fn authority(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        (Issuer::new(params, key), certificate)
    }

    fn signed(by: &Authority, usage: ExtendedKeyUsagePurpose, years: (i32, i32)) -> Arc<[CertificateDer<'static>]> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
        params.distinguished_name.push(DnType::CommonName, "device-1");
        params.subject_alt_names = vec![
            SanType::DnsName("device-1.example".try_into().expect("a name")),
            SanType::URI("spiffe://example/device-1".try_into().expect("a URI")),
        ];
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        Arc::from([params.signed_by(&key, &by.0).expect("signed").der().clone()])
    }

    fn trust(fingerprint: &str, authorities: &[&Authority]) -> ClientTrust {
        let authorities = authorities.iter().map(|authority| authority.1.clone()).collect();
        ClientTrust::new(false, fingerprint.into()).trusting(authorities).expect("roots")
    }

    #[test]
    fn a_certificate_is_valid_when_a_trusted_authority_signed_it_for_clients_and_its_time_is_now() {
        let (ours, other) = (authority("ours"), authority("other"));
        let trust = trust("1", &[&ours]);
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        let certificate = trust.admit(&signed(&ours, client.clone(), (2025, 2030)), NOW).expect("it is valid");
        assert_eq!(&*certificate.subject, "CN=device-1,O=Acme\\, Inc.");
        let names = ["DNS:device-1.example", "URI:spiffe://example/device-1"].map(Box::from);
        assert_eq!(certificate.subject_alt_names, names);
        let error = |chain: Arc<[CertificateDer<'static>]>| trust.admit(&chain, NOW).expect_err("it is not valid");
        assert!(error(signed(&other, client.clone(), (2025, 2030))).contains("UnknownIssuer"));
        assert!(error(signed(&ours, client.clone(), (2020, 2025))).contains("expired"));
        assert!(error(signed(&ours, client, (2027, 2030))).contains("not valid yet"));
        error(signed(&ours, ExtendedKeyUsagePurpose::ServerAuth, (2025, 2030)));
        error(Arc::from([]));
        error(Arc::from([CertificateDer::from(vec![0x30, 0])]));
    }

    #[test]
    fn without_authorities_no_certificate_is_valid() {
        let ours = authority("ours");
        let chain = signed(&ours, ExtendedKeyUsagePurpose::ClientAuth, (2025, 2030));
        assert!(trust("0", &[]).admit(&chain, NOW).is_err());
        assert!(ClientTrust::new(true, "0".into()).admit(&chain, NOW).is_err());
    }

    #[test]
    fn a_session_stands_as_long_as_its_certificate_and_an_authority_of_it_do() {
        let (ours, other) = (authority("ours"), authority("other"));
        let chain = signed(&ours, ExtendedKeyUsagePurpose::ClientAuth, (2025, 2030));
        let certificate = trust("1", &[&ours]).admit(&chain, NOW).expect("it is valid");
        let stands = |trust: ClientTrust, now| trust.stands(Some(&certificate), now);
        assert_eq!(stands(trust("1", &[&ours]), NOW), Ok(()));
        assert_eq!(stands(trust("2", &[&ours, &other]), NOW), Ok(()), "one more authority takes nothing away");
        assert_eq!(stands(trust("3", &[&other]), NOW), Err(Revoked::Credential));
        assert_eq!(stands(trust("4", &[]), NOW), Err(Revoked::Credential));
        assert_eq!(stands(trust("1", &[&ours]), certificate.not_after), Ok(()));
        assert_eq!(stands(trust("1", &[&ours]), certificate.not_after + 1), Err(Revoked::Expired));
        assert_eq!(trust("1", &[&ours]).stands(None, NOW), Err(Revoked::Policy));
        assert_eq!(ClientTrust::new(true, "1".into()).stands(None, NOW), Ok(()));
    }
}
