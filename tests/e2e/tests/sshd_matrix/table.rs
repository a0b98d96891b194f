//! The manual's table.

const MANUAL: &str = include_str!("../../../../docs/pam_ussh.md");
const HEAD: &str = "| way in | ";

/// A column of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// publickey alone.
    PublicKey,
    /// publickey,keyboard-interactive:pam.
    Behind,
    /// The same, and our line says no.
    Refused,
    /// publickey alone, and no record can be written.
    Unrecorded,
}

impl Column {
    /// Whether sshd asks our `auth` line.
    pub fn is_behind(self) -> bool {
        match self {
            Column::Behind | Column::Refused => true,
            Column::PublicKey | Column::Unrecorded => false,
        }
    }
}

/// In the order of [`Column`].
pub type Cells = [String; 4];

/// Its rows: the way, and the cells.
pub fn of_the_manual() -> Vec<(String, Cells)> {
    let mut lines = MANUAL.lines().skip_while(|line| !line.starts_with(HEAD)).take_while(|line| line.starts_with('|'));
    assert!(lines.next().is_some() && lines.next().is_some_and(|line| line.starts_with("|---")), "no table {HEAD}");
    lines
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
            let way = cells.next().unwrap();
            let cells: Vec<String> = cells.collect();
            (way, cells.try_into().unwrap_or_else(|cells| panic!("{line}: {cells:?}")))
        })
        .collect()
}

/// As it is read best where two are not the same.
pub fn shown(rows: &[(String, Cells)]) -> Vec<String> {
    rows.iter().map(|(way, cells)| format!("{way} | {}", cells.join(" | "))).collect()
}
