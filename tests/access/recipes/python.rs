//! Programs of recipes in Python, run as they are: what they import is installed below `.cache/`, and `elsewhere.py` has
//! them reach the test where they name a host.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as Step, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const PACKAGES: [&str; 2] = ["websockets==17.4", "PyJWT==2.15.1"];

/// The longest that a client may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn step(command: &mut Step) {
    let missing = "recipes need python3 with venv, and PyPI: install both, and delete .cache to install anew";
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: {missing}"));
    assert!(output.status.success(), "{command:?}: {}: {missing}", String::from_utf8_lossy(&output.stderr));
}

/// The interpreter, with the packages.
fn interpreter() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/recipes");
        let (note, wanted) = (folder.join("installed"), PACKAGES.join(" "));
        if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
            return folder.join("bin/python");
        }
        step(Step::new("python3").args(["-m", "venv"]).arg(&folder));
        step(Step::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(PACKAGES));
        std::fs::write(note, wanted).expect(".cache can be written");
        folder.join("bin/python")
    })
}

/// A program that can be started.
pub(super) struct Program(Command);

impl Program {
    /// `file` of a recipe; `hosts` say which `host:port` is where.
    pub(super) fn new(file: &Path, hosts: &[(&str, SocketAddr)]) -> Self {
        let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/access/recipes/elsewhere.py");
        let hosts: serde_json::Map<_, _> = hosts
            .iter()
            .map(|(host, at)| ((*host).to_owned(), serde_json::json!([at.ip().to_string(), at.port()])))
            .collect();
        let mut command = Command::new(interpreter());
        command.arg(world).arg(file).env("HOSTS", serde_json::Value::from(hosts).to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self(command)
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(super) fn arg(mut self, word: &str) -> Self {
        self.0.arg(word);
        self
    }

    pub(super) fn within(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Runs it to its end: whether it went well, and what it printed, faults included.
    pub(super) async fn run(mut self) -> (bool, String) {
        let output = tokio::time::timeout(PATIENCE, self.0.output()).await.expect("the client ends by itself");
        let output = output.expect("the interpreter can be run");
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&told).into_owned())
    }

    /// Starts it.
    pub(super) fn start(mut self) -> Started {
        let faults = NamedTempFile::new().expect("a temporary file can be made");
        let errors = faults.reopen().expect("it can be opened");
        let mut child = self.0.stderr(errors).spawn().expect("the interpreter can be run");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Started { _child: child, lines, faults }
    }

    /// Starts a server, which listens once this returns.
    pub(super) async fn serve(self) -> (Started, u16) {
        let mut started = self.start();
        let line = started.line().await;
        let port = line.parse().unwrap_or_else(|_| panic!("the server printed {line:?}, not its port"));
        (started, port)
    }
}

/// A running program; it ends when dropped.
pub(super) struct Started {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it prints beside its lines, for whoever has to find out why a test failed.
    faults: NamedTempFile,
}

impl Started {
    /// The next line that it prints.
    pub(super) async fn line(&mut self) -> String {
        match tokio::time::timeout(PATIENCE, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            ended => panic!("{ended:?}: {}", std::fs::read_to_string(self.faults.path()).unwrap_or_default()),
        }
    }
}
