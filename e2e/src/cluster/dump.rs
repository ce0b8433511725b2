//! What is shown when a scenario fails: its namespace's pods, logs, events and routes, and Sheave's pods.

use super::tools::kubectl;

/// How much of each is shown, from its end.
const LINES: usize = 120;

/// Prints everything to stderr. What cannot be had is said and left out.
pub async fn dump(namespace: &str, sheave: &str) {
    let show = |title: String, arguments: Vec<String>| async move {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match kubectl(&arguments).await {
            Ok(text) => {
                let lines: Vec<&str> = text.lines().collect();
                let left_out = lines.len().saturating_sub(LINES);
                eprintln!(
                    "---- {title} ({left_out} lines before these are left out)\n{}",
                    lines[left_out..].join("\n")
                );
            }
            Err(error) => eprintln!("---- {title}: {error:#}"),
        }
    };
    for place in [namespace, sheave] {
        let of = |what: &[&str]| -> Vec<String> {
            let rest = what.iter().map(ToString::to_string);
            ["--namespace".to_owned(), place.to_owned()].into_iter().chain(rest).collect()
        };
        show(format!("pods of {place}"), of(&["get", "pods", "-o", "wide"])).await;
        show(format!("events of {place}"), of(&["get", "events", "--sort-by", ".lastTimestamp"])).await;
        show(format!("routes of {place}"), of(&["get", "wsr", "-o", "yaml"])).await;
        let pods = kubectl(&["--namespace", place, "get", "pods", "-o", "name"]).await.unwrap_or_default();
        for pod in pods.lines().take(6) {
            show(format!("log of {pod}"), of(&["logs", pod, "--tail", "40", "--all-containers"])).await;
        }
    }
    show("classes".to_owned(), vec!["get".to_owned(), "wsc".to_owned(), "-o".to_owned(), "yaml".to_owned()]).await;
}
