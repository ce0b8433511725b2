//! Kills processes as nothing in the cluster would: SIGKILL on the node, without a word to anybody.

use super::tools::{kubectl, on_node};
use super::variable;
use anyhow::{Context, Result, ensure};

/// Whether the nodes are kind's, so that their processes can be reached.
pub fn has_nodes() -> bool {
    variable("E2E_KIND", "").parse() == Ok(true)
}

/// Fails with a sentence where the nodes are out of reach.
pub fn needs_nodes() -> Result<()> {
    ensure!(
        has_nodes(),
        "this scenario reaches into the nodes of a kind cluster; run it by `make e2e` with KUBECONFIG unset"
    );
    Ok(())
}

/// Sends SIGKILL to every process of a pod whose command line has this word. The pod stays, its container restarts.
pub async fn kill_9(namespace: &str, pod: &str, word: &str) -> Result<()> {
    needs_nodes()?;
    let shown = ["-n", namespace, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName} {.metadata.uid}"];
    let shown = kubectl(&shown).await?;
    let (node, uid) = shown.split_once(' ').with_context(|| format!("{pod} has no node: {shown:?}"))?;
    // The systemd driver writes the pod's uid with underscores.
    let other = uid.replace('-', "_");
    let script = format!(
        "n=0; for p in /proc/[0-9]*; do if grep -qsE '{uid}|{other}' $p/cgroup && tr '\\0' ' ' <$p/cmdline | grep -q {word}; \
         then kill -9 ${{p#/proc/}} && n=$((n+1)); fi; done; echo $n"
    );
    let killed = on_node(node, &script).await?;
    ensure!(killed.trim() != "0", "no process of {pod} has {word} in its command line");
    Ok(())
}
