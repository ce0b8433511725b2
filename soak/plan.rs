//! What one session is to do, all of it drawn from the seed and the session's number.
//!
//! Decides the load, and with it what each end may see; `judge` holds them to it.

use crate::message::LARGEST;
use fastrand::Rng;
use std::ops::Range;

/// How many API keys there are, each of another consumer.
pub(crate) const CONSUMERS: usize = 8;

/// A route of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Asks a service that decides.
    Asked,
    /// Asks for a client certificate.
    Certified,
    /// Asks for an API key.
    Keyed,
    /// Comes and goes, and so does the first of its two endpoints.
    Moving,
    /// Asks nothing; two endpoints.
    Open,
    /// Asks for a name and a password.
    Password,
    /// Sheave pings both sides.
    Pinged,
    /// Clients are held to a rate, and little is held for a slow side.
    Throttled,
    /// Asks for a JSON Web Token.
    Token,
}

impl Route {
    pub(crate) const ALL: [Self; 9] = [
        Self::Asked,
        Self::Certified,
        Self::Keyed,
        Self::Moving,
        Self::Open,
        Self::Password,
        Self::Pinged,
        Self::Throttled,
        Self::Token,
    ];

    /// Its name; its host is `NAME.test`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Certified => "certified",
            Self::Password => "password",
            Self::Keyed => "keyed",
            Self::Moving => "moving",
            Self::Open => "open",
            Self::Pinged => "pinged",
            Self::Throttled => "throttled",
            Self::Token => "token",
        }
    }

    /// The status of a handshake without the right credential; `None` where none is asked for.
    pub(crate) fn refusal(self) -> Option<u16> {
        match self {
            Self::Asked | Self::Keyed | Self::Password | Self::Token => Some(401),
            Self::Certified => Some(403),
            Self::Moving | Self::Open | Self::Pinged | Self::Throttled => None,
        }
    }

    /// The backends that it may reach, by number.
    pub(crate) fn backends(self) -> Range<usize> {
        match self {
            Self::Open => 0..2,
            Self::Asked | Self::Certified | Self::Password | Self::Pinged | Self::Throttled => 2..3,
            Self::Keyed | Self::Token => 3..4,
            Self::Moving => 4..6,
        }
    }
}

/// How a session is to end, unless something else ends it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The backend closes with this code after so many echoes.
    BackendClose(u64, u16),
    /// The backend ends its stream after so many echoes.
    BackendFin(u64),
    /// The backend resets its connection after so many echoes.
    BackendReset(u64),
    /// The client closes with this code; at once after its last message, or when all have come back.
    Close { code: u16, at_once: bool },
    /// The client ends its stream without a Close.
    HalfClose,
    /// The handshake must be refused: its credential is wrong.
    Refused,
    /// The client resets its connection, within a frame or between two.
    Reset { within: bool },
    /// Nobody ends it: the client closes when the load is to rest.
    Stay,
}

impl End {
    /// Its row in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BackendClose(..) => "backend closes",
            Self::BackendFin(_) => "backend ends its stream",
            Self::BackendReset(_) => "backend resets",
            Self::Close { .. } => "client closes",
            Self::HalfClose => "client half-closes",
            Self::Refused => "wrong credential",
            Self::Reset { .. } => "client resets",
            Self::Stay => "stays",
        }
    }
}

/// A session's plan.
#[allow(clippy::struct_excessive_bools)] // drawn independently of each other
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) route: Route,
    pub(crate) tls: bool,
    /// The API key, by number.
    pub(crate) consumer: Option<usize>,
    /// How long its token lives, in seconds, if that is to end it.
    pub(crate) expires: Option<u64>,
    /// How many messages the client sends; those of a session that stays come until it is told to end.
    pub(crate) messages: u64,
    /// Milliseconds between two messages, at most.
    pub(crate) think: u64,
    /// Whether either side now and then stops within a frame.
    pub(crate) stalls: bool,
    /// Whether the client, the backend, reads slowly.
    pub(crate) slow_client: bool,
    pub(crate) slow_backend: bool,
    pub(crate) end: End,
}

impl Plan {
    /// The plan of session `id`.
    pub(crate) fn new(seed: u64, id: u64) -> (Self, Rng) {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ id);
        let route = Route::ALL[rng.usize(..Route::ALL.len())];
        let messages = rng.u64(1..30);
        let after = rng.u64(1..=messages);
        let end = match rng.u8(..100) {
            0..40 => {
                let code = [1000, 1001, 3000, 4321][rng.usize(..4)];
                End::Close { code, at_once: rng.bool() }
            }
            40..50 => End::BackendClose(after, [1000, 1011, 4000][rng.usize(..3)]),
            50..58 => End::BackendFin(after),
            58..66 => End::BackendReset(after),
            66..76 => End::Reset { within: rng.bool() },
            76..84 => End::HalfClose,
            84..87 if route.refusal().is_some() => End::Refused,
            _ => End::Stay,
        };
        let brief = route == Route::Token && end == End::Stay && rng.bool();
        // Whom Sheave pings must not be so slow that it is taken for dead.
        let may_be_slow = route != Route::Pinged;
        let plan = Self {
            route,
            tls: rng.u8(..100) < 40 || route == Route::Certified,
            consumer: (route == Route::Keyed).then(|| rng.usize(..CONSUMERS)),
            expires: brief.then(|| rng.u64(2..8)),
            messages: if end == End::Stay { u64::MAX } else { messages },
            think: if end == End::Stay { 400 } else { [0, 5, 50, 200][rng.usize(..4)] },
            stalls: rng.u8(..100) < 25,
            slow_client: may_be_slow && rng.u8(..100) < 10,
            slow_backend: may_be_slow && rng.u8(..100) < 10,
            end,
        };
        (plan, rng)
    }

    /// Whether a side is so slow that a bounded wait may pass before all has arrived.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow_client || self.slow_backend || self.stalls || self.route == Route::Throttled
    }
}

/// The size of a message: most are small, some are as large as they may be.
pub(crate) fn size(rng: &mut Rng) -> usize {
    match rng.u8(..100) {
        0..5 => 0,
        5..70 => rng.usize(1..1024),
        70..92 => rng.usize(1024..(32 << 10)),
        _ => rng.usize((32 << 10)..=LARGEST),
    }
}
