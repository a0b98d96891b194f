//! What is printed: a table, and a legend for those who see it for the first time.

use std::fmt::Write;

use serde::Serialize;

use crate::row::{Fact, Goal, Row};
use crate::statistics::Spread;

/// What it all ran on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The ssh client's version.
    pub ssh: String,
    /// sudo's version.
    pub sudo: String,
    /// Processors.
    pub cores: usize,
    /// Of the minute before the first run.
    pub load_average: f64,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it all ran on.
    pub machine: Machine,
    /// The comparisons.
    pub rows: Vec<Row>,
    /// What is no time.
    pub facts: Vec<Fact>,
}

const COLUMNS: [&str; 9] =
    ["", "comparison", "n", "A: median (min–max)", "B: median (min–max)", "A/B", "A−B", "goals", "reached"];

impl Report {
    /// The table and its legend.
    pub fn to_text(&self) -> String {
        let lines: Vec<[String; 9]> = [COLUMNS.map(str::to_owned)]
            .into_iter()
            .chain(self.rows.iter().zip(1..).map(|(row, number)| cells(row, number)))
            .collect();
        let mut widths = [0; 9];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text += cells.join("  ").trim_end();
            text.push('\n');
        }
        text + &figures(&self.facts) + &self.legend()
    }

    fn legend(&self) -> String {
        let mut text = String::from(
            "\nTimes in milliseconds, of whole processes, from before the fork to after the end, taken inside of a scratch host.\n\
             A is ours, B what it is compared with. They ran in turn (A B A B …), n times each, after a first pair that is not counted.\n\
             A/B and A−B are of the medians; in brackets the median over the n pairs of neighbours, which other load on the machine moves less.\n\
             Of the rows of pam_ussh, ussh and the guarded agent three series were made; the one in which B was fastest counts: there the machine was disturbed least. Of the CA's rates, those of\n\
             the one of three rounds in which most was signed alone.\n",
        );
        for (row, number) in self.rows.iter().zip(1..) {
            let what = &row.comparison;
            // A String takes whatever is written to it.
            let _ = write!(text, "\n{number}  A  {}\n   B  {}\n", what.a, what.b);
        }
        let Machine { ssh, sudo, cores, load_average } = &self.machine;
        let _ = writeln!(text, "\n{ssh}, {sudo}; {cores} cores, load {load_average} at the start.");
        text
    }
}

/// One line each.
pub fn figures(facts: &[Fact]) -> String {
    let line = |fact: &Fact| {
        let most = fact.at_most.map(|most| format!("  at most {most:.0}"));
        let least = fact.at_least.map(|least| format!("  at least {least:.0}"));
        let goal = most.or(least).map(|goal| format!("{goal}: {}", said(fact.reached()))).unwrap_or_default();
        format!("{:<32}  {:>9.0} {}{goal}\n", fact.title, fact.value, fact.unit)
    };
    facts.iter().map(line).fold(String::from("\n"), |text, line| text + &line)
}

fn cells(row: &Row, number: usize) -> [String; 9] {
    [
        number.to_string(),
        row.comparison.title.to_owned(),
        row.runs.to_string(),
        spread(row.a_times),
        spread(row.b_times),
        format!("{:.2} ({:.2})", row.ratio, row.pairwise_ratio),
        format!("{:+.2} ({:+.2})", row.difference_ms, row.pairwise_difference_ms),
        row.comparison.goals.iter().map(goal).collect::<Vec<_>>().join(", "),
        said(row.reached).to_owned(),
    ]
}

fn goal(goal: &Goal) -> String {
    match goal {
        Goal::RatioAtMost(most) => format!("A/B ≤ {most:.2}"),
        Goal::MillisecondsOverAtMost(most) => format!("A−B ≤ {most:.1}"),
        Goal::Faster => "A < B".to_owned(),
    }
}

fn said(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    }
}

fn spread(of: Spread) -> String {
    format!("{:.2} ({:.2}–{:.2})", of.median_ms, of.min_ms, of.max_ms)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::row::Comparison;
    use crate::timer::Series;

    const FACT: Fact = Fact { title: "peak memory", value: 4321.0, unit: "KiB", at_most: Some(4000.0), at_least: None };

    fn report(goals: &'static [Goal]) -> Report {
        let comparison = Comparison { title: "login", a: "ours", b: "theirs", goals };
        let series = Series { a: vec![60_000, 64_000, 70_000], b: vec![250_000, 254_000, 300_000] };
        let machine = Machine { ssh: "OpenSSH_9".into(), sudo: "Sudo 1.9".into(), cores: 2, load_average: 0.5 };
        Report { machine, rows: vec![Row::new(comparison, &series).unwrap()], facts: vec![FACT] }
    }

    #[test]
    fn a_row_says_how_long_how_much_and_whether_that_is_enough() {
        let text = report(&[Goal::RatioAtMost(0.5)]).to_text();
        let row = text.lines().nth(1).unwrap();
        for cell in
            ["login", "3", "64.00 (60.00–70.00)", "254.00 (250.00–300.00)", "0.25 (0.24)", "-190.00 (-190.00)", "yes"]
        {
            assert!(row.contains(cell), "{cell}: {row}");
        }
    }

    #[test]
    fn a_missed_goal_is_printed_as_such() {
        let text = report(&[Goal::RatioAtMost(0.1)]).to_text();
        assert!(text.lines().nth(1).unwrap().ends_with("NO"), "{text}");
        let text = report(&[Goal::MillisecondsOverAtMost(-200.0)]).to_text();
        assert!(text.lines().nth(1).unwrap().ends_with("NO"), "{text}");
        assert!(!report(&[]).to_text().lines().nth(1).unwrap().contains("NO"));
    }

    #[test]
    fn a_figure_stands_with_its_bound_below_the_table() {
        let text = report(&[]).to_text();
        assert!(text.contains("4321 KiB  at most 4000: NO\n"), "{text}");
        let mut many = report(&[]);
        many.facts = vec![Fact { at_most: None, at_least: Some(4000.0), ..FACT }];
        assert!(many.to_text().contains("4321 KiB  at least 4000: yes\n"), "{}", many.to_text());
    }

    #[test]
    fn the_legend_says_what_a_and_b_are() {
        let text = report(&[]).to_text();
        assert!(text.contains("1  A  ours\n   B  theirs\n"), "{text}");
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let text = report(&[Goal::RatioAtMost(0.5)]).to_text();
        let at = |line: &str, word: &str| line.find(word).map(|byte| line[..byte].chars().count());
        let (head, row) = (text.lines().next().unwrap(), text.lines().nth(1).unwrap());
        assert_eq!(at(head, "A: median"), at(row, "64.0"));
        assert_eq!(at(head, "reached"), at(row, "yes"));
    }

    #[test]
    fn json_names_every_figure() {
        let json = serde_json::to_value(report(&[Goal::RatioAtMost(0.5)])).unwrap();
        let row = &json["rows"][0];
        assert_eq!(row["title"], "login");
        assert_eq!(row["goals"][0]["ratio_at_most"], 0.5);
        assert_eq!(row["reached"], true);
        assert_eq!(row["a_times"]["median_ms"], 64.0);
        assert_eq!(row["difference_ms"], -190.0);
    }
}
