//! Programs a user would call: kubectl, helm, docker. Their errors carry what they printed.

use anyhow::{Context, Result, bail};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The longest a program may take.
const CEILING: Duration = Duration::from_secs(180);

/// Runs a program and returns what it printed to stdout.
pub async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    run_with(program, arguments, "").await
}

/// As [`run`], with something to read.
pub async fn run_with(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let line = format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {line}"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let done = tokio::time::timeout(CEILING, child.wait_with_output()).await;
    let done = done.with_context(|| format!("{line}: not done after {CEILING:?}"))??;
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if !done.status.success() {
        bail!("{line}: {}\n{out}{err}", done.status);
    }
    Ok(out.into_owned())
}

/// kubectl.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    run("kubectl", arguments).await
}

/// helm.
pub async fn helm(arguments: &[&str]) -> Result<String> {
    run("helm", arguments).await
}

/// A shell command on a node of a kind cluster.
pub async fn on_node(node: &str, script: &str) -> Result<String> {
    run("docker", &["exec", node, "sh", "-c", script]).await
}
