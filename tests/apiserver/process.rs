//! A program of the control plane: it logs to a file and never outlives the test that started it.
//!
//! A shared control plane lives in a static, which is never dropped, and a test may be killed. So each program has a
//! guard beside it: a shell that waits for the end of a pipe which only the test process holds.

use super::log_tail;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Kills the program and removes the folder once the pipe ends without the word that it is over.
const GUARD: &str = r#"trap "" INT TERM HUP; read -r over || { kill -9 "$1"; rm -rf "$2"; }"#;

/// A running program.
pub struct Process {
    child: Child,
    guard: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it. `folder` is removed with it when the test process dies; empty for none.
    pub fn start(program: &Path, arguments: &[String], log: &Path, folder: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("the log can be written");
        let err = out.try_clone().expect("a file can be shared");
        let mut command = Command::new(program);
        // A group of its own: Ctrl-C is the guard's business, which works for every kind of death.
        command.args(arguments).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard", &child.id().to_string()]).arg(folder).process_group(0);
        let guard = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child, guard: guard.expect("sh starts"), log: log.to_owned() }
    }

    /// Panics with the end of its log when it has ended by itself.
    pub fn must_run(&mut self) {
        let ended = self.child.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "it ended ({}):\n{}", ended.unwrap_or_default(), log_tail(&self.log));
    }

    /// Stops it where it stands, as a machine that hangs does: its connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // The signal only asks for it: another thread may answer once more.
        waitpid(Some(self.id()), WaitOptions::UNTRACED).expect("a child can be waited for");
    }

    /// Lets it go on after [`Process::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("the process runs");
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).expect("a process has an id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: the number may be another's once the child is waited for.
        if let Some(mut pipe) = self.guard.stdin.take() {
            let _ = pipe.write_all(b"over\n");
        }
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
