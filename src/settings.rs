//! Flags and environment, read once and turned into typed [`Settings`]; every mistake is reported in one run.
//!
//! The command line parser only finds the words. What they mean is checked here, each on its own, so that three
//! mistakes are three lines and not three attempts. Nothing else reads the environment.

mod capacity;
mod value;
mod words;

pub use capacity::Capacity;
pub use value::{BackendUrl, HandshakeUrl, SocketUrl};

use clap::Parser;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use words::{ClusterWords, Command, RunWords, Words};

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// Write a `WebSocketClass` to the cluster: the whole object, with a name.
    ApplyClass(serde_json::Value),
    /// Say what status each object of a folder would get.
    Check(PathBuf),
    /// Serve what a cluster's API server holds.
    Controller {
        /// How to run.
        run: Run,
        /// How to follow the cluster.
        cluster: Cluster,
    },
    /// Open a WebSocket and see it through.
    Connect(Connect),
    /// Print the CRDs.
    Crd,
    /// Send back what is sent.
    Echo(SocketAddr),
    /// Say which rule a handshake would reach.
    Explain(Explain),
    /// Serve one backend with no file at all.
    Proxy {
        /// How to run.
        run: Run,
        /// Where every session goes.
        to: BackendUrl,
    },
    /// Serve a folder.
    Serve {
        /// How to run.
        run: Run,
        /// The folder.
        folder: PathBuf,
    },
}

/// A handshake to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explain {
    /// The folder whose table is asked.
    pub folder: PathBuf,
    /// Where the handshake goes.
    pub url: HandshakeUrl,
    /// Its headers, names as given, in order.
    pub headers: Vec<(String, String)>,
    /// The subprotocols it offers, in order.
    pub subprotocols: Vec<String>,
    /// The client's address. Default: not known, so what depends on it is not judged.
    pub from: Option<IpAddr>,
}

/// How a cluster is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The namespaces that are looked at. Default: all (empty).
    pub watch_namespaces: Vec<String>,
    /// Whether a Service of type `ExternalName` may be a backend. Default no.
    pub allow_external_name: bool,
    /// Name of the lease of the pod that writes statuses. Default `sheave`.
    pub lease: String,
    /// The pod's name. Default: the host's.
    pub pod_name: String,
    /// The pod's namespace. Default: that of its service account (empty).
    pub pod_namespace: String,
    /// The pod's addresses, which no endpoint may have. Default none.
    pub pod_ips: Vec<IpAddr>,
}

/// A WebSocket to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Where to.
    pub url: SocketUrl,
    /// What is sent and must come back.
    pub message: String,
    /// Headers of the handshake, names as given; `Host` replaces the URL's.
    pub headers: Vec<(String, String)>,
    /// Whether any certificate will do.
    pub insecure: bool,
    /// For everything together. Default 10 s.
    pub timeout: Duration,
}

/// How a serving process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The plaintext listener. Default port 8080 of all interfaces.
    pub listen: SocketAddr,
    /// The TLS listener. Default none.
    pub listen_tls: Option<SocketAddr>,
    /// The admin listener. Default `127.0.0.1:9090`.
    pub admin: SocketAddr,
    /// Worker threads, 1 to 256. Default one for each core.
    pub workers: usize,
    /// How long a stopping process keeps accepting, so that load balancers can notice. Default 0 s.
    pub min_drain: Duration,
    /// The longest that sessions may take to end once nothing new is accepted; default `None`: as long as the routes
    /// ask for.
    pub drain_timeout: Option<Duration>,
    /// What the process may carry.
    pub capacity: Capacity,
    /// What is logged.
    pub log: Log,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Default text.
    pub format: LogFormat,
    /// A filter such as `info` or `info,sheave::proxy=debug`. Default `info`.
    pub filter: String,
    /// Whether a session is also recorded when it opens. Default no.
    pub open_records: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Everything that is wrong, one line each. Never empty.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} mistake{plural} in the settings:", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The words do not fit, or help was asked for. Print it with [`clap::Error::exit`].
    #[error(transparent)]
    Words(#[from] clap::Error),
    /// The words fit, their values do not.
    #[error(transparent)]
    Values(#[from] Mistakes),
}

/// Gathers mistakes while values are read.
#[derive(Default)]
struct Reader {
    mistakes: Vec<String>,
}

impl Reader {
    /// The value of `words`, or a stand-in after noting what is wrong with it.
    fn read<T>(&mut self, flag: &str, words: &str, parsed: Result<T, String>, stand_in: T) -> T {
        parsed.unwrap_or_else(|advice| {
            self.mistakes.push(format!("{flag} {words:?}: {advice}"));
            stand_in
        })
    }

    /// The same where the flag may be absent; an empty text, as environments have it, is absent.
    fn read_optional<T>(
        &mut self,
        flag: &str,
        words: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let words = words.filter(|words| !words.is_empty())?;
        parse(words).map_err(|advice| self.mistakes.push(format!("{flag} {words:?}: {advice}"))).ok()
    }

    fn folder(&mut self, folder: PathBuf) -> PathBuf {
        if !folder.is_dir() {
            let what = if folder.exists() { "is not a folder" } else { "does not exist" };
            self.mistakes.push(format!("DIR {}: {what}; name a folder of YAML files", folder.display()));
        }
        folder
    }

    fn run(&mut self, words: RunWords) -> Run {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let listen = self.read("--listen", &words.listen, value::address(&words.listen), unspecified);
        let listen_tls = self.read_optional("--listen-tls", words.listen_tls.as_deref(), value::address);
        let admin = self.read("--admin", &words.admin, value::address(&words.admin), unspecified);
        self.distinct(&[("--listen", Some(listen)), ("--listen-tls", listen_tls), ("--admin", Some(admin))]);
        let workers = self.read_optional("--workers", words.workers.as_deref(), value::workers);
        let min_drain = self.read("--min-drain", &words.min_drain, value::duration(&words.min_drain), Duration::ZERO);
        let drain_timeout = self.read_optional("--drain-timeout", words.drain_timeout.as_deref(), value::duration);
        let format =
            self.read("--log-format", &words.log_format, value::log_format(&words.log_format), LogFormat::Text);
        self.read("--log", &words.log, value::log_filter(&words.log), ());
        Run {
            listen,
            listen_tls,
            admin,
            workers: workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(256)),
            min_drain,
            drain_timeout,
            capacity: self.capacity(&words.capacity),
            log: Log { format, filter: words.log, open_records: words.log_open },
        }
    }

    fn cluster(&mut self, words: ClusterWords) -> Cluster {
        let mut watch_namespaces =
            self.each("--watch-namespaces", &words.watch_namespaces, |name| value::label(name).map(str::to_owned));
        watch_namespaces.sort_unstable();
        watch_namespaces.dedup();
        let pod_ips = self.each("--pod-ips", &words.pod_ips, value::ip);
        self.read("--lease", &words.lease, value::label(&words.lease).map(drop), ());
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        Cluster {
            watch_namespaces,
            allow_external_name: words.allow_external_name,
            lease: words.lease,
            pod_name: words.pod_name.filter(|name| !name.is_empty()).unwrap_or_else(host),
            pod_namespace: words.pod_namespace,
            pod_ips,
        }
    }

    /// The values of a list separated by commas.
    fn each<T>(&mut self, flag: &str, words: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let words = words.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.filter_map(|word| self.read_optional(flag, Some(word), &parse)).collect()
    }

    fn connect(&mut self, url: &str, message: String, headers: &[String], insecure: bool, timeout: &str) -> Connect {
        let read = self.read("URL", url, SocketUrl::parse(url), SocketUrl::default());
        if insecure && !read.tls {
            self.mistakes.push("--insecure: only wss:// has a certificate to overlook; leave it out".to_owned());
        }
        let timeout_read = self.read("--timeout", timeout, value::duration(timeout), Duration::ZERO);
        let headers = headers.iter().filter_map(|words| self.header(words)).collect();
        Connect { url: read, message, headers, insecure, timeout: timeout_read }
    }

    fn distinct(&mut self, listeners: &[(&str, Option<SocketAddr>)]) {
        let given: Vec<_> = listeners.iter().filter_map(|(flag, address)| Some((flag, (*address)?))).collect();
        for (at, (flag, address)) in given.iter().enumerate() {
            if let Some((other, _)) = given[..at].iter().find(|(_, a)| a == address && address.port() != 0) {
                self.mistakes.push(format!("{flag} {address}: {other} already listens there; give another port"));
            }
        }
    }

    fn header(&mut self, words: &str) -> Option<(String, String)> {
        let (name, value) = words.split_once(':').unwrap_or((words, ""));
        let valid = http::HeaderName::from_bytes(name.as_bytes()).is_ok() && words.contains(':');
        if !valid {
            self.mistakes.push(format!("-H {words:?}: give 'NAME: VALUE'"));
        }
        valid.then(|| (name.to_owned(), value.trim().to_owned()))
    }
}

impl Settings {
    /// Reads the arguments (the program's name first) and the environment.
    ///
    /// # Errors
    /// [`SettingsError::Words`] for unknown or missing flags and for `--help`, else [`SettingsError::Values`] with
    /// everything that is wrong.
    pub fn parse<A: Into<std::ffi::OsString> + Clone>(
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, SettingsError> {
        let words = Words::try_parse_from(arguments)?;
        let mut reader = Reader::default();
        let settings = match words.command {
            Command::ApplyClass { class } => {
                Self::ApplyClass(reader.read("CLASS", &class, value::class(&class), serde_json::Value::Null))
            }
            Command::Check { folder } => Self::Check(reader.folder(folder)),
            Command::Controller { cluster, run } => {
                Self::Controller { cluster: reader.cluster(cluster), run: reader.run(run) }
            }
            Command::Connect { url, message, headers, insecure, timeout } => {
                Self::Connect(reader.connect(&url, message, &headers, insecure, &timeout))
            }
            Command::Crd => Self::Crd,
            Command::Echo { listen } => {
                let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
                Self::Echo(reader.read("--listen", &listen, value::address(&listen), unspecified))
            }
            Command::Explain { folder, url, headers, subprotocols, from } => Self::Explain(Explain {
                folder: reader.folder(folder),
                url: reader.read("--url", &url, HandshakeUrl::parse(&url), HandshakeUrl::default()),
                headers: headers.iter().filter_map(|words| reader.header(words)).collect(),
                subprotocols,
                from: reader.read_optional("--from", from.as_deref(), value::ip),
            }),
            Command::Proxy { to, run } => Self::Proxy {
                to: reader.read("--to", &to, BackendUrl::parse(&to), BackendUrl::default()),
                run: reader.run(run),
            },
            Command::Serve { folder, run } => Self::Serve { folder: reader.folder(folder), run: reader.run(run) },
        };
        if reader.mistakes.is_empty() { Ok(settings) } else { Err(Mistakes(reader.mistakes).into()) }
    }

    /// The folder the settings name, if they name one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Check(folder) | Self::Serve { folder, .. } => Some(folder),
            Self::Explain(explain) => Some(&explain.folder),
            Self::ApplyClass(_)
            | Self::Connect(_)
            | Self::Controller { .. }
            | Self::Crd
            | Self::Echo(_)
            | Self::Proxy { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
