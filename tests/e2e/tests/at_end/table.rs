//! The manual's table.

const MANUAL: &str = include_str!("../../../../docs/sessions.md");
const HEAD: &str = "| what is open | ";

/// A column of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// A newer certificate is in the laptop's agent before the end.
    Renewed,
    /// None is, and `at_end = "end"`.
    End,
    /// None is, and `at_end = "freeze"`.
    Freeze,
}

/// In the order of [`Column`].
pub type Cells = [String; 3];

/// Its rows: what is open, and the cells.
pub fn of_the_manual() -> Vec<(String, Cells)> {
    let mut lines = MANUAL.lines().skip_while(|line| !line.starts_with(HEAD)).take_while(|line| line.starts_with('|'));
    assert!(lines.next().is_some() && lines.next().is_some_and(|line| line.starts_with("|---")), "no table {HEAD}");
    lines
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
            let what = cells.next().unwrap();
            let cells: Vec<String> = cells.collect();
            (what, cells.try_into().unwrap_or_else(|cells| panic!("{line}: {cells:?}")))
        })
        .collect()
}

/// As it is read best where two are not the same.
pub fn shown(rows: &[(String, Cells)]) -> Vec<String> {
    rows.iter().map(|(what, cells)| format!("{what:34} | {:12} | {:28} | {}", cells[0], cells[1], cells[2])).collect()
}
