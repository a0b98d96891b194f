//! A table on a terminal or in a pipe: columns in line, two blanks between.

use ussh_core::escape::columns;

/// Lines with every column as wide as its widest cell; no blanks at a line's end. Cells hold no control characters.
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(cell));
        }
    }
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|&h| h.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn padded(cell: &str, width: usize) -> String {
    format!("{cell}{}", " ".repeat(width.saturating_sub(columns(cell))))
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
        let wide = [vec!["한국".to_owned(), "x".to_owned()], vec!["e\u{301}".to_owned(), "y".to_owned()]];
        assert_eq!(render(&["A", "B"], &wide), "A     B\n한국  x\ne\u{301}     y\n");
        assert_eq!(render(&["A", "B"], &[]), "A  B\n");
    }
}
