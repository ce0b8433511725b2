//! The wall clock is set while sessions are live: forward, and back.
//!
//! Nobody may set this machine's, so the proxy runs on libfaketime, which adds to the wall clock what a file says and
//! leaves the monotonic one alone.

use crate::support::Wire;
use crate::world::{BACKEND, Launch, TLS, World, echo};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECRET: &[u8] = b"a shared secret of more than thirty-two bytes";

const DAY: Duration = Duration::from_secs(86_400);

/// The library, wherever the machine's architecture has it.
fn library() -> PathBuf {
    let lib = std::fs::read_dir("/usr/lib").expect("a file system").filter_map(Result::ok);
    let found = lib.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime (package libfaketime) is below /usr/lib")
}

/// A clock that can be set.
struct Clock(tempfile::TempDir);

impl Clock {
    fn new() -> Self {
        let clock = Self(tempfile::tempdir().expect("a folder"));
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("offset")
    }

    /// Sets it to so many seconds from the right time.
    fn set(&self, offset: i64) {
        let draft = self.0.path().join("draft");
        std::fs::write(&draft, format!("{offset:+}\n")).expect("a file");
        std::fs::rename(draft, self.file()).expect("a file");
    }

    /// What makes a program go by it.
    fn launch(&self) -> Launch {
        let assign = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut by = vec!["env".to_owned(), assign("LD_PRELOAD", &library())];
        by.push(assign("FAKETIME_TIMESTAMP_FILE", &self.file()));
        by.extend(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"].map(str::to_owned));
        Launch { by, ..Launch::default() }
    }
}

/// A header line with a token that is good for so many seconds.
fn token(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let expires = i64::try_from(now).expect("it is not that late") + seconds;
    let key = EncodingKey::from_secret(SECRET);
    let token = encode(&Header::default(), &json!({"sub": "alice", "exp": expires}), &key).expect("a token");
    format!("Authorization: Bearer {token}")
}

/// A world that asks for tokens, and its clock.
fn world(spec: &str) -> (World, Clock) {
    let clock = Clock::new();
    let provider =
        "authentication: {providers: [{name: tokens, type: JWT, jwt: {secretRef: {name: shared}, leeway: 0s}}]}";
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: shared}}\ndata: {{key: {}}}\n",
        BASE64_STANDARD.encode(SECRET)
    );
    let objects = crate::support::objects(&[BACKEND], &format!("{provider}\n{spec}")) + &secret;
    (World::start(&objects, &clock.launch(), true), clock)
}

fn expired(client: &mut Wire) {
    assert_eq!(client.frame().close(), Some((1008, "token expired".to_owned())));
}

#[test]
#[ignore = "needs network namespaces: make faults"]
fn a_clock_set_forward_ends_the_sessions_whose_tokens_have_expired_and_no_others() {
    let (world, clock) = world("timeouts: {idle: 30s, close: 1s}");
    let hour = token(3600);
    let mut short = world.open_with(&hour);
    let mut long = world.open_with(&token(100_000));
    echo(&mut short, b"hello");
    echo(&mut long, b"hello");
    clock.set(7200);
    expired(&mut short);
    echo(&mut long, b"no timeout went by the wall clock");
    let labels = [("reason", "token_expired")];
    drop(short);
    world.metric_becomes("sheave_connections_closed_total", &labels, 1.0);
    assert_eq!(world.offer(&hour).answer().head.status(), 401);
    echo(&mut world.open_with(&token(100_000)), b"a token that is good still");

    clock.set(0);
    world.until("the proxy notices", || world.log().matches("the clock was set").count() == 2);
    echo(&mut world.open_with(&hour), b"good again");
    echo(&mut long, b"still");
    world.live(1);
    assert!(!world.log().contains("panicked"), "{}", world.log());
}

#[test]
#[ignore = "needs network namespaces: make faults"]
fn a_clock_set_back_keeps_sessions_for_longer_and_every_other_timer_runs_on() {
    let (world, clock) = world("timeouts: {idle: 10s, close: 1s}");
    let mut busy = world.open_with(&token(8));
    let mut idle = world.open_with(&token(100_000));
    echo(&mut busy, b"hello");
    clock.set(-7200);
    world.until("the proxy notices", || world.log().contains("the clock was set"));
    idle.wait_at_most(Duration::from_secs(20));
    // Past the eight seconds, and past the ten: no sooner can the idle one be closed.
    let reader = std::thread::spawn(move || idle.frame().close());
    while !reader.is_finished() {
        echo(&mut busy, b"by the wall clock the token is good for two hours");
        std::thread::sleep(Duration::from_millis(200)); // so that it is not idle, and not busy either
    }
    assert_eq!(reader.join().expect("a Close comes"), Some((1001, "idle timeout".to_owned())));
    echo(&mut world.open_with(&token(60)), b"new ones are let in");

    clock.set(0);
    expired(&mut busy);
    drop(busy);
    world.live(0);
    echo(&mut world.open_with(&token(60)), b"as before");
    assert!(!world.log().contains("panicked"), "{}", world.log());
}

/// An authority, and what it signs: good for a day.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn signs(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![usage];
        params.not_after = (SystemTime::now() + DAY).into();
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("it can be signed"), key)
    }
}

/// A client is let in by its certificate for as long as that is valid; the proxy's own is served all the same.
#[test]
#[ignore = "needs network namespaces: make faults"]
fn a_clock_set_past_the_end_of_certificates_ends_the_sessions_of_clients_and_serves_the_proxys_own() {
    let authority = Authority::new();
    let (own, own_key) = authority.signs("chat.example.com", ExtendedKeyUsagePurpose::ServerAuth);
    let (theirs, key) = authority.signs("device", ExtendedKeyUsagePurpose::ClientAuth);
    let spec = "hostnames: [chat.example.com]\ntls: {certificateRefs: [{name: own}], frontendValidation: \
                {caCertificateRefs: [{name: ca}]}}";
    let data = |text: &str| BASE64_STANDARD.encode(text);
    let more = format!(
        "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: own}}\n\
         data: {{tls.crt: {}, tls.key: {}}}\n\
         ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |\n    {}\n",
        data(&own.pem()),
        data(&own_key.serialize_pem()),
        authority.pem.replace("\r\n", "\n").trim_end().replace('\n', "\n    ")
    );
    let clock = Clock::new();
    let world = World::start(&(crate::support::objects(&[BACKEND], spec) + &more), &clock.launch(), true);
    let offer = || {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut client = world.client.inside(|| Wire::connect_tls_as(TLS, Some((theirs.der().clone(), key))));
        client.send(crate::support::offer("", ""));
        let status = client.answer().head.status();
        (client, status)
    };
    let (mut client, status) = offer();
    assert_eq!(status, 101, "{}", world.log());
    echo(&mut client, b"hello");
    clock.set(2 * i64::try_from(DAY.as_secs()).expect("a few"));
    expired(&mut client);
    drop(client);
    assert_eq!(offer().1, 403, "by TLS with a certificate that has expired");
    world.live(0);
    clock.set(0);
    let (mut client, status) = offer();
    assert_eq!(status, 101, "{}", world.log());
    echo(&mut client, b"as before");
}
