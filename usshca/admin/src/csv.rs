//! CSV (RFC 4180): a head line, fields in quotes where they need them. A field that a spreadsheet would take for a formula (users type reasons, hosts bring names) has an apostrophe
//! before it, by which spreadsheets know text. What steers a terminal or cannot be seen is `\xHH`, line ends too: JSON has such text as it is.

use ussh_core::escape::escape_unseen;

/// One record, with the line's end.
pub fn record<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = fields.into_iter().map(field).collect();
    quoted.join(",") + "\r\n"
}

fn field(text: &str) -> String {
    // A number with a sign is one.
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<i64>().is_err() {
        return quoted(&format!("'{text}"));
    }
    quoted(text)
}

fn quoted(text: &str) -> String {
    let text = escape_unseen(text);
    if text.contains(['"', ',']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_field_is_quoted() {
        assert_eq!(record(["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(record(["a,b", "say \"x\"", "two\nlines"]), "\"a,b\",\"say \"\"x\"\"\",two\\x0alines\r\n");
        assert_eq!(record([" a", "b "]), "\" a\",\"b \"\r\n");
    }

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(
            record(["a\u{1b}[2J\r\u{9b}1m\u{202e}", "\t=1", "über"]),
            "a\\x1b[2J\\x0d\\xc2\\x9b1m\\xe2\\x80\\xae,'\\x09=1,über\r\n"
        );
    }

    #[test]
    fn what_a_spreadsheet_would_take_for_a_formula_is_text() {
        assert_eq!(record(["=HYPERLINK(\"x\",1)"]), "\"'=HYPERLINK(\"\"x\"\",1)\"\r\n");
        assert_eq!(record(["@x", "+1+1", "-", "-5", "a=b"]), "'@x,'+1+1,'-,-5,a=b\r\n");
    }
}
