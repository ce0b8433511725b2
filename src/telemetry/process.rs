//! The standard process metrics, read from `/proc` at each scrape; absent where there is none.

use prometheus::proto::MetricType;

/// Name, help and type of each value of [`read`].
pub(super) const FAMILIES: [(&str, &str, MetricType); 6] = [
    ("process_cpu_seconds_total", "User and system time spent.", MetricType::COUNTER),
    ("process_resident_memory_bytes", "Memory in use.", MetricType::GAUGE),
    ("process_open_fds", "Open file descriptors.", MetricType::GAUGE),
    ("process_max_fds", "File descriptors that may be open at once.", MetricType::GAUGE),
    ("process_start_time_seconds", "Start of the process, seconds since 1970.", MetricType::GAUGE),
    ("process_threads", "Threads.", MetricType::GAUGE),
];

/// Clock ticks in a second, as Linux shows them to programs on every platform it is built for today.
const TICKS: f64 = 100.0;

/// The values in the order of [`FAMILIES`]; `None` where the system does not say.
pub(super) fn read() -> [Option<f64>; 6] {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (stat, status, limits, boot) =
        (text("/proc/self/stat"), text("/proc/self/status"), text("/proc/self/limits"), text("/proc/stat"));
    // The second field is the name in parentheses and may hold anything: count from its end.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let after = |text: &str, word: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(word)?.split_whitespace().next()?.parse().ok())
    };
    [
        ticks(11).zip(ticks(12)).map(|(user, system)| (user + system) / TICKS),
        after(&status, "VmRSS:").map(|kib| kib * 1024.0),
        // Less the one that lists them.
        std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as f64),
        after(&limits, "Max open files"),
        ticks(19).zip(after(&boot, "btime")).map(|(start, boot)| boot + start / TICKS),
        after(&status, "Threads:"),
    ]
}
