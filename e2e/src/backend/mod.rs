//! A WebSocket service that does as it is told: echo by default, anything else by the URL of the connection
//! ([`script::Script`]). It decides how a pod of it behaves at SIGTERM, and nothing about single connections.
//!
//! | port | |
//! |---|---|
//! | 8080 | WebSocket in clear |
//! | 8443 | WebSocket over TLS, when `TLS_DIR` holds `tls.crt` and `tls.key` |
//! | 8081 | `/ready`, `/ready/on`, `/ready/off`, `/counts`, see [`control`] |

mod control;
pub mod ledger;
pub mod script;
pub mod session;
mod tls;

use anyhow::{Context, Result, bail};
use ledger::Ledger;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What a pod does at SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// Ends at once; the kernel ends the sockets.
    Exit,
    /// Sends Close 1001 on every socket, waits for the answers, ends.
    Close,
    /// Nothing, until it is killed.
    Ignore,
}

/// What a pod is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Said by every hello.
    pub pod: String,
    /// See [`OnTerm`].
    pub on_term: OnTerm,
    /// Where `tls.crt` and `tls.key` are.
    pub tls: Option<PathBuf>,
}

impl Settings {
    /// `POD_NAME`, `ON_TERM` (exit, close, ignore), `TLS_DIR`.
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let on_term = match variable("ON_TERM").as_deref() {
            None | Some("exit") => OnTerm::Exit,
            Some("close") => OnTerm::Close,
            Some("ignore") => OnTerm::Ignore,
            Some(other) => bail!("ON_TERM is exit, close or ignore, not {other:?}"),
        };
        let tls = variable("TLS_DIR").map(PathBuf::from);
        Ok(Self { pod: variable("POD_NAME").unwrap_or_else(|| "backend".to_owned()), on_term, tls })
    }
}

/// What every connection of a pod shares.
struct Pod {
    name: String,
    ledger: Ledger,
    /// Turns true when every socket is to be closed.
    closing: watch::Receiver<bool>,
}

/// Serves until SIGTERM has been dealt with.
pub async fn run(settings: Settings) -> Result<()> {
    let (close, closing) = watch::channel(false);
    let pod = Arc::new(Pod { name: settings.pod, ledger: Ledger::default(), closing });
    let seen = Arc::clone(&pod);
    serve(8081, move |stream| control::answer(stream, Arc::clone(&seen))).await?;
    if let Some(folder) = &settings.tls {
        let acceptor = tls::acceptor(folder)?;
        let pod = Arc::clone(&pod);
        serve(8443, move |stream| {
            let (acceptor, pod) = (acceptor.clone(), Arc::clone(&pod));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    session::serve(stream, pod).await;
                }
            }
        })
        .await?;
    }
    let talked_to = Arc::clone(&pod);
    serve(8080, move |stream| session::serve(stream, Arc::clone(&talked_to))).await?;
    println!("{} serves", pod.name);
    let mut term = signal(SignalKind::terminate())?;
    loop {
        term.recv().await;
        println!("{} got SIGTERM: {:?}", pod.name, settings.on_term);
        match settings.on_term {
            OnTerm::Exit => return Ok(()),
            OnTerm::Ignore => {}
            OnTerm::Close => {
                close.send_replace(true);
                pod.ledger.emptied().await;
                return Ok(());
            }
        }
    }
}

async fn serve<F: Future<Output = ()> + Send + 'static>(
    port: u16,
    answer: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> Result<()> {
    // Both families where there are both.
    let listener = match TcpListener::bind(("::", port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("port {port}"))?,
    };
    tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        }
    });
    Ok(())
}
