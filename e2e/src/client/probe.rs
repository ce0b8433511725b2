//! New handshakes all the time: each opens, wants one echo and closes.

use super::dial::Target;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What became of the handshakes.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many there were.
    pub tried: usize,
    /// Those without a 101, with what came instead.
    pub refused: Vec<String>,
    /// Sockets that broke before their echo was back, other than by a Close.
    pub broken: Vec<String>,
}

/// Handshakes under way.
pub struct Probe {
    task: JoinHandle<Outcome>,
    stop: watch::Sender<bool>,
}

impl Probe {
    /// Starts a handshake `every` so often, one at a time.
    pub fn start(target: Target, every: Duration) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut turn = tokio::time::interval(every);
            turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut outcome = Outcome::default();
            while !*stopped.borrow() {
                turn.tick().await;
                outcome.tried += 1;
                match target.open().await {
                    Err(error) => outcome.refused.push(error.to_string()),
                    Ok(mut socket) => match socket.echo("probe").await {
                        // A Close instead of the echo is fair: the pod may have begun to drain.
                        Err(error) if error.to_string().starts_with("1006") => outcome.broken.push(error.to_string()),
                        Err(_) => {}
                        Ok(()) => {
                            let _only_the_opening_counts = socket.close(1000).await;
                        }
                    },
                }
            }
            outcome
        });
        Self { task, stop }
    }

    /// Stops and tells.
    pub async fn stop(self) -> anyhow::Result<Outcome> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}
