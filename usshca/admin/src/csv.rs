//! CSV (RFC 4180): a head line, fields in quotes where they need them.

/// One record, with the line's end.
pub fn record<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = fields.into_iter().map(field).collect();
    quoted.join(",") + "\r\n"
}

fn field(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_field_is_quoted() {
        assert_eq!(record(["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(record(["a,b", "say \"x\"", "two\nlines"]), "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\r\n");
        assert_eq!(record([" a", "b "]), "\" a\",\"b \"\r\n");
    }
}
