//! A table on a terminal or in a pipe: columns in line, two blanks between.

/// Lines with every column as wide as its widest cell; no blanks at a line's end. Cells hold no control characters; one that is two columns wide shifts what stands behind it.
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|&h| h.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_line_and_lines_end_without_blanks() {
        let rows = [
            vec!["1".to_owned(), "alice".to_owned(), String::new()],
            vec!["123456".to_owned(), "b".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            render(&["SERIAL", "KEY ID", "WHY"], &rows),
            "SERIAL  KEY ID  WHY\n1       alice\n123456  b       x\n"
        );
        let cut = [vec!["ab…".to_owned(), "x".to_owned()], vec!["abc".to_owned(), "y".to_owned()]];
        assert_eq!(render(&["A", "B"], &cut), "A    B\nab…  x\nabc  y\n");
        assert_eq!(render(&["A", "B"], &[]), "A  B\n");
    }
}
