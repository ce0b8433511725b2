//! The words of the command line and of the environment, as the parser finds them. What they mean is not decided here.

use super::capacity::CapacityWords;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "sheave", version, about, disable_help_subcommand = true)]
pub(super) struct Words {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::doc_markdown)] // these are help texts, printed as they stand
pub(super) enum Command {
    /// Write a WebSocketClass to the cluster, as soon as the cluster knows the kind; what the chart runs
    ApplyClass {
        /// The class, as JSON
        #[arg(value_name = "CLASS")]
        class: String,
    },
    /// Serve a folder of WebSocketRoute YAML; a change of a file is live within a second
    Serve {
        /// Folder of YAML files, as `kubectl apply` takes them
        #[arg(env = "SHEAVE_DIR", value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        run: RunWords,
    },
    /// Serve what a cluster's API server holds; what `helm install` runs
    Controller {
        #[command(flatten)]
        cluster: ClusterWords,
        #[command(flatten)]
        run: RunWords,
    },
    /// Serve one backend with no file at all
    Proxy {
        /// The backend: ws://HOST:PORT or wss://HOST:PORT
        #[arg(long, env = "SHEAVE_TO", value_name = "URL")]
        to: String,
        #[command(flatten)]
        run: RunWords,
    },
    /// Print the status every object of a folder would get; exit 1 if any is not accepted
    Check {
        /// Folder of YAML files
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Open a WebSocket, send a message, want it back, close with 1000; exit 1 if anything goes wrong
    Connect {
        /// Where to: a ws:// or wss:// URL
        #[arg(value_name = "URL")]
        url: String,
        /// What to send
        #[arg(long, default_value = "one line, never cut", value_name = "TEXT")]
        message: String,
        /// A header of the handshake, 'NAME: VALUE'; may be repeated. 'Host: NAME' replaces the URL's
        #[arg(short = 'H', long = "header", value_name = "HEADER")]
        headers: Vec<String>,
        /// Take any certificate; for wss:// only
        #[arg(long)]
        insecure: bool,
        /// For everything together; a route that is not there yet is tried again until then
        #[arg(long, default_value = "10s", value_name = "DURATION")]
        timeout: String,
    },
    /// Print which rule and backend a handshake would reach, and why not another
    Explain {
        /// Folder of YAML files
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Where the handshake goes: a ws:// or wss:// URL, query included
        #[arg(long)]
        url: String,
        /// A header of the handshake, 'NAME: VALUE'; may be repeated
        #[arg(short = 'H', long = "header", value_name = "HEADER")]
        headers: Vec<String>,
        /// A subprotocol it offers; may be repeated
        #[arg(long = "subprotocol", value_name = "NAME")]
        subprotocols: Vec<String>,
        /// The client's address, as Sheave would detect it
        #[arg(long, value_name = "ADDRESS")]
        from: Option<String>,
    },
    /// Print the CustomResourceDefinitions
    Crd,
    /// Send back what WebSockets send; a backend to try things with
    Echo {
        /// ADDRESS:PORT, or :PORT for all interfaces
        #[arg(long, default_value = "127.0.0.1:9001", value_name = "ADDR")]
        listen: String,
    },
}

#[derive(Args)]
#[allow(clippy::doc_markdown)] // these are help texts, printed as they stand
pub(super) struct RunWords {
    /// Plaintext listener: ADDRESS:PORT, or :PORT for all interfaces
    #[arg(long, env = "SHEAVE_LISTEN", default_value = ":8080", value_name = "ADDR")]
    pub(super) listen: String,
    /// TLS listener; none unless given
    #[arg(long, env = "SHEAVE_LISTEN_TLS", value_name = "ADDR")]
    pub(super) listen_tls: Option<String>,
    /// Admin listener: health, metrics, table, sessions. Keep it private
    #[arg(long, env = "SHEAVE_ADMIN", default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub(super) admin: String,
    /// Worker threads, 1 to 256 [default: one for each core]
    #[arg(long, env = "SHEAVE_WORKERS", value_name = "N")]
    pub(super) workers: Option<String>,
    /// Keep accepting for this long after SIGTERM, while readiness is off
    #[arg(long, env = "SHEAVE_MIN_DRAIN", default_value = "0s", value_name = "DURATION")]
    pub(super) min_drain: String,
    /// Cut what is left this long after accepting has ended [default: as long as the routes ask for]
    #[arg(long, env = "SHEAVE_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub(super) drain_timeout: Option<String>,
    #[command(flatten)]
    pub(super) capacity: CapacityWords,
    /// Form of log lines: text or json
    #[arg(long, env = "SHEAVE_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub(super) log_format: String,
    /// What to log: a level, or a list such as info,sheave::proxy=debug
    #[arg(long, env = "SHEAVE_LOG", default_value = "info", value_name = "FILTER")]
    pub(super) log: String,
    /// Record sessions when they open, too
    #[arg(long, env = "SHEAVE_LOG_OPEN")]
    pub(super) log_open: bool,
}

#[derive(Args)]
#[allow(clippy::doc_markdown)] // these are help texts, printed as they stand
pub(super) struct ClusterWords {
    /// Namespaces to look at, separated by commas [default: all]
    #[arg(
        long,
        env = "SHEAVE_WATCH_NAMESPACES",
        value_name = "NAMESPACES",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) watch_namespaces: String,
    /// Let Services of type ExternalName be backends
    #[arg(long, env = "SHEAVE_ALLOW_EXTERNAL_NAME")]
    pub(super) allow_external_name: bool,
    /// Name of the lease that lets one pod write statuses
    #[arg(long, env = "SHEAVE_LEASE", default_value = "sheave", value_name = "NAME")]
    pub(super) lease: String,
    /// Name of this pod [default: the host's name]
    #[arg(long, env = "SHEAVE_POD_NAME", value_name = "NAME")]
    pub(super) pod_name: Option<String>,
    /// Namespace of this pod, where the lease is [default: that of the service account]
    #[arg(long, env = "SHEAVE_POD_NAMESPACE", value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    pub(super) pod_namespace: String,
    /// Addresses of this pod, separated by commas, which no endpoint may have
    #[arg(long, env = "SHEAVE_POD_IPS", value_name = "ADDRESSES", default_value = "", hide_default_value = true)]
    pub(super) pod_ips: String,
}
