//! What a change of the folder does to a running Sheave: new values for new sessions, at once, and peace for the rest.
//!
//! Which changes end sessions, and how, is told in `lifecycle.rs`.

mod living;

use living::backend::Service;
use living::certificate::{self, Made};
use living::client::{Client, open, open_tls, refused, tls, try_open, upgrade};
use living::folder::{Folder, route, simple};
use living::{Sheave, until};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

const GENERATION: &str = "sheave_config_generation";
const SUCCESSFUL: &str = "sheave_config_last_reload_successful";

/// Waits until a table newer than `before` is live and answers its generation.
async fn newer(sheave: &Sheave, before: f64) -> f64 {
    until("a newer table", || async { sheave.metric(GENERATION, &[]).await.filter(|now| *now > before) }).await
}

async fn generation(sheave: &Sheave) -> f64 {
    sheave.metric(GENERATION, &[]).await.expect("the generation is told")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_live_in_under_a_second() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("echo", service.port, &[]));
    let sheave = Sheave::start(&folder);
    for number in 0..5 {
        let host = format!("new-{number}.test");
        assert_eq!(refused(sheave.ws, &format!("{host}/")).await, 404);
        folder.write("new.yaml", &route("new", &host, &[], &[("echo", 1)]));
        let since = Instant::now();
        until("the new host answers", || async { try_open(sheave.ws, &format!("{host}/")).await.ok() }).await;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(1), "change {number} took {took:?}");
    }
    folder.remove("new.yaml");
    until("the host is gone", || async { (refused_now(&sheave, "new-4.test/").await == Some(404)).then_some(()) })
        .await;
}

/// The status of a refusal, `None` while the host still answers.
async fn refused_now(sheave: &Sheave, host: &str) -> Option<u16> {
    match try_open(sheave.ws, host).await {
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Some(answer.status().as_u16()),
        _ => None,
    }
}

/// Exchanges messages until told to stop; answers how many.
async fn chat(mut client: Client, stop: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        client.echo(&count.to_string()).await;
        count += 1;
    }
    assert_eq!(client.close(1000).await.code, 1000);
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_changes_of_one_route_touch_no_session_of_another() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("still", service.port, &[]));
    folder.write("busy.yaml", &route("busy", "busy.test", &[], &[("still", 1)]));
    let sheave = Sheave::start(&folder);
    let stop = Arc::new(AtomicBool::new(false));
    let mut chats = Vec::new();
    for _ in 0..8 {
        chats.push(tokio::spawn(chat(open(sheave.ws, "still.test/").await, Arc::clone(&stop))));
    }
    let mut now = generation(&sheave).await;
    for number in 0..100 {
        let (timeouts, host) = (format!("timeouts: {{idle: {}s}}", 100 + number), format!("busy-{}.test", number % 3));
        folder.write("busy.yaml", &route("busy", &host, &[&timeouts], &[("still", 1)]));
        now = newer(&sheave, now).await;
    }
    stop.store(true, Ordering::Relaxed);
    for chat in chats {
        let count = chat.await.expect("no session closes and every message comes back, in order");
        assert!(count > 100, "only {count} messages were exchanged");
    }
    assert_eq!(service.opened(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_the_last_good_table_until_it_is_mended() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("echo", service.port, &[]));
    let good = route("other", "other.test", &[], &[("echo", 1)]);
    folder.write("other.yaml", &good);
    let sheave = Sheave::start(&folder);
    sheave.metric_becomes(SUCCESSFUL, &[], 1.0).await;
    let mut client = open(sheave.ws, "other.test/").await;
    for broken in ["kind: [", &good.replace("backendRefs", "backendRef")] {
        folder.write("other.yaml", broken);
        sheave.metric_becomes(SUCCESSFUL, &[], 0.0).await;
        client.echo("untouched").await;
        open(sheave.ws, "other.test/").await.echo("still served").await;
        open(sheave.ws, "echo.test/").await.echo("served too").await;
        folder.write("other.yaml", &good);
        sheave.metric_becomes(SUCCESSFUL, &[], 1.0).await;
    }
    folder.write("other.yaml", &route("other", "mended.test", &[], &[("echo", 1)]));
    until("the mended file is live", || async { try_open(sheave.ws, "mended.test/").await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_timeouts_hold_for_new_sessions_only() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("echo", service.port, &[]));
    let sheave = Sheave::start(&folder);
    let mut old = open(sheave.ws, "echo.test/").await;
    let before = generation(&sheave).await;
    folder.write("all.yaml", &simple("echo", service.port, &["timeouts: {idle: 1s}"]));
    newer(&sheave, before).await;
    let mut new = open(sheave.ws, "echo.test/").await;
    assert_eq!(new.ended().await.code, 1001);
    old.echo("idle for longer than the new session was").await;
}

/// The certificate shown for this server name.
async fn shown(sheave: &Sheave, name: &str, config: &Arc<ClientConfig>) -> Option<CertificateDer<'static>> {
    let stream = tls(sheave.wss, name, config).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned())
}

fn with_certificate(name: &str, service: u16, made: &Made) -> String {
    let tls = format!("tls: {{certificateRefs: [{{name: {name}}}]}}");
    simple(name, service, &[&tls]) + &made.secret(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_serves_new_handshakes_and_leaves_open_sockets_alone() {
    let service = Service::echo().await;
    let (old, new) = (certificate::make(&["a.test"]), certificate::make(&["a.test"]));
    let folder = Folder::with(&with_certificate("a", service.port, &old));
    let sheave = Sheave::start(&folder);
    let mut client = open_tls(sheave.wss, "a.test", &certificate::trusting(&[&old])).await;
    client.echo("before").await;
    folder.write("all.yaml", &with_certificate("a", service.port, &new));
    until("the new certificate is shown", || async {
        let both = certificate::trusting(&[&old, &new]); // a fresh one remembers no session
        (shown(&sheave, "a.test", &both).await.expect("one of the two is shown") == new.der).then_some(())
    })
    .await;
    client.echo("after").await;
    assert_eq!(client.close(1000).await.code, 1000);
    open_tls(sheave.wss, "a.test", &certificate::trusting(&[&new])).await.echo("new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_name_picks_the_certificate() {
    let service = Service::echo().await;
    let (a, b) = (certificate::make(&["a.test"]), certificate::make(&["b.test"]));
    let folder = Folder::with(&with_certificate("a", service.port, &a));
    folder.write("b.yaml", &with_certificate("b", service.port, &b));
    let sheave = Sheave::start(&folder);
    let config = certificate::trusting(&[&a, &b]);
    assert_eq!(shown(&sheave, "a.test", &config).await, Some(a.der.clone()));
    assert_eq!(shown(&sheave, "b.test", &config).await, Some(b.der.clone()));
    open_tls(sheave.wss, "b.test", &config).await.echo("over b").await;
    assert_eq!(refused(sheave.ws, "a.test/").await, 403, "a route with tls answers on TLS only");
}

/// A session store that offers what it has to every server name, as no honest client would.
#[derive(Debug)]
struct Careless(ClientSessionMemoryCache);

impl Careless {
    fn any() -> ServerName<'static> {
        ServerName::try_from("any.test").expect("a valid name")
    }
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(Self::any(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&Self::any())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(Self::any(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&Self::any())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&Self::any());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(Self::any(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&Self::any())
    }
}

/// Opens a WebSocket under a name and answers how the TLS handshake went and which certificate was shown.
async fn kind(sheave: &Sheave, name: &str, config: &Arc<ClientConfig>) -> (HandshakeKind, CertificateDer<'static>) {
    let stream = tls(sheave.wss, name, config).await.unwrap_or_else(|error| panic!("TLS to {name}: {error}"));
    let session = stream.get_ref().1;
    let kind = session.handshake_kind().expect("the handshake is done");
    let shown = session.peer_certificates().expect("a certificate is shown")[0].clone().into_owned();
    let mut client = upgrade(Box::new(stream), name).await; // tickets come with the first bytes
    client.echo("hello").await;
    assert!(matches!(client.close(1000).await.messages[..], [] | [Message::Pong(_)]));
    (kind, shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_session_is_resumed_under_its_own_name_and_no_other() {
    let service = Service::echo().await;
    let (a, b) = (certificate::make(&["a.test"]), certificate::make(&["b.test"]));
    let folder = Folder::with(&with_certificate("a", service.port, &a));
    folder.write("b.yaml", &with_certificate("b", service.port, &b));
    let sheave = Sheave::start(&folder);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut config = Arc::unwrap_or_clone(certificate::trusting_with(&[&a, &b], &[version]));
        config.resumption = Resumption::store(Arc::new(Careless(ClientSessionMemoryCache::new(32))));
        let config = Arc::new(config);
        let name: ProtocolVersion = version.version;
        assert_ne!(kind(&sheave, "a.test", &config).await.0, HandshakeKind::Resumed, "{name:?}: nothing to resume");
        assert_eq!(kind(&sheave, "a.test", &config).await.0, HandshakeKind::Resumed, "{name:?}: under its own name");
        let (kind, shown) = kind(&sheave, "b.test", &config).await;
        assert_ne!(kind, HandshakeKind::Resumed, "{name:?}: under another name");
        assert_eq!(shown, b.der, "{name:?}");
    }
}
