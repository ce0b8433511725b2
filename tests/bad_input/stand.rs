//! The stand of a table: a proxy before a service in clear and one before a service over TLS, sessions beside the rows,
//! and the way every row is run and judged. What a row does, its table says.

use crate::backend::{Backend, MARK};
use crate::living::certificate;
use crate::support::{DEADLINE, FIN, Harness, TEXT, Wire, frame, masked, objects, request, switching};
use sheave::app::Options;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Rows under way at a time. Most of them wait for the proxy.
const CREW: usize = 24;

/// What stands for the row's marker in bytes and lines.
pub(crate) const ROW: &str = "{row}";

/// How a row's client comes in and how the proxy goes on to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Clear,
    TlsFromTheClient,
    TlsToTheService,
}

/// Every way.
pub(crate) const WAYS: [Way; 3] = [Way::Clear, Way::TlsFromTheClient, Way::TlsToTheService];

/// One run of a row by a way.
pub(crate) struct Case<'c> {
    pub(crate) name: String,
    pub(crate) way: Way,
    pub(crate) run: Box<dyn Fn(&Run<'_>) + Send + Sync + 'c>,
}

impl<'c> Case<'c> {
    pub(crate) fn new(name: impl Into<String>, way: Way, run: impl Fn(&Run<'_>) + Send + Sync + 'c) -> Self {
        Self { name: name.into(), way, run: Box::new(run) }
    }
}

/// A proxy and the service behind its only route.
struct Half {
    backend: Backend,
    harness: Harness,
}

/// Both proxies.
pub(crate) struct Stand {
    clear: Half,
    tls: Half,
}

impl Stand {
    /// `spec` is more of the routes' spec, as lines of YAML.
    pub(crate) fn new(spec: &str, adjust: impl Fn(&mut Options)) -> Self {
        let clear = Backend::start(None);
        let made = certificate::make(&["chat.internal"]);
        let key = rustls_pki_types::pem::PemObject::from_pem_slice(made.key.as_bytes()).expect("a key");
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider's own versions")
                .with_no_client_auth()
                .with_single_cert(vec![made.der.clone()], key)
                .expect("they fit");
        let tls = Backend::start(Some(Arc::new(config)));
        let in_clear = objects(&[clear.address], spec);
        let by_tls = over_tls(&objects(&[tls.address], spec), &made.certificate);
        Self {
            clear: Half { harness: Harness::serving(&in_clear, &adjust), backend: clear },
            tls: Half { harness: Harness::serving(&by_tls, &adjust), backend: tls },
        }
    }

    fn half(&self, way: Way) -> &Half {
        if way == Way::TlsToTheService { &self.tls } else { &self.clear }
    }

    /// Runs all cases, with sessions beside them, and panics with everything that was not as it should be.
    pub(crate) fn judge(&self, cases: &[Case<'_>]) {
        let (beside, next) = (Beside::default(), AtomicUsize::new(0));
        let failures = Mutex::new(Vec::new());
        let fails = |name: String, what: Result<(), Box<dyn Any + Send>>| {
            if let Err(why) = what {
                failures.lock().expect("nobody panics with it").push(format!("{name}: {}", said(&*why)));
            }
        };
        let crew = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(at) else { return };
                let run = Run { stand: self, way: case.way, marker: format!("{at}") };
                let name = format!("row {at} [{:?}] {}", case.way, case.name);
                fails(name, catch_unwind(AssertUnwindSafe(|| (case.run)(&run))));
            }
        };
        std::thread::scope(|scope| {
            for way in WAYS {
                let (beside, fails) = (&beside, &fails);
                let run = Run { stand: self, way, marker: format!("beside-{way:?}") };
                scope.spawn(move || {
                    fails(
                        format!("the session beside the rows [{way:?}]"),
                        catch_unwind(AssertUnwindSafe(|| beside.talk(&run))),
                    );
                });
            }
            let rows: Vec<_> = (0..CREW).map(|_| scope.spawn(crew)).collect();
            for row in rows {
                row.join().expect("every row's panic is caught");
            }
            fails(
                "gauges while sessions are open".to_owned(),
                catch_unwind(AssertUnwindSafe(|| self.gauges_become(1.0))),
            );
            beside.stop();
        });
        fails("what is left".to_owned(), catch_unwind(AssertUnwindSafe(|| self.nothing_is_left())));
        let failures = failures.into_inner().expect("nobody panics with it");
        assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
    }

    /// After all rows: no connection reached a service that no row has taken, and no session is open.
    fn nothing_is_left(&self) {
        for way in [Way::Clear, Way::TlsToTheService] {
            // What was dialled before this has been taken by the time this has.
            drop(Run { stand: self, way, marker: format!("last-{way:?}") }.open("", ""));
            let came = self.half(way).backend.unclaimed();
            assert!(came.is_empty(), "reached the service, and no row expects it: {came:#?}");
        }
        self.gauges_become(0.0);
    }

    /// Waits until both proxies say that `least` sessions or more are open; none if it is 0.
    fn gauges_become(&self, least: f64) {
        for half in [&self.clear, &self.tls] {
            for gauge in ["sheave_connections_active", "sheave_backend_connections_active"] {
                let limit = Instant::now() + 2 * DEADLINE;
                loop {
                    let now = half.gauge(gauge);
                    if if least > 0.0 { now >= least } else { now == 0.0 } {
                        break;
                    }
                    assert!(Instant::now() < limit, "{gauge} is {now}, not {least}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

impl Half {
    /// The sum of a gauge's samples.
    fn gauge(&self, name: &str) -> f64 {
        let mut wire = Wire::connect(self.harness.admin);
        wire.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let samples = wire.answer().body;
        let samples =
            samples.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']));
        samples.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")).sum()
    }
}

/// What a row has in hand.
pub(crate) struct Run<'s> {
    stand: &'s Stand,
    way: Way,
    /// What its requests bear, so that the service knows them.
    pub(crate) marker: String,
}

impl Run<'_> {
    /// Connects as a client.
    pub(crate) fn connect(&self) -> Wire {
        let harness = &self.stand.half(self.way).harness;
        if self.way == Way::TlsFromTheClient { harness.connect_tls() } else { harness.connect() }
    }

    /// Connects to the TLS listener, without TLS.
    pub(crate) fn connect_beneath_tls(&self) -> Wire {
        Wire::connect(self.stand.half(self.way).harness.wss)
    }

    /// `bytes` with this row's marker where [`ROW`] is.
    pub(crate) fn marked(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(at) = rest.windows(ROW.len()).position(|found| found == ROW.as_bytes()) {
            out.extend([&rest[..at], self.marker.as_bytes()].concat());
            rest = &rest[at + ROW.len()..];
        }
        out.extend(rest);
        out
    }

    /// Connects as a client and sends `bytes`, marked. A proxy that has seen enough need not take them all.
    pub(crate) fn send(&self, bytes: &[u8]) -> Wire {
        let mut client = self.connect();
        let _ = client.try_send(self.marked(bytes));
        client
    }

    /// The service's end of this row's connection, its head unread.
    pub(crate) fn claim(&self) -> Wire {
        self.stand.half(self.way).backend.claim(&self.marker)
    }

    /// Opens a session with more header lines, separated by `|`, in the offer and in the answer.
    pub(crate) fn open(&self, offered: &str, answered: &str) -> (Wire, Wire) {
        let mut client = self.send(&offer(offered));
        let mut upstream = self.claim();
        let asked = upstream.head();
        upstream.send(switching(&asked, answered));
        let answer = client.head();
        assert_eq!(answer.status(), 101, "{answer:?}");
        (client, upstream)
    }
}

/// `objects` with a service that speaks TLS, by this certificate in PEM for `chat.internal`.
pub(crate) fn over_tls(objects: &str, certificate: &str) -> String {
    let objects = objects.replace(
        "{name: chat, port: 80}]\n",
        "{name: chat, port: 80, protocol: WSS}]\n    \
         backendTLS: {hostname: chat.internal, caCertificateRefs: [{name: ca}]}\n",
    );
    let authority = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"},
        "data": {"ca.crt": certificate}});
    format!("{objects}\n---\n{authority}\n")
}

/// A right handshake that bears the row's marker, with more header lines, separated by `|`.
pub(crate) fn offer(with: &str) -> Vec<u8> {
    handshake("GET /chat?room=1 HTTP/1.1", "", with)
}

/// As [`offer`], with `line` as the first and without the lines that start with `without`.
pub(crate) fn handshake(line: &str, without: &str, with: &str) -> Vec<u8> {
    request(line, without, &format!("{MARK}{ROW}|{with}")).into_bytes()
}

/// Sessions that go on while rows misbehave.
#[derive(Default)]
struct Beside {
    stopped: Mutex<bool>,
    stirred: Condvar,
}

impl Beside {
    /// Exchanges messages until it is stopped, each within the deadline of a read.
    fn talk(&self, run: &Run<'_>) {
        let (mut client, mut upstream) = run.open("", "");
        for number in 0_u32.. {
            let (up, down) = (masked(FIN | TEXT, &number.to_be_bytes()), frame(FIN | TEXT, &number.to_be_bytes()));
            client.send(&up);
            assert_eq!(upstream.take(up.len()), up, "message {number} to the service");
            upstream.send(&down);
            assert_eq!(client.take(down.len()), down, "message {number} to the client");
            let stopped = self.stopped.lock().expect("nobody panics with it");
            if *self.stirred.wait_timeout(stopped, Duration::from_millis(2)).expect("nobody panics with it").0 {
                return;
            }
        }
    }

    fn stop(&self) {
        *self.stopped.lock().expect("nobody panics with it") = true;
        self.stirred.notify_all();
    }
}

/// What a panic said.
fn said(why: &(dyn Any + Send)) -> &str {
    let text = why.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
