//! What a proxy has used: CPU time and memory of all its processes.
//!
//! Reads `/proc` and nothing else. CPU is the first field of each thread's
//! `schedstat`: nanoseconds on a CPU, in user and kernel mode together. On
//! loopback the kernel hands a packet to its receiver on the sender's time, so
//! a proxy pays for what it sends and is given what it receives; that is alike
//! for all of them, and one more reason to compare ratios and not machines.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// CPU time at one moment, in nanoseconds by thread: one that ends takes its own along.
pub(crate) struct Cpu(HashMap<PathBuf, u64>);

impl Cpu {
    /// That of all threads there are.
    pub(crate) fn total_ns(&self) -> u64 {
        self.0.values().sum()
    }

    /// What the threads there are have used since `before`.
    pub(crate) fn ns_since(&self, before: &Self) -> u64 {
        self.0.iter().map(|(thread, ns)| ns.saturating_sub(before.0.get(thread).copied().unwrap_or(0))).sum()
    }
}

/// All processes of one proxy: the one that was started and its descendants.
pub(crate) struct Family {
    pids: Vec<u32>,
}

impl Family {
    /// Finds the descendants of `root` as they are now. Workers that are started
    /// later are not seen, so ask when the proxy serves.
    pub(crate) fn of(root: u32) -> Result<Self> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").context("this bench needs Linux's /proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process that ended since the listing is no child of ours.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
                continue;
            };
            // The command, in parentheses, may hold spaces: count after it.
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
            if let Some(parent) = parent.and_then(|parent| parent.parse::<u32>().ok()) {
                parents.push((pid, parent));
            }
        }
        let mut pids = vec![root];
        let mut next = 0;
        while let Some(&pid) = pids.get(next) {
            let children = parents.iter().filter(|(_, parent)| *parent == pid);
            pids.extend(children.map(|(child, _)| *child));
            next += 1;
        }
        Ok(Self { pids })
    }

    /// Process ids, the root first.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// CPU time so far of all threads of all processes.
    ///
    /// # Errors
    /// A process that ended: the proxy died under load.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let mut threads_ns = HashMap::new();
        for pid in &self.pids {
            let threads =
                fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?;
            for thread in threads {
                let path = thread?.path().join("schedstat");
                // A thread may end between listing and reading.
                let Ok(text) = fs::read_to_string(&path) else {
                    continue;
                };
                let first = text.split(' ').next().unwrap_or_default();
                threads_ns.insert(path, first.parse().context("schedstat is not in the known form")?);
            }
        }
        let cpu = Cpu(threads_ns);
        ensure!(cpu.total_ns() > 0, "schedstat counts nothing: the kernel lacks CONFIG_SCHED_INFO");
        Ok(cpu)
    }

    /// Private memory that is resident, in bytes: `RssAnon` of `/proc/PID/status`.
    /// Leaves out program text and the kernel's socket buffers.
    ///
    /// # Errors
    /// A process that ended.
    pub(crate) fn anonymous_bytes(&self) -> Result<u64> {
        let mut total = 0;
        for pid in &self.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("process {pid} has ended"))?;
            let kib = status
                .lines()
                .find_map(|line| line.strip_prefix("RssAnon:"))
                .and_then(|rest| rest.trim().strip_suffix(" kB"))
                .context("no RssAnon in /proc/PID/status")?;
            total += kib.trim().parse::<u64>()? * 1024;
        }
        Ok(total)
    }
}

/// CPU time of everything that runs on this machine, in nanoseconds since boot,
/// with what a hypervisor took away. It is exact to a tick of 10 ms.
pub(crate) fn machine_ns() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal, in hundredths of a second.
    let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).map_while(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 8, "/proc/stat is not in the known form");
    let waiting = ticks[3] + ticks[4];
    Ok((ticks.iter().sum::<u64>() - waiting) * 10_000_000)
}
