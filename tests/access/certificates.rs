//! Client certificates: who is asked for one, whose is valid, what the backend is told, and who has to leave.

use super::living::backend::Service;
use super::living::certificate::{Made, make};
use super::living::client::{Client, tls, upgrade};
use super::living::folder::{Folder, route, served, simple};
use super::living::{Sheave, within};
use super::witness::{Answer, Witness, ask, from};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, HandshakeKind, NamedGroup, RootCertStore, SignatureScheme, SupportedProtocolVersion, version,
};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An authority of clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The certificate of a client.
    fn signs(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Arc<CertifiedKey> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://test/{name}").try_into().expect("a URI"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let key = any_supported_type(&key).expect("it can sign");
        Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key))
    }

    fn signs_plainly(&self, name: &str) -> Arc<CertifiedKey> {
        self.signs(name, |_| {})
    }
}

/// Authorities as a `ConfigMap`.
fn bundle(name: &str, authorities: &[&Authority]) -> String {
    let pem: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
    let pem = pem.replace("\r\n", "\n").trim_end().replace('\n', "\n    ");
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  ca.crt: |\n    {pem}\n")
}

/// Shows a certificate when asked, and counts how often that is.
#[derive(Debug)]
struct Shown {
    certificate: Option<Arc<CertifiedKey>>,
    asked: Arc<AtomicUsize>,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Remembers sessions and offers them under any server name.
#[derive(Debug)]
struct Careless(ClientSessionMemoryCache);

fn any() -> ServerName<'static> {
    ServerName::try_from("any").expect("a name")
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(any(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&any())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(any(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&any())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&any());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(any(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&any())
    }
}

/// A client of a server, with a certificate of its own or none.
struct Device {
    config: Arc<ClientConfig>,
    asked: Arc<AtomicUsize>,
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

impl Device {
    fn new(server: &Made, certificate: Option<Arc<CertifiedKey>>) -> Self {
        Self::speaking(server, certificate, BOTH)
    }

    fn speaking(
        server: &Made,
        certificate: Option<Arc<CertifiedKey>>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut roots = RootCertStore::empty();
        roots.add(server.der.clone()).expect("a made certificate can be trusted");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(Shown { certificate, asked: Arc::clone(&asked) }));
        config.resumption = Resumption::store(Arc::new(Careless(ClientSessionMemoryCache::new(32))));
        Self { config: Arc::new(config), asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Asks for `host` under the server name `name`, and says whether the TLS session was resumed.
    async fn ask_as(&self, sheave: &Sheave, name: &str, host: &str, lines: &str) -> (Answer, bool) {
        let mut stream = tls(sheave.wss, name, &self.config).await.expect("TLS itself asks nothing of a client");
        let answer = ask(&mut stream, host, lines).await;
        (answer, stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    async fn ask(&self, sheave: &Sheave, lines: &str) -> u16 {
        self.ask_as(sheave, "app.test", "app.test", lines).await.0.status
    }
}

const VALIDATION: &str = "caCertificateRefs: [{name: ca}], forwardSubjectHeader: X-Subject, \
                          forwardSubjectAltNamesHeader: X-Names";
const FORGED: &str = "X-Subject: CN=admin\r\nx-subject: CN=root\r\nX_Names: URI:spiffe://test/admin\r\n";

/// A Sheave whose route `app` asks for certificates of `authority`, and a route `open` that asks for none.
async fn asking(validation: &str, authority: &Authority) -> (Folder, Witness, Sheave, Made) {
    let (witness, made) = (Witness::start().await, make(&["app.test", "open.test"]));
    let tls =
        format!("tls: {{certificateRefs: [{{name: cert}}], plaintext: Allow, frontendValidation: {{{validation}}}}}");
    let text = simple("app", witness.port, &[&tls])
        + &simple("open", witness.port, &["tls: {certificateRefs: [{name: cert}]}"])
        + &made.secret("cert")
        + &bundle("ca", &[authority]);
    let folder = Folder::with(&text);
    let sheave = Sheave::start(&folder);
    (folder, witness, sheave, made)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_valid_certificate_of_the_routes_authority_opens_the_route() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (_folder, witness, sheave, made) = asking(VALIDATION, &ours).await;
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let reached = witness.count();
        let device = |certificate| Device::speaking(&made, certificate, versions);
        let valid = device(Some(ours.signs_plainly("device-1")));
        assert_eq!(valid.ask(&sheave, "").await, 101);
        let expired = ours.signs("old", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        let early = ours.signs("early", |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
        let server = ours.signs("server", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        for certificate in [None, Some(expired), Some(early), Some(server), Some(other.signs_plainly("device-1"))] {
            let device = device(certificate);
            let (answer, _) = device.ask_as(&sheave, "app.test", "app.test", "").await;
            assert_eq!(answer.status, 403, "{answer:?}");
            assert_eq!(device.asked(), 1);
        }
        assert_eq!(witness.count(), reached + 1, "a refused handshake reaches no backend");
    }
    let labels = [("reason", "client_certificate"), ("route", "app")];
    sheave.metric_becomes("sheave_handshakes_total", &labels, 10.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_its_key_is_worth_nothing() {
    let ours = Authority::new("ours");
    let (_folder, witness, sheave, made) = asking(VALIDATION, &ours).await;
    let (theirs, own) = (ours.signs_plainly("device-1"), ours.signs_plainly("device-2"));
    let stolen = Arc::new(CertifiedKey::new(theirs.cert.clone(), Arc::clone(&own.key)));
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let device = Device::speaking(&made, Some(Arc::clone(&stolen)), versions);
        match tls(sheave.wss, "app.test", &device.config).await {
            Err(_) => {}
            Ok(mut stream) => assert_eq!(ask(&mut stream, "app.test", "").await.status, 0, "TLS fails"),
        }
    }
    assert_eq!(witness.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_is_told_whose_certificate_it_is_and_no_forged_word_passes() {
    let ours = Authority::new("ours");
    let (_folder, witness, sheave, made) = asking(VALIDATION, &ours).await;
    let device = Device::new(
        &made,
        Some(ours.signs("a,O=admin", |params| {
            params.subject_alt_names.push(SanType::DnsName("device.test".try_into().expect("a name")));
            params.subject_alt_names[0] = SanType::URI("spiffe://test/a,URI:b".try_into().expect("a URI"));
        })),
    );
    assert_eq!(device.ask(&sheave, FORGED).await, 101);
    assert_eq!(witness.header("X-Subject"), ["CN=a\\,O=admin,O=Acme"]);
    assert_eq!(witness.header("X-Names"), ["URI:spiffe://test/a%2CURI:b,DNS:device.test"]);
    assert_eq!(witness.header("X_Names"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_fallback_an_invalid_certificate_counts_as_none() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let validation = format!("mode: AllowInsecureFallback, {VALIDATION}");
    let (_folder, witness, sheave, made) = asking(&validation, &ours).await;
    for certificate in [None, Some(other.signs_plainly("device-1"))] {
        assert_eq!(Device::new(&made, certificate).ask(&sheave, FORGED).await, 101);
        assert_eq!(witness.header("X-Subject"), [""; 0]);
        assert_eq!((witness.header("X-Names"), witness.header("X_Names")), (vec![], vec![]));
    }
    assert_eq!(Device::new(&made, Some(ours.signs_plainly("device-1"))).ask(&sheave, FORGED).await, 101);
    assert_eq!(witness.header("X-Subject"), ["CN=device-1,O=Acme"]);
    let mut clear = from("127.0.0.1", sheave.ws).await;
    assert_eq!(ask(&mut clear, "app.test", FORGED).await.status, 101);
    assert_eq!(witness.header("X-Subject"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_and_alternative_names_can_be_allowed_and_denied() {
    let (witness, made, ours) = (Witness::start().await, make(&["app.test"]), Authority::new("ours"));
    let text = format!(
        "---\napiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {{name: app}}\nspec:\n  hostnames: \
         [app.test]\n  tls: {{certificateRefs: [{{name: cert}}], frontendValidation: {{{VALIDATION}}}}}\n  rules:\n  - \
         backendRefs: [{{name: app, port: 80}}]\n    authorization:\n      allow: [{{subjects: [\"CN=by-subject,\
         O=Acme\"]}}, {{subjectAltNames: [\"URI:spiffe://test/by-name\", \"URI:spiffe://test/denied\"]}}]\n      deny: \
         [{{subjects: [\"CN=denied,O=Acme\"]}}]\n"
    );
    let folder = Folder::with(&(text + &served("app", witness.port) + &made.secret("cert") + &bundle("ca", &[&ours])));
    let sheave = Sheave::start(&folder);
    for (name, status) in [("by-subject", 101), ("by-name", 101), ("denied", 403), ("neither", 403)] {
        let device = Device::new(&made, Some(ours.signs_plainly(name)));
        assert_eq!(device.ask(&sheave, "").await, status, "{name}");
    }
    assert_eq!(witness.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_other_hosts_are_not_asked() {
    let ours = Authority::new("ours");
    let (_folder, witness, sheave, made) = asking(VALIDATION, &ours).await;
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let device = Device::speaking(&made, Some(ours.signs_plainly("device-1")), versions);
        assert_eq!(device.ask_as(&sheave, "open.test", "open.test", "").await.0.status, 101);
        assert_eq!(device.asked(), 0, "a browser would ask its user");
        let (answer, _) = device.ask_as(&sheave, "open.test", "app.test", "").await;
        assert_eq!((answer.status, device.asked()), (403, 0), "no way round by another name: {answer:?}");
    }
    assert_eq!(witness.count(), 2);
    let mut clear = from("127.0.0.1", sheave.ws).await;
    let answer = ask(&mut clear, "app.test", "").await;
    assert_eq!(answer.status, 403, "nor in clear: {answer:?}");
    assert_eq!(witness.count(), 2, "a refused handshake reaches no backend");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_session_keeps_its_certificate_and_its_server_name() {
    let ours = Authority::new("ours");
    let (_folder, witness, sheave, made) = asking(VALIDATION, &ours).await;
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let device = Device::speaking(&made, Some(ours.signs_plainly("device-1")), versions);
        assert_eq!(device.ask(&sheave, "").await, 101);
        let (answer, resumed) = device.ask_as(&sheave, "app.test", "app.test", "").await;
        assert_eq!((answer.status, resumed, device.asked()), (101, true, 1));
        assert_eq!(witness.header("X-Subject"), ["CN=device-1,O=Acme"]);
        let (answer, resumed) = device.ask_as(&sheave, "open.test", "app.test", "").await;
        assert_eq!((answer.status, resumed), (403, false), "a session of another name is not resumed");
        let (answer, resumed) = device.ask_as(&sheave, "app.test", "app.test", "").await;
        assert_eq!((answer.status, resumed), (101, false), "a session that began without the question is not resumed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_one_name_is_not_resumed_under_another_that_asks_too() {
    let (witness, made, ours) = (Witness::start().await, make(&["app.test", "twin.test"]), Authority::new("ours"));
    let tls = format!("tls: {{certificateRefs: [{{name: cert}}], frontendValidation: {{{VALIDATION}}}}}");
    let text = route("app", "app.test, twin.test", &[&tls], &[("app", 1)]) + &served("app", witness.port);
    let folder = Folder::with(&(text + &made.secret("cert") + &bundle("ca", &[&ours])));
    let sheave = Sheave::start(&folder);
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let device = Device::speaking(&made, Some(ours.signs_plainly("device-1")), versions);
        assert_eq!(device.ask(&sheave, "").await, 101);
        let (answer, resumed) = device.ask_as(&sheave, "twin.test", "twin.test", "").await;
        assert_eq!((answer.status, resumed, device.asked()), (101, false, 2));
        let (answer, resumed) = device.ask_as(&sheave, "twin.test", "twin.test", "").await;
        assert_eq!((answer.status, resumed, device.asked()), (101, true, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_authority_can_be_used_no_certificate_is_valid() {
    let (witness, made, ours) = (Witness::start().await, make(&["app.test"]), Authority::new("ours"));
    let tls = format!("tls: {{certificateRefs: [{{name: cert}}], frontendValidation: {{{VALIDATION}}}}}");
    let folder = Folder::with(&(simple("app", witness.port, &[&tls]) + &made.secret("cert")));
    let sheave = Sheave::start(&folder);
    let device = Device::new(&made, Some(ours.signs_plainly("device-1")));
    assert_eq!(device.ask(&sheave, "").await, 403);
    assert_eq!(witness.count(), 0);
}

/// A session of a device.
async fn open(sheave: &Sheave, device: &Device) -> Client {
    let stream = tls(sheave.wss, "app.test", &device.config).await.expect("TLS itself asks nothing of a client");
    let mut client = upgrade(Box::new(stream), "app.test").await;
    client.echo("hello").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_an_authority_that_is_removed_end_and_no_others() {
    let (service, made) = (Service::echo().await, make(&["app.test"]));
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let tls = format!("tls: {{certificateRefs: [{{name: cert}}], frontendValidation: {{{VALIDATION}}}}}");
    let folder = Folder::with(&(simple("app", service.port, &[&tls]) + &made.secret("cert")));
    folder.write("ca.yaml", &bundle("ca", &[&ours, &other]));
    let sheave = Sheave::start(&folder);
    let devices = [&ours, &other].map(|by| Device::new(&made, Some(by.signs_plainly("device-1"))));
    let (mut stays, mut leaves) = (open(&sheave, &devices[0]).await, open(&sheave, &devices[1]).await);
    folder.write("ca.yaml", &bundle("ca", &[&ours]));
    let ended = leaves.ended().await;
    assert_eq!((ended.code, &*ended.reason), (1008, "credential revoked"));
    assert_eq!(devices[1].ask(&sheave, "").await, 403, "a resumed session is judged like any other");
    stays.echo("still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_its_certificate_expires() {
    let (service, made, ours) = (Service::echo().await, make(&["app.test"]), Authority::new("ours"));
    let tls = format!("tls: {{certificateRefs: [{{name: cert}}], frontendValidation: {{{VALIDATION}}}}}");
    let text = simple("app", service.port, &[&tls]) + &made.secret("cert") + &bundle("ca", &[&ours]);
    let folder = Folder::with(&text);
    let sheave = Sheave::start(&folder);
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + Duration::from_secs(3);
    let soon = ours.signs("soon", |params| params.not_after = rcgen::date_time_ymd(1970, 1, 1) + expires);
    let (mut lasting, mut brief) = (
        open(&sheave, &Device::new(&made, Some(ours.signs_plainly("device-1")))).await,
        open(&sheave, &Device::new(&made, Some(soon))).await,
    );
    let ended = within("the end", brief.ended()).await;
    assert_eq!((ended.code, &*ended.reason), (1008, "token expired"));
    lasting.echo("still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_stops_asking_keeps_whom_no_rule_knows_by_a_certificate() {
    let (service, made, ours) = (Service::echo().await, make(&["app.test"]), Authority::new("ours"));
    let spec = |more: &str| format!("tls: {{certificateRefs: [{{name: cert}}]{more}}}");
    let asking = route("app", "app.test", &[&spec(&format!(", frontendValidation: {{{VALIDATION}}}"))], &[("app", 1)]);
    let open_to_all = route("app", "app.test", &[&spec("")], &[("app", 1)]);
    let folder = Folder::with(&(served("app", service.port) + &made.secret("cert") + &bundle("ca", &[&ours])));
    folder.write("route.yaml", &asking);
    let sheave = Sheave::start(&folder);
    let mut client = open(&sheave, &Device::new(&made, Some(ours.signs_plainly("device-1")))).await;
    folder.write("route.yaml", &open_to_all);
    let stranger = Device::new(&made, None);
    super::living::until("the open route", || async { (stranger.ask(&sheave, "").await == 101).then_some(()) }).await;
    client.echo("still here").await;
}
