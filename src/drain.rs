//! The stop signal: how far the process is on its way from serving to gone.
//!
//! It decides nothing about sessions; it only tells listeners, readiness and the session register which phase it
//! is. Phases only move forward.

use tokio::sync::watch;

/// How far the stop has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is served.
    #[default]
    Serving,
    /// Not ready any more, so that no new client is sent here; those that come are still served.
    Unready,
    /// Nothing new is accepted; live sessions are being closed.
    Closing,
    /// What is left is cut.
    Stopped,
}

/// The side that moves the phase on.
#[derive(Debug, Default)]
pub struct Drain(watch::Sender<Phase>);

impl Drain {
    /// Moves on to `phase`; an earlier one than the current is ignored.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| std::mem::replace(current, phase.max(*current)) < phase);
    }

    /// A view of the phase.
    pub fn watch(&self) -> Draining {
        Draining(self.0.subscribe())
    }
}

/// A view of the phase, cheap to clone.
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<Phase>);

impl Draining {
    /// The current phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` is reached. A dropped [`Drain`] counts as [`Phase::Stopped`].
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|current| *current >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_never_goes_back() {
        let drain = Drain::default();
        let mut view = drain.watch();
        drain.advance(Phase::Closing);
        drain.advance(Phase::Unready);
        assert_eq!(view.phase(), Phase::Closing);
        view.reached(Phase::Unready).await;
        drop(drain);
        view.reached(Phase::Stopped).await;
    }
}
