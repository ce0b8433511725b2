//! Memory: how much the control group has and may have, which is what the kernel kills by.
//!
//! Counted is the working set, as the kubelet counts it: without inactive pages of files, which the kernel takes back
//! before it kills. Where no control group sets a bound there is none: nothing is guessed from the host's memory.

use std::fs;
use std::path::{Path, PathBuf};

/// What there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// In use.
    pub used: u64,
    /// May be in use.
    pub bound: u64,
}

impl Memory {
    /// Whether more than `percent` of the bound is in use.
    pub(super) fn is_above(self, percent: u8) -> bool {
        u128::from(self.used) * 100 > u128::from(self.bound) * u128::from(percent)
    }
}

/// A version 1 bound above this is none: the kernel writes the largest number of pages there is.
const NO_BOUND: u64 = 1 << 60;

/// The names of one version of control groups.
struct Files {
    bound: &'static str,
    used: &'static str,
    /// In `memory.stat`.
    inactive: &'static str,
}

const V1: Files =
    Files { bound: "memory.limit_in_bytes", used: "memory.usage_in_bytes", inactive: "total_inactive_file" };
const V2: Files = Files { bound: "memory.max", used: "memory.current", inactive: "inactive_file" };

/// The memory of this process's control group, or of the nearest one above that has a bound.
pub(super) fn of_control_group() -> Option<Memory> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    read(Path::new("/sys/fs/cgroup"), &groups)
}

/// Reads below `root` what `groups` (as `/proc/self/cgroup` has it, cgroups(7)) names.
fn read(root: &Path, groups: &str) -> Option<Memory> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (root, files) = match controllers {
            "" => (root.to_owned(), &V2),
            list if list.split(',').any(|name| name == "memory") => (root.join("memory"), &V1),
            _ => return None,
        };
        // In a container the path may be the host's, of which nothing is seen: then the root is the container's own.
        let own = root.join(path.trim_start_matches('/'));
        own.ancestors().take_while(|group| group.starts_with(&root)).find_map(|group| bounded(group, files))
    })
}

/// The memory of one group, if it has a bound.
fn bounded(group: &Path, files: &Files) -> Option<Memory> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let bound = number(files.bound).filter(|bound| (1..NO_BOUND).contains(bound))?;
    let used = number(files.used)?;
    // The kernel has work to do for the statistics, so they are not asked for while they cannot matter.
    let inactive = if used > bound / 2 { inactive(&group.join("memory.stat"), files) } else { 0 };
    Some(Memory { used: used.saturating_sub(inactive), bound })
}

fn inactive(stat: &PathBuf, files: &Files) -> u64 {
    let text = fs::read_to_string(stat).unwrap_or_default();
    let value = |line: &str| line.strip_prefix(files.inactive)?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A tree of files, each with its content.
    fn tree(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().expect("a temporary folder can be made");
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("it lies in the root")).expect("a folder can be made");
            fs::write(path, content).expect("a file can be written");
        }
        root
    }

    #[test]
    fn reads_the_bound_of_the_group_or_of_the_nearest_above_that_has_one() {
        let root = tree(&[
            ("pod/memory.max", "1000\n"),
            ("pod/memory.current", "900\n"),
            ("pod/memory.stat", "anon 500\ninactive_file 300\nactive_file 100\n"),
            ("pod/app/memory.max", "max\n"),
            ("pod/app/memory.current", "7\n"),
        ]);
        let limit = |groups: &str| read(root.path(), groups);
        assert_eq!(limit("0::/pod/app\n"), Some(Memory { used: 600, bound: 1000 }));
        assert_eq!(limit("0::/pod\n"), Some(Memory { used: 600, bound: 1000 }));
        assert_eq!(limit("0::/elsewhere\n"), None, "no bound is known");
        assert_eq!(limit(""), None);
    }

    #[test]
    fn reads_version_1_and_takes_its_largest_number_for_no_bound() {
        let root = tree(&[
            ("memory/memory.limit_in_bytes", "1000\n"),
            ("memory/memory.usage_in_bytes", "400\n"),
            ("memory/free/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/free/memory.usage_in_bytes", "5\n"),
        ]);
        let groups = "5:cpu,cpuacct:/x\n4:memory:/kubepods/of-the-host\n0::/\n";
        assert_eq!(read(root.path(), groups), Some(Memory { used: 400, bound: 1000 }), "by the container's root");
        assert_eq!(read(root.path(), "4:memory:/free\n"), Some(Memory { used: 400, bound: 1000 }));
    }

    #[test]
    fn is_above_only_beyond_its_share() {
        let memory = |used| Memory { used, bound: u64::MAX / 2 };
        assert!(!memory(memory(0).bound / 10 * 9).is_above(90));
        assert!(memory(memory(0).bound / 10 * 9 + 100).is_above(90));
    }
}
