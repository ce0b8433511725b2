//! Independent implementations through a whole Sheave: client and server of Python's `websockets` and of npm's `ws`,
//! each with each.
//!
//! What they exchange stands in `tests/clients/`. The first run installs them below `.cache/`.

mod living;

use living::Sheave;
use living::folder::{Folder, served};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command as TokioCommand};

const PYTHON: &str = "websockets==17.4";
const JAVASCRIPT: &str = "ws@8.23.0";

#[derive(Clone, Copy)]
enum Language {
    JavaScript,
    Python,
}
use Language::{JavaScript, Python};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a step of an installation; `missing` says what to do when the program is not there.
fn step(command: &mut Command, missing: &str) {
    let output: Output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: {missing}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {told}\n{missing}");
}

/// Installs into `.cache/NAME` unless a former run did so with the same package.
fn once(name: &str, package: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let folder = root().join(".cache").join(name);
    let note = folder.join("installed");
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == package) {
        return folder;
    }
    std::fs::create_dir_all(&folder).expect(".cache can be written");
    install(&folder);
    std::fs::write(note, package).expect(".cache can be written");
    folder
}

impl Language {
    /// A command that runs a script of `tests/clients`, with its packages installed.
    fn script(self, name: &str) -> TokioCommand {
        static PY: OnceLock<PathBuf> = OnceLock::new();
        static JS: OnceLock<PathBuf> = OnceLock::new();
        let scripts = root().join("tests/clients");
        let mut command = match self {
            Python => {
                let folder = PY.get_or_init(|| {
                    once("py", PYTHON, |folder| {
                        let missing =
                            "these tests need python3 with venv: install both, and check that PyPI is reachable";
                        step(Command::new("python3").args(["-m", "venv"]).arg(folder), missing);
                        step(Command::new(folder.join("bin/pip")).args(["install", "--quiet", PYTHON]), missing);
                    })
                });
                let mut command = TokioCommand::new(folder.join("bin/python"));
                command.arg(scripts.join(format!("{name}.py")));
                command
            }
            JavaScript => {
                let folder = JS.get_or_init(|| {
                    once("js", JAVASCRIPT, |folder| {
                        let missing =
                            "these tests need node and npm: install both, and check that the npm registry is reachable";
                        step(Command::new("node").arg("--version"), missing);
                        let npm = ["install", "--silent", "--no-audit", "--no-fund", JAVASCRIPT, "--prefix"];
                        step(Command::new("npm").args(npm).arg(folder), missing);
                    })
                });
                let mut command = TokioCommand::new("node");
                command.arg(scripts.join(format!("{name}.js"))).env("NODE_PATH", folder.join("node_modules"));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// A running server and its port.
    async fn serve(self) -> (Child, u16) {
        let mut child = self
            .script("server")
            .spawn()
            .expect("python3 and node can be run: install what is missing, or delete .cache to install anew");
        let out = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        living::within("the server's port", BufReader::new(out).read_line(&mut line)).await.expect("it can be read");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the server printed {line:?}, not its port"));
        (child, port)
    }
}

async fn all_is_well(client: Language, server: Language) {
    let (_server, port) = server.serve().await;
    let route = "---\napiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {name: any}\n\
                 spec: {rules: [{backendRefs: [{name: any, port: 80}]}]}\n";
    let folder = Folder::with(&(route.to_owned() + &served("any", port)));
    let sheave = Sheave::start(&folder);
    let mut command = client.script("client");
    command.arg(format!("ws://{}/", sheave.ws)).stderr(Stdio::piped());
    let done = tokio::time::timeout(Duration::from_secs(40), command.output()).await;
    let output = done
        .expect("the client ends by itself after 30 s")
        .expect("python3 and node can be run: install what is missing, or delete .cache to install anew");
    let (told, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.trim() == "all is well", "{told}{faults}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_talks_to_python() {
    all_is_well(Python, Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_talks_to_javascript() {
    all_is_well(Python, JavaScript).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_talks_to_python() {
    all_is_well(JavaScript, Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_talks_to_javascript() {
    all_is_well(JavaScript, JavaScript).await;
}
