//! The tables: medians over the rounds, Sheave beside its best rival, and beside itself.
//!
//! A column of a proxy that is not installed says so and takes no part in the
//! ratio; a trial that failed is named below the table, never left out in silence.

use std::fmt::Write as _;

use crate::rivals::{CONTESTANTS, Contestant};
use crate::row::{Aim, Part};

/// Figures of one part of a row, one list a contestant, in the order of `CONTESTANTS`.
pub(crate) struct Line {
    /// The part.
    pub(crate) part: Part,
    /// One figure a round.
    pub(crate) figures: [Vec<f64>; CONTESTANTS.len()],
}

/// What a block of access costs.
pub(crate) struct Added {
    /// Text of the table.
    pub(crate) title: String,
    /// Unit of the figures.
    pub(crate) unit: &'static str,
    /// One figure a round, without the block and with it.
    pub(crate) figures: [Vec<f64>; 2],
}

/// All that a run found.
pub(crate) struct Report {
    /// What the figures were taken on and how.
    pub(crate) setting: String,
    /// The rows that were measured.
    pub(crate) lines: Vec<Line>,
    /// What blocks of access add.
    pub(crate) added: Vec<Added>,
    /// What else was seen, for people.
    pub(crate) notes: Vec<String>,
    /// Proxies that are absent and trials that failed.
    pub(crate) troubles: Vec<String>,
}

/// The middle one, or between the two in the middle; `None` of no figures.
fn median(figures: &[f64]) -> Option<f64> {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(figures[middle]),
        _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
    }
}

/// Median, and half the width of all rounds in per cent of it.
fn cell(figures: &[f64]) -> String {
    let Some(median) = median(figures) else {
        return "-".to_owned();
    };
    let lowest = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let digits = if median < 100.0 { 2 } else { 0 };
    let spread = if median > 0.0 { (highest - lowest) / 2.0 / median * 100.0 } else { 0.0 };
    format!("{median:.digits$} ±{spread:.0}%")
}

impl Line {
    fn median(&self, contestant: Contestant) -> Option<f64> {
        median(self.figures_of(contestant))
    }

    fn figures_of(&self, contestant: Contestant) -> &[f64] {
        let at = CONTESTANTS.iter().position(|one| *one == contestant);
        at.map_or(&[], |at| &self.figures[at])
    }

    /// Sheave's median over the lowest of its rivals' medians.
    fn ratio(&self) -> Option<f64> {
        let rivals = CONTESTANTS.into_iter().filter(|one| *one != Contestant::Sheave);
        let best = rivals.filter_map(|one| self.median(one)).min_by(f64::total_cmp)?;
        Some(self.median(Contestant::Sheave)? / best)
    }

    /// Whether the row meets its aim; `None` without one, or without a ratio.
    fn meets_aim(&self) -> Option<bool> {
        let under = match self.part.aim {
            Aim::None => return None,
            Aim::Best => true,
            Aim::BestAndAtMost(ceiling) => self.median(Contestant::Sheave)? <= ceiling,
        };
        Some(under && self.ratio()? <= 1.0)
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.part.title.to_owned(), self.part.unit.to_owned()];
        cells.extend(CONTESTANTS.map(|one| cell(self.figures_of(one))));
        let ratio = self.ratio().filter(|_| self.part.aim != Aim::None);
        cells.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
        cells.push(match self.part.aim {
            Aim::None => "-".to_owned(),
            Aim::Best => "≤ 1.00".to_owned(),
            Aim::BestAndAtMost(ceiling) => format!("≤ 1.00 and ≤ {ceiling:.0} {}", self.part.unit),
        });
        cells.push(match self.meets_aim() {
            Some(true) => "yes".to_owned(),
            Some(false) => "no".to_owned(),
            None => "-".to_owned(),
        });
        cells
    }
}

impl Added {
    fn cells(&self) -> Vec<String> {
        let [without, with] = &self.figures;
        let added = median(with)
            .zip(median(without))
            .map(|(with, without)| format!("{:+.2} ({:+.1}%)", with - without, (with / without - 1.0) * 100.0));
        vec![self.title.clone(), self.unit.to_owned(), cell(without), cell(with), added.unwrap_or("-".to_owned())]
    }
}

/// A table that reads well on a terminal too.
fn table(head: Vec<String>, lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut rows = vec![head];
    rows.extend(lines);
    let width_of = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len()).filter_map(width_of).collect();
    rows.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> =
            cells.map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count()))).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} |", padded.join(" | "));
    }
    out
}

impl Report {
    /// All of it as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("# What Sheave costs beside its peers\n\n{}\n", self.setting);
        if !self.lines.is_empty() {
            let mut head = vec!["row".to_owned(), "unit".to_owned()];
            head.extend(CONTESTANTS.map(|one| one.name().to_owned()));
            head.extend(["ratio to best peer", "aim", "met"].map(str::to_owned));
            let _ = write!(out, "\n{}", table(head, self.lines.iter().map(Line::cells)));
        }
        if !self.added.is_empty() {
            let head = ["what a block of access adds", "unit", "without", "with", "added"].map(str::to_owned).to_vec();
            let _ = write!(out, "\n{}", table(head, self.added.iter().map(Added::cells)));
        }
        for list in [&self.notes, &self.troubles].into_iter().filter(|list| !list.is_empty()) {
            out.push('\n');
            for line in list {
                let _ = writeln!(out, "- {line}");
            }
        }
        out
    }
}
