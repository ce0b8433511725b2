//! Flags and environment, read once and turned into typed [`Settings`]; every mistake is reported in one run.
//!
//! The command line parser only finds the words. What they mean is checked here, each on its own, so that three
//! mistakes are three lines and not three attempts. Nothing else reads the environment.

mod value;

pub use value::{BackendUrl, HandshakeUrl};

use clap::{Args, Parser, Subcommand};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// Say what status each object of a folder would get.
    Check(PathBuf),
    /// Print the CRDs.
    Crd,
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
}

/// How a serving process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The plaintext listener. Default `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// The TLS listener. Default none.
    pub listen_tls: Option<SocketAddr>,
    /// The admin listener. Default `127.0.0.1:9090`.
    pub admin: SocketAddr,
    /// Worker threads, 1 to 256. Default one for each core.
    pub workers: usize,
    /// How long a stopping process keeps accepting, so that load balancers can notice. Default 0 s.
    pub min_drain: Duration,
    /// Upper bound for the drain of all routes together; default `None`: as long as the routes ask for.
    pub drain_timeout: Option<Duration>,
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

#[derive(Parser)]
#[command(name = "sheave", version, about, disable_help_subcommand = true)]
struct Words {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::doc_markdown)] // these are help texts, printed as they stand
enum Command {
    /// Serve a folder of WebSocketRoute YAML; a change of a file is live within a second
    Serve {
        /// Folder of YAML files, as `kubectl apply` takes them
        #[arg(env = "SHEAVE_DIR", value_name = "DIR")]
        folder: PathBuf,
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
    },
    /// Print the CustomResourceDefinitions
    Crd,
}

#[derive(Args)]
#[allow(clippy::doc_markdown)] // these are help texts, printed as they stand
struct RunWords {
    /// Plaintext listener: ADDRESS:PORT, or :PORT for all interfaces
    #[arg(long, env = "SHEAVE_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    listen: String,
    /// TLS listener; none unless given
    #[arg(long, env = "SHEAVE_LISTEN_TLS", value_name = "ADDR")]
    listen_tls: Option<String>,
    /// Admin listener: health, metrics, table, sessions. Keep it private
    #[arg(long, env = "SHEAVE_ADMIN", default_value = "127.0.0.1:9090", value_name = "ADDR")]
    admin: String,
    /// Worker threads, 1 to 256 [default: one for each core]
    #[arg(long, env = "SHEAVE_WORKERS", value_name = "N")]
    workers: Option<String>,
    /// Keep accepting for this long after SIGTERM, while readiness is off
    #[arg(long, env = "SHEAVE_MIN_DRAIN", default_value = "0s", value_name = "DURATION")]
    min_drain: String,
    /// Cut what is left this long after SIGTERM [default: as long as the routes ask for]
    #[arg(long, env = "SHEAVE_DRAIN_TIMEOUT", value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// Form of log lines: text or json
    #[arg(long, env = "SHEAVE_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: String,
    /// What to log: a level, or a list such as info,sheave::proxy=debug
    #[arg(long, env = "SHEAVE_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// Record sessions when they open, too
    #[arg(long, env = "SHEAVE_LOG_OPEN")]
    log_open: bool,
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
        if drain_timeout.is_some_and(|timeout| timeout < min_drain) {
            let mistake = format!("--min-drain {:?}: must not be longer than --drain-timeout", words.min_drain);
            self.mistakes.push(mistake);
        }
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
            log: Log { format, filter: words.log, open_records: words.log_open },
        }
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
            Command::Check { folder } => Self::Check(reader.folder(folder)),
            Command::Crd => Self::Crd,
            Command::Explain { folder, url, headers, subprotocols } => Self::Explain(Explain {
                folder: reader.folder(folder),
                url: reader.read("--url", &url, HandshakeUrl::parse(&url), HandshakeUrl::default()),
                headers: headers.iter().filter_map(|words| reader.header(words)).collect(),
                subprotocols,
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
            Self::Crd | Self::Proxy { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Settings, SettingsError> {
        Settings::parse(std::iter::once("sheave").chain(words.split_whitespace()))
    }

    #[test]
    fn reports_every_mistake_in_one_run() {
        let error = parse(
            "serve /nowhere --listen here --listen-tls 1.2.3.4 --admin :99999 --workers 0 --min-drain 5 \
             --drain-timeout soon --log-format xml --log =nonsense=",
        )
        .unwrap_err()
        .to_string();
        assert!(error.starts_with("9 mistakes"), "{error}");
        for flag in
            ["DIR /nowhere", "--listen \"", "--listen-tls", "--admin", "--workers", "--min-drain", "--drain-timeout"]
        {
            assert!(error.contains(flag), "{flag} is missing in {error}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let Settings::Proxy { run, to } = parse("proxy --to ws://localhost:9001").unwrap() else { panic!() };
        assert_eq!(run.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(run.admin, "127.0.0.1:9090".parse().unwrap());
        assert_eq!((run.listen_tls, run.drain_timeout, run.min_drain), (None, None, Duration::ZERO));
        assert!(run.workers >= 1);
        assert_eq!((to.host.as_str(), to.port, to.tls), ("localhost", 9001, false));
    }

    #[test]
    fn two_listeners_cannot_share_an_address_and_a_drain_cannot_be_shorter_than_its_start() {
        let error = parse("proxy --to ws://h:1 --listen :1 --listen-tls :1 --min-drain 1m --drain-timeout 59s");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("--listen-tls 0.0.0.0:1: --listen already listens there"), "{error}");
        assert!(error.contains("must not be longer than --drain-timeout"), "{error}");
    }

    #[test]
    fn explain_takes_url_headers_and_subprotocols() {
        let url = "wss://Chat.Example.com.:8443/ws?room=1";
        let words = ["sheave", "explain", ".", "--url", url, "-H", "X-Tenant: gold", "--subprotocol", "mqtt"];
        let Settings::Explain(explain) = Settings::parse(words).unwrap() else { panic!() };
        assert_eq!(explain.headers, [("X-Tenant".to_owned(), "gold".to_owned())]);
        assert_eq!(explain.subprotocols, ["mqtt"]);
        assert_eq!((explain.url.host.as_str(), explain.url.path.as_str()), ("chat.example.com", "/ws"));
        let error = Settings::parse(["sheave", "explain", ".", "--url", "http://x", "-H", "no colon"]).unwrap_err();
        assert!(error.to_string().starts_with("2 mistakes"), "{error}");
    }
}
