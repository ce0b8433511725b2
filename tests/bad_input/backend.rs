//! The service behind the route of many rows at once: it takes every connection, reads what comes first, and keeps it
//! for the row whose marker it bears. What no row takes was not to come.

use crate::support::{DEADLINE, Wire};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// The header line that bears a row's marker.
pub(crate) const MARK: &str = "X-Row: ";

/// A listener and what came to it.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    kept: Arc<Kept>,
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct Kept {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Connections that came.
    accepted: usize,
    /// Connections whose first head, or end, was read.
    read: usize,
    /// Those that no row has taken, with their markers.
    unclaimed: Vec<(String, Wire)>,
}

impl Backend {
    /// Listens on a free port, by TLS if there is a configuration.
    pub(crate) fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (kept, stopped) = (Arc::<Kept>::default(), Arc::<AtomicBool>::default());
        let (keeping, until) = (Arc::clone(&kept), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.expect("a connection can be taken");
                keeping.change(|state| state.accepted += 1);
                let (keeping, tls) = (Arc::clone(&keeping), tls.clone());
                std::thread::spawn(move || {
                    let wire = match tls {
                        None => Wire::plain(stream),
                        Some(config) => Wire::accept_tls(stream, config),
                    };
                    keeping.keep(wire);
                });
            }
        });
        Self { address, kept, stopped }
    }

    /// Takes the connection that bears `marker`, its head unread.
    pub(crate) fn claim(&self, marker: &str) -> Wire {
        self.kept.wait(&format!("the proxy does not dial for {marker}"), |state| {
            let at = state.unclaimed.iter().position(|(of, _)| of == marker)?;
            Some(state.unclaimed.swap_remove(at).1)
        })
    }

    /// What came first in each connection that nobody took. Waits for those that are still being read.
    pub(crate) fn unclaimed(&self) -> Vec<String> {
        self.kept.wait("a connection without a head that does not end", |state| {
            let shown = |(_, wire): &(String, Wire)| String::from_utf8_lossy(wire.heard()).into_owned();
            (state.read == state.accepted).then(|| state.unclaimed.iter().map(shown).collect())
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // the accept that is under way returns
    }
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Reads what comes first, and keeps the connection.
    fn keep(&self, mut wire: Wire) {
        // A connection that says nothing to its deadline is kept as it is.
        let reading = std::panic::AssertUnwindSafe(|| {
            while !wire.heard().windows(4).any(|end| end == b"\r\n\r\n") && wire.hears() {}
        });
        let _ = std::panic::catch_unwind(reading);
        let text = String::from_utf8_lossy(wire.heard()).into_owned();
        let marker = text.lines().find_map(|line| line.strip_prefix(MARK)).unwrap_or_default().to_owned();
        self.change(|state| {
            state.unclaimed.push((marker, wire));
            state.read += 1;
        });
    }

    fn wait<T>(&self, what: &str, mut condition: impl FnMut(&mut State) -> Option<T>) -> T {
        let limit = Instant::now() + DEADLINE;
        let mut state = self.state();
        loop {
            if let Some(found) = condition(&mut state) {
                return found;
            }
            let left = limit.checked_duration_since(Instant::now()).unwrap_or_else(|| panic!("{what}"));
            state = self.changed.wait_timeout(state, left).expect("nobody panics with it").0;
        }
    }
}
