//! Bytes that others chose, made fit for a log line or a terminal.

/// Most bytes of one foreign field (key ID, principal, user name, …) in a log line.
pub const MAX_FIELD: usize = 256;

/// Printable ASCII as it is, `\` and everything else as `\xHH`, cut (the cut marked by `...`) so that
/// the result is at most `max` bytes. An escape is never cut in two.
pub fn escape(bytes: &[u8], max: usize) -> String {
    escape_also(bytes, max, &[])
}

/// As [`escape`], and blanks and quotes are escaped too: for a foreign word in a sentence of ours, so that it cannot go on as another sentence.
pub fn escape_word(bytes: &[u8], max: usize) -> String {
    escape_also(bytes, max, b" \"'")
}

/// As [`escape`], but `\` passes: of a sentence whose foreign words are escaped already.
pub(crate) fn escape_sentence(text: &str, max: usize) -> String {
    escape_but(text.as_bytes(), max, |byte| byte == b'\\' || is_plain(byte))
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\\'
}

/// As [`escape`], and the bytes in `also` are escaped too: `"` for a field that stands in quotes.
pub(crate) fn escape_also(bytes: &[u8], max: usize, also: &[u8]) -> String {
    escape_but(bytes, max, |byte| is_plain(byte) && !also.contains(&byte))
}

fn escape_but(bytes: &[u8], max: usize, is_plain: impl Fn(u8) -> bool) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let hex = |nibble: u8| HEX.get(usize::from(nibble & 15)).map_or('?', |&c| char::from(c));

    let mut out = String::with_capacity(bytes.len().min(max));
    // Where to cut if the rest does not fit: the last length that leaves room for the mark.
    let mut cut = 0;
    for &byte in bytes {
        let plain = is_plain(byte);
        if out.len() + if plain { 1 } else { 4 } > max {
            out.truncate(cut);
            out.push_str("...".get(..max.min(3)).unwrap_or(""));
            return out;
        }
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str("\\x");
            out.push(hex(byte >> 4));
            out.push(hex(byte));
        }
        if out.len() + 3 <= max {
            cut = out.len();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn printable_ascii_passes() {
        let all: Vec<u8> = (b' '..=b'~').filter(|b| *b != b'\\').collect();
        assert_eq!(escape(&all, 1000).as_bytes(), all);
    }

    #[test]
    fn everything_else_becomes_hex() {
        assert_eq!(escape(b"a\nb\x1b[2J\0", 100), "a\\x0ab\\x1b[2J\\x00");
        assert_eq!(escape("é\u{202e}".as_bytes(), 100), "\\xc3\\xa9\\xe2\\x80\\xae");
        assert_eq!(escape(&[0x7f, 0x80, 0xff], 100), "\\x7f\\x80\\xff");
    }

    #[test]
    fn a_backslash_is_escaped_so_that_no_input_can_pass_for_an_escape() {
        assert_eq!(escape(b"\\x0a", 100), "\\x5cx0a");
    }

    #[test]
    fn a_word_cannot_go_on_as_another_sentence() {
        assert_eq!(
            escape_word(b"a: Accepted \"b\" 'c'\n", 100),
            "a:\\x20Accepted\\x20\\x22b\\x22\\x20\\x27c\\x27\\x0a"
        );
    }

    #[test]
    fn a_sentence_keeps_the_escapes_in_it_and_is_one_line() {
        assert_eq!(escape_sentence("a\\x20b c\n", 100), "a\\x20b c\\x0a");
        assert_eq!(escape_sentence("abcdefg", 6), "abc...");
    }

    #[test]
    fn a_quote_is_escaped_only_where_asked() {
        assert_eq!(escape_also(b"a\"b", 100, b"\""), "a\\x22b");
        assert_eq!(escape(b"a\"b", 100), "a\"b");
    }

    #[test]
    fn what_fits_exactly_is_not_cut() {
        assert_eq!(escape(b"abcdef", 6), "abcdef");
        assert_eq!(escape(b"ab\n", 6), "ab\\x0a");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_marked_within_the_bound() {
        assert_eq!(escape(b"abcdefg", 6), "abc...");
        assert_eq!(escape(b"a\nbcd", 6), "a...");
        assert_eq!(escape(b"\n\n", 7), "\\x0a...");
    }

    #[test]
    fn no_bound_is_ever_passed_and_no_escape_cut_in_two() {
        let input: Vec<u8> = (0..=255).rev().collect();
        for max in 0..1100 {
            let out = escape(&input, max);
            assert!(out.len() <= max, "{max}: {}", out.len());
            let body = out.strip_suffix("...").unwrap_or(&out);
            for (at, _) in body.match_indices('\\') {
                let escape = body.as_bytes().get(at..at + 4);
                assert!(
                    escape.is_some_and(|e| e[1] == b'x' && e[2..].iter().all(u8::is_ascii_hexdigit)),
                    "{max}: {out}"
                );
            }
        }
    }
}
