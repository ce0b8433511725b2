//! Reads what a pod says at `/metrics`.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
    families: BTreeSet<String>,
}

impl Metrics {
    /// Reads Prometheus text, version 0.0.4.
    pub fn parse(text: &str) -> Result<Self> {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                metrics.families.extend(rest.split(' ').next().map(str::to_owned));
            }
            if !line.starts_with('#') {
                metrics.samples.push(sample(line).with_context(|| format!("not a sample: {line}"))?);
            }
        }
        ensure!(!metrics.samples.is_empty(), "no samples: {text:?}");
        Ok(metrics)
    }

    /// The names of all families.
    pub fn families(&self) -> &BTreeSet<String> {
        &self.families
    }

    /// The sum of a family's samples that have these labels; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| found.get(*label).is_some_and(|found| found == value))
        };
        self.samples.iter().filter(|(found, with, _)| found == name && fits(with)).map(|(_, _, value)| value).sum()
    }

    /// Whether there is a sample of this name.
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|(found, _, _)| found == name)
    }
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some((series.to_owned(), BTreeMap::new(), value));
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut signs = quoted.char_indices();
        let end = loop {
            match signs.next()? {
                (at, '"') => break at,
                (_, '\\') => text.push(match signs.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => text.push(other),
            }
        };
        labels.insert(label.trim_start_matches(',').to_owned(), text);
        rest = &quoted[end + 1..];
    }
    Some((name.to_owned(), labels, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_the_labels_that_are_asked_for() {
        let text = "# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\"} 2\na_total{x=\"2\",y=\"\"} 3\nb 1e3\n";
        let metrics = Metrics::parse(text).expect("this is well formed");
        assert!((metrics.sum("a_total", &[]) - 5.0).abs() < 1e-9);
        assert!((metrics.sum("a_total", &[("y", "q\"")]) - 2.0).abs() < 1e-9);
        assert!((metrics.sum("b", &[]) - 1000.0).abs() < 1e-9);
        assert!(metrics.families().contains("a_total") && !metrics.has("c"));
    }
}
