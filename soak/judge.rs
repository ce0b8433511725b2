//! Whether a session went as planned: how it ended, and whether everything that had to arrive did.
//!
//! Without a fault everything arrives. Where Sheave ends a session, all that the client had sent before its own Close
//! arrives at the backend. Where a side breaks off, what did arrive is a beginning of what was sent, in order.

use crate::ledger::{Ended, Excuses, Facts, Ledger};
use crate::plan::End;
use std::time::Duration;

/// How long a TLS handshake may take.
const TLS_HANDSHAKE: Duration = Duration::from_secs(5);

/// What is wrong with a session; nothing, if all is zero.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) corrupt: u64,
    pub(crate) repeated: u64,
    /// Why its end was not to be expected.
    pub(crate) unexpected: Option<String>,
}

impl Faults {
    pub(crate) fn is_none(&self) -> bool {
        self.lost + self.corrupt + self.repeated == 0 && self.unexpected.is_none()
    }
}

/// Judges a session that is over on both sides.
pub(crate) fn judge(ledger: &Ledger, ended: &Ended) -> Faults {
    let facts = ledger.facts();
    let mut faults = Faults {
        lost: facts.up.lost + facts.down.lost,
        corrupt: facts.up.corrupt + facts.down.corrupt,
        // A handshake that reaches a second backend is a session too many.
        repeated: facts.up.repeated + facts.down.repeated + u64::from(facts.reached.saturating_sub(1)),
        unexpected: None,
    };
    faults.lost += missing(ledger, &facts, ended);
    faults.unexpected = unexpected(ledger, &facts, ended).or_else(|| {
        let lives_on = facts.reached > 0 && !facts.served;
        lives_on.then(|| "the backend was never told of the end".to_owned())
    });
    faults
}

/// What had to arrive, pongs included, and did not.
fn missing(ledger: &Ledger, facts: &Facts, ended: &Ended) -> u64 {
    if !facts.upgraded {
        return 0;
    }
    let (plan, excuses) = (&ledger.plan, facts.excuses);
    let (no_more, all_up) = (facts.sent.saturating_sub(facts.got), facts.unanswered.0);
    let up = match (plan.end, ended) {
        (End::BackendFin(_) | End::BackendReset(_), _) => 0,
        (End::Reset { .. }, _) if !facts.rested => 0,
        // Bounded: a backend that takes it slowly may be cut.
        (End::HalfClose, _) if !facts.rested && (!excuses.is_none() || plan.is_slow()) => 0,
        (End::HalfClose, _) if !facts.rested => no_more,
        // Sheave keeps what the client sent before its own Close.
        (_, Ended::Close(..)) if excuses.only(&[Excuses::DRAIN, Excuses::MOVED]) => no_more,
        _ => 0,
    };
    if !excuses.is_none() {
        return up;
    }
    let down = match (plan.end, ended) {
        (End::Close { .. } | End::Stay, Ended::Close(..)) => {
            facts.echoed.saturating_sub(facts.returned) + facts.got.saturating_sub(facts.echoed) + all_up
        }
        (End::BackendClose(..) | End::BackendFin(_), Ended::Close(..)) => facts.echoed.saturating_sub(facts.returned),
        _ => 0,
    };
    up + down
}

/// Why this end was not to be expected, if it was not.
fn unexpected(ledger: &Ledger, facts: &Facts, ended: &Ended) -> Option<String> {
    let excuses = facts.excuses;
    // Where nobody is left to end the message, or nothing of it is to be waited for, it stays unfinished.
    let broke_off = excuses.has(Excuses::RESTART) || matches!(ledger.plan.end, End::BackendReset(_));
    let breaks = broke_off || matches!(ended, Ended::Close(1008 | 1014, _));
    if facts.torn && !breaks {
        return Some("a Close came within a message".to_owned());
    }
    if facts.upgraded && ledger.plan.end == End::Refused {
        return Some("a wrong credential was let in".to_owned());
    }
    let expected = match ended {
        Ended::Left => matches!(ledger.plan.end, End::Reset { .. }),
        // Where its route is gone, so is the certificate. A machine that is so busy that a TLS handshake takes longer than
        // it may breaks no promise.
        Ended::NoAnswer(_, after) => {
            let gone = excuses.has(Excuses::MOVED) && ledger.plan.tls;
            excuses.has(Excuses::DRAIN) || gone || (ledger.plan.tls && *after >= TLS_HANDSHAKE)
        }
        Ended::Refused(status) if ledger.plan.end == End::Refused && ledger.plan.route.refusal() == Some(*status) => {
            true
        }
        Ended::Refused(401) => excuses.has(Excuses::REVOKED) || excuses.has(Excuses::EXPIRED),
        Ended::Refused(404) => excuses.has(Excuses::MOVED),
        Ended::Refused(502..=504) => {
            excuses.has(Excuses::RESTART) || excuses.has(Excuses::MOVED) || excuses.has(Excuses::DRAIN)
        }
        Ended::Refused(_) | Ended::Stuck => false,
        Ended::Close(code, reason) => planned(ledger, facts, *code) || excused(excuses, *code, reason),
        Ended::Cut { within, reset } => match ledger.plan.end {
            // Nobody is left to say a Close to, or to say one.
            End::HalfClose => true,
            End::BackendReset(_) => *within || *reset,
            _ => excuses.has(Excuses::RESTART) && (*within || *reset),
        },
    };
    (!expected).then(|| "not among what its plan and the disturbances allow".to_owned())
}

/// Whether the plan says that the client gets this code.
fn planned(ledger: &Ledger, facts: &Facts, code: u16) -> bool {
    match ledger.plan.end {
        _ if facts.rested && code == 1000 => true,
        End::BackendClose(_, own) | End::Close { code: own, .. } => code == own,
        End::BackendFin(_) | End::BackendReset(_) => code == 1014,
        End::Stay => code == 1000,
        End::HalfClose | End::Refused | End::Reset { .. } => false,
    }
}

/// Whether a disturbance explains it.
fn excused(excuses: Excuses, code: u16, reason: &str) -> bool {
    match code {
        1001 => excuses.has(Excuses::DRAIN),
        1008 => {
            (excuses.has(Excuses::REVOKED) && reason == "credential revoked")
                || (excuses.has(Excuses::EXPIRED) && reason == "token expired")
        }
        1012 => excuses.has(Excuses::MOVED) || excuses.has(Excuses::RESTART),
        1014 => excuses.has(Excuses::RESTART),
        _ => false,
    }
}
