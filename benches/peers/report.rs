//! The table: medians over the rounds, and Sheave beside its best rival.
//!
//! A column of a proxy that is not installed says so and takes no part in the
//! ratio; a trial that failed is named below the table, never left out in silence.

use std::fmt::Write as _;

use crate::rivals::{CONTESTANTS, Contestant};
use crate::row::Row;

/// Figures of one row, one list a contestant, in the order of `CONTESTANTS`.
pub(crate) struct Line<'a> {
    /// The row.
    pub(crate) row: &'a Row,
    /// One figure a round.
    pub(crate) figures: [Vec<f64>; CONTESTANTS.len()],
}

/// All that a run found.
pub(crate) struct Report<'a> {
    /// What the figures were taken on and how.
    pub(crate) setting: String,
    /// The rows that were measured.
    pub(crate) lines: Vec<Line<'a>>,
    /// Proxies that are absent and trials that failed.
    pub(crate) troubles: Vec<String>,
}

impl Line<'_> {
    /// Median of a contestant, `None` without any figure.
    fn median(&self, contestant: Contestant) -> Option<f64> {
        let mut figures = self.figures_of(contestant).to_vec();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        match figures.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(figures[middle]),
            _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
        }
    }

    fn figures_of(&self, contestant: Contestant) -> &[f64] {
        let at = CONTESTANTS.iter().position(|one| *one == contestant);
        at.map_or(&[], |at| &self.figures[at])
    }

    /// Median, and half the width of all rounds in per cent of it.
    fn cell(&self, contestant: Contestant) -> String {
        let Some(median) = self.median(contestant) else {
            return "-".to_owned();
        };
        let figures = self.figures_of(contestant);
        let lowest = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let digits = if median < 100.0 { 2 } else { 0 };
        let spread = (highest - lowest) / 2.0 / median * 100.0;
        format!("{median:.digits$} ±{spread:.0}%")
    }

    /// Sheave's median over the lowest of its rivals' medians.
    fn ratio(&self) -> Option<f64> {
        let rivals = CONTESTANTS.into_iter().filter(|one| *one != Contestant::Sheave);
        let best = rivals.filter_map(|one| self.median(one)).min_by(f64::total_cmp)?;
        Some(self.median(Contestant::Sheave)? / best)
    }

    /// Whether the row meets its aim; `None` without a ratio.
    fn meets_aim(&self) -> Option<bool> {
        let under = match self.row.ceiling {
            Some(ceiling) => self.median(Contestant::Sheave)? <= ceiling,
            None => true,
        };
        Some(under && self.ratio()? <= 1.0)
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.row.title.to_owned(), self.row.unit.to_owned()];
        cells.extend(CONTESTANTS.map(|one| self.cell(one)));
        cells.push(self.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
        cells.push(match self.row.ceiling {
            Some(ceiling) => format!("≤ 1.00 and ≤ {ceiling:.0} {}", self.row.unit),
            None => "≤ 1.00".to_owned(),
        });
        cells.push(match self.meets_aim() {
            Some(true) => "yes".to_owned(),
            Some(false) => "no".to_owned(),
            None => "-".to_owned(),
        });
        cells
    }
}

impl Report<'_> {
    /// The table as Markdown, which reads well on a terminal too.
    pub(crate) fn markdown(&self) -> String {
        let mut head = vec!["row".to_owned(), "unit".to_owned()];
        head.extend(CONTESTANTS.map(|one| one.name().to_owned()));
        head.extend(["ratio to best rival", "aim", "met"].map(str::to_owned));
        let mut rows = vec![head];
        rows.extend(self.lines.iter().map(Line::cells));
        let width_of = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..rows[0].len()).filter_map(width_of).collect();
        rows.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());

        let mut out = format!("{}\n\n", self.setting);
        for row in &rows {
            let cells = row.iter().zip(&widths);
            let padded: Vec<String> =
                cells.map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count()))).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(out, "| {} |", padded.join(" | "));
        }
        for trouble in &self.troubles {
            let _ = write!(out, "\n- {trouble}");
        }
        if !self.troubles.is_empty() {
            out.push('\n');
        }
        out
    }
}
