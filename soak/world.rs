//! What clients, backends and disturbances share: the sessions that are under way, the disturbances that meet them,
//! and the tally.

use crate::doors;
use crate::ledger::{Excuses, Ledger, Scope, Which};
use crate::objects::{Objects, SHARED_SECRET};
use crate::plan::{End, Plan, Route};
use crate::tally::Tally;
use rustls::ClientConfig;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Where a Sheave listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) ws: u16,
    pub(crate) wss: u16,
    pub(crate) admin: u16,
}

/// The sessions under way and what disturbs them, under one lock, so that none slips between the two.
#[derive(Default)]
struct Register {
    live: HashMap<u64, Arc<Ledger>>,
    disturbances: Vec<(u64, Scope, Excuses)>,
    numbers: u64,
    /// The drain that is under way.
    drain: Option<u64>,
}

/// Everything that is shared.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) objects: Objects,
    trust: [Arc<ClientConfig>; 2],
    ports: [Ports; 2],
    register: Mutex<Register>,
    next: AtomicU64,
    rests: [watch::Sender<bool>; 2],
    pub(crate) tally: Mutex<Tally>,
}

impl World {
    pub(crate) fn new(seed: u64, objects: Objects, ports: [Ports; 2]) -> Self {
        Self {
            seed,
            trust: objects.trust(),
            objects,
            ports,
            register: Mutex::default(),
            next: AtomicU64::new(1),
            rests: [watch::Sender::new(false), watch::Sender::new(true)],
            tally: Mutex::default(),
        }
    }

    pub(crate) fn ports(&self, which: Which) -> Ports {
        self.ports[which as usize]
    }

    /// How a client of this plan speaks TLS.
    pub(crate) fn trust(&self, plan: &Plan) -> Arc<ClientConfig> {
        let shows = plan.route == Route::Certified && plan.end != End::Refused;
        Arc::clone(&self.trust[usize::from(shows)])
    }

    /// Whether the load of a Sheave is to rest; that of the rolling one until it serves for the first time.
    pub(crate) fn rest(&self, which: Which) -> watch::Receiver<bool> {
        self.rests[which as usize].subscribe()
    }

    /// Has the load rest, or go on.
    pub(crate) fn set_rest(&self, which: Which, rests: bool) {
        self.rests[which as usize].send_replace(rests);
    }

    /// Waits until the load of a Sheave rests and no session of it is left; for ever when it is not known which.
    pub(crate) async fn rested(&self, which: Option<Which>) {
        let Some(which) = which else { return std::future::pending().await };
        let mut rest = self.rest(which);
        loop {
            let _ = rest.wait_for(|rests| *rests).await;
            if self.live(which) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Begins a session.
    pub(crate) fn enter(&self, which: Which) -> (Arc<Ledger>, fastrand::Rng) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (plan, rng) = Plan::new(self.seed, id);
        let ledger = Arc::new(Ledger::new(id, which, plan));
        let mut register = self.register();
        for (_, scope, excuse) in &register.disturbances {
            if ledger.is_in(*scope) {
                ledger.facts().excuses.add(*excuse);
            }
        }
        if ledger.plan.expires.is_some() {
            ledger.facts().excuses.add(Excuses::EXPIRED);
        }
        register.live.insert(id, Arc::clone(&ledger));
        (ledger, rng)
    }

    /// Ends it.
    pub(crate) fn leave(&self, id: u64) {
        self.register().live.remove(&id);
    }

    /// The session of this hexadecimal number.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Ledger>> {
        let id = u64::from_str_radix(id, 16).ok()?;
        self.register().live.get(&id).map(Arc::clone)
    }

    /// How many sessions of a Sheave are under way.
    pub(crate) fn live(&self, which: Which) -> usize {
        self.register().live.values().filter(|ledger| ledger.which == which).count()
    }

    /// Begins a disturbance: whom it meets has an excuse from now on, and whoever comes until it is over. Gives those
    /// that are there.
    pub(crate) fn disturb(&self, scope: Scope, excuse: Excuses) -> (u64, Vec<Arc<Ledger>>) {
        let mut register = self.register();
        register.numbers += 1;
        let number = register.numbers;
        register.disturbances.push((number, scope, excuse));
        let met: Vec<_> = register.live.values().filter(|ledger| ledger.is_in(scope)).map(Arc::clone).collect();
        for ledger in &met {
            ledger.facts().excuses.add(excuse);
        }
        (number, met)
    }

    /// Ends a disturbance.
    pub(crate) fn calm(&self, number: u64) {
        self.register().disturbances.retain(|(one, ..)| *one != number);
    }

    /// Says that the rolling Sheave drains, or that its successor serves.
    pub(crate) fn set_draining(&self, number: Option<u64>) {
        let over = std::mem::replace(&mut self.register().drain, number);
        if let Some(over) = over {
            self.calm(over);
        }
    }

    /// Whether any of these is still under way.
    pub(crate) fn any_of(&self, ledgers: &[Arc<Ledger>]) -> bool {
        let register = self.register();
        ledgers.iter().any(|ledger| register.live.contains_key(&ledger.id))
    }

    /// The header lines of a handshake that say who the client is.
    pub(crate) fn credential(&self, plan: &Plan) -> String {
        let wrong = plan.end == End::Refused;
        match plan.route {
            Route::Keyed => {
                let key = plan.consumer.and_then(|consumer| self.objects.key(consumer));
                let key = key.filter(|_| !wrong).unwrap_or_else(|| "no-key-of-anybody".to_owned());
                format!("X-Api-Key: {key}\r\n")
            }
            Route::Token => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let claims = serde_json::json!({"sub": "soak", "exp": now + plan.expires.unwrap_or(3600)});
                let key = if wrong { "another secret that nobody knows, of 32 bytes" } else { SHARED_SECRET };
                let key = jsonwebtoken::EncodingKey::from_secret(key.as_bytes());
                let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
                format!("Sec-WebSocket-Protocol: bearer.{}, soak\r\n", token.expect("it can be signed"))
            }
            Route::Password => doors::login(wrong),
            Route::Asked => doors::pass(wrong),
            _ => String::new(),
        }
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what may not happen at all.
    pub(crate) fn alarm(&self, what: String) {
        self.tally().alarm(what);
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
