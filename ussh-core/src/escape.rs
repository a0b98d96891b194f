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

/// As [`escape`], but letters, digits, pictures and common signs of every script pass: for text that people write and read at a terminal. What steers it does not (controls, and whatever
/// turns the direction of writing round), nor what cannot be seen. Text with letters that are written from right to left stands between U+2068 and U+2069 (UAX #9, FSI and PDI), so that a
/// terminal which turns them round leaves what stands behind it in its place.
pub fn escape_text(text: &str, max: usize) -> String {
    const ISOLATE: (char, char) = ('\u{2068}', '\u{2069}');
    if !text.chars().any(is_right_to_left) {
        return escape_unreadable(text, max);
    }
    match max.checked_sub(ISOLATE.0.len_utf8() + ISOLATE.1.len_utf8()) {
        Some(room) => format!("{}{}{}", ISOLATE.0, escape_unreadable(text, room), ISOLATE.1),
        None => escape(text.as_bytes(), max),
    }
}

fn escape_unreadable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    let mut cut = 0;
    let mut before = Before::default();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer);
        let piece = if before.lets_pass(c, characters.peek().copied()) {
            bytes.to_owned()
        } else {
            escape(bytes.as_bytes(), usize::MAX)
        };
        if out.len() + piece.len() > max {
            out.truncate(cut);
            out.push_str("...".get(..max.min(3)).unwrap_or(""));
            return out;
        }
        out.push_str(&piece);
        if out.len() + 3 <= max {
            cut = out.len();
        }
    }
    out
}

/// What stands before a character, as far as it was shown as it is.
#[derive(Default)]
struct Before {
    shown: Option<char>,
    /// Marks on it so far.
    marks: u32,
}

impl Before {
    /// Most marks on one letter: more of them paint over other lines.
    const MAX_MARKS: u32 = 3;

    /// Marks pass on a letter, and what joins pictures or makes them coloured passes behind one.
    fn lets_pass(&mut self, c: char, next: Option<char>) -> bool {
        let is_mark = is_mark(c) && self.shown.is_some_and(char::is_alphanumeric) && self.marks < Self::MAX_MARKS;
        let joins = match c {
            '\u{fe0f}' => self.shown.is_some_and(is_picture),
            '\u{200d}' => {
                self.shown.is_some_and(|before| is_picture(before) || before == '\u{fe0f}')
                    && next.is_some_and(is_picture)
            }
            _ => false,
        };
        if is_mark {
            self.marks += 1;
            return true;
        }
        let passes = is_readable(c) || joins;
        *self = Before { shown: passes.then_some(c), marks: 0 };
        passes
    }
}

/// Marks that are no letters to Unicode: of Latin, Greek and Cyrillic, and what stands among the letters of India, South-East Asia and Tibet. None of these blocks holds a format character;
/// the two vowels of Khmer that cannot be seen are left out.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{34e}' | '\u{350}'..='\u{36f}' | '\u{3099}' | '\u{309a}')
        || (matches!(c, '\u{900}'..='\u{109f}' | '\u{1780}'..='\u{17b3}' | '\u{17b6}'..='\u{17ff}')
            && !c.is_alphanumeric())
}

/// Signs, pictures and flags.
fn is_picture(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{21ff}' | '\u{2600}'..='\u{27bf}' | '\u{1f1e6}'..='\u{1f1ff}' | '\u{1f300}'..='\u{1faff}')
}

/// By block, what is not assigned in them too (Unicode, DerivedBidiClass.txt, classes R and AL).
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

/// Columns that text from [`escape_text`] takes on a terminal, about: none for a mark of Latin, a joiner or an isolate, two for what is wide (Unicode, EastAsianWidth.txt, by block).
pub fn columns(text: &str) -> usize {
    let of = |c| match c {
        '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{2066}'..='\u{2069}' | '\u{fe0f}' | '\u{3099}' | '\u{309a}' => 0,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' => 2,
        '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' => 2,
        '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    };
    text.chars().map(of).sum()
}

/// Of what is not ASCII: letters and digits, signs of Latin-1 (but the soft hyphen), dashes, quotes and the like, currencies, and pictures. None of these blocks holds a format character
/// (U+200B to U+200F, U+2028 to U+202E, U+2060 to U+206F).
fn is_readable(c: char) -> bool {
    match c {
        ' '..='~' => c != '\\',
        '\u{ad}' => false,
        '\u{a1}'..='\u{ff}' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{20a0}'..='\u{20bf}' => true,
        // Fillers, which are letters to Unicode and blank to the eye.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => false,
        _ => c.is_alphanumeric() || is_picture(c),
    }
}

/// As it is, but for what steers a terminal or cannot be seen (controls, format characters), which is `\xHH` for each of its bytes: for a file of fields that other programs read and people
/// look at. `\` passes, so that names with one in them stay what they are: what is to be read back goes by [`escape_json`].
pub fn escape_unseen(text: &str) -> String {
    let piece =
        |c: char| if is_unseen(c) { escape(c.encode_utf8(&mut [0; 4]).as_bytes(), usize::MAX) } else { c.into() };
    text.chars().map(piece).collect()
}

/// JSON with whatever steers a terminal or cannot be seen as `\uHHHH` (RFC 8259 section 7), which means the same. Line ends stay, which stand between values: in a string none is left.
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_unseen(c) {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Controls (Cc), format characters (Cf), line and paragraph separators, and fillers that are blank to the eye (Unicode 16, DerivedGeneralCategory.txt).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
        )
        || matches!(c, '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}')
        || matches!(c, '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// As [`escape`], but `\` passes: of a sentence whose foreign words are escaped already.
pub(crate) fn escape_sentence(text: &str, max: usize) -> String {
    escape_but(text.as_bytes(), max, |byte| byte == b'\\' || is_plain(byte))
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\\'
}

/// As [`escape`], and the bytes in `also` are escaped too: `"` for a field that stands in quotes.
pub fn escape_also(bytes: &[u8], max: usize, also: &[u8]) -> String {
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
    fn text_that_people_write_stays_readable_and_steers_nothing() {
        for text in ["über 5 € – „gut“", "срочно", "故障 2", "it's 100% \"ok\""] {
            assert_eq!(escape_text(text, 100), text);
        }
        let unseen = "a\u{1b}[2J\n\u{9b}\u{ad}\u{200b}\u{202e}\u{2066}\u{2028}\u{feff}\u{3164}\u{e0041}\\x";
        assert_eq!(
            escape_text(unseen, 1000),
            "a\\x1b[2J\\x0a\\xc2\\x9b\\xc2\\xad\\xe2\\x80\\x8b\\xe2\\x80\\xae\\xe2\\x81\\xa6\\xe2\\x80\\xa8\\xef\\xbb\\xbf\\xe3\\x85\\xa4\\xf3\\xa0\\x81\\x81\\x5cx"
        );
        assert_eq!((escape_text("üüüü", 8), escape_text("üüüü", 7)), ("üüüü".to_owned(), "üü...".to_owned()));
    }

    #[test]
    fn marks_and_pictures_pass_where_they_belong_to_what_is_seen() {
        for text in [
            "e\u{301}tude",
            "हिन्दी",
            "ключ утерян \u{1f511}",
            "\u{1f469}\u{200d}\u{1f469} \u{2764}\u{fe0f}",
            "が\u{3099}",
        ] {
            assert_eq!(escape_text(text, 200), text);
        }
        for (text, shown) in [
            ("\u{301}x", "\\xcc\\x81x"),
            (" \u{301}", " \\xcc\\x81"),
            ("e\u{301}\u{301}\u{301}\u{301}", "e\u{301}\u{301}\u{301}\\xcc\\x81"),
            ("a\u{fe0f}b\u{200d}c", "a\\xef\\xb8\\x8fb\\xe2\\x80\\x8dc"),
            ("\u{1f511}\u{200d}x", "\u{1f511}\\xe2\\x80\\x8dx"),
            ("क\u{17b4}", "क\\xe1\\x9e\\xb4"),
            ("a\u{34f}", "a\\xcd\\x8f"),
        ] {
            assert_eq!(escape_text(text, 200), shown, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_from_right_to_left_turns_nothing_else_round() {
        for text in ["אבד המפתח", "ضاع المفتاح 7", "x ש"] {
            assert_eq!(escape_text(text, 200), format!("\u{2068}{text}\u{2069}"));
        }
        // Its own isolates are none: the end is ours.
        assert_eq!(escape_text("א\u{2069}b", 200), "\u{2068}א\\xe2\\x81\\xa9b\u{2069}");
        for max in 0..40 {
            let shown = escape_text("אבגדהוזחטי", max);
            assert!(shown.len() <= max, "{max}: {shown}");
            assert_eq!(shown.contains('\u{2068}'), shown.contains('\u{2069}'), "{max}");
        }
    }

    #[test]
    fn columns_are_those_of_a_terminal() {
        for (text, expected) in
            [("abc", 3), ("e\u{301}", 1), ("한국어", 6), ("\u{1f511}", 2), ("\u{2068}שלום\u{2069}", 4), ("über", 4)]
        {
            assert_eq!(columns(text), expected, "{text}");
        }
    }

    #[test]
    fn fields_and_json_keep_all_that_is_seen_and_steer_nothing() {
        let seen = "DOM\\über \u{1f511} e\u{301} हिन्दी";
        assert_eq!((escape_unseen(seen), escape_json(seen)), (seen.to_owned(), seen.to_owned()));
        let unseen = "a\u{1b}[2J\r\u{7f}\u{9b}\u{ad}\u{202e}\u{2066}\u{2028}\u{feff}\u{3164}\u{e0041}";
        assert_eq!(
            escape_unseen(unseen),
            "a\\x1b[2J\\x0d\\x7f\\xc2\\x9b\\xc2\\xad\\xe2\\x80\\xae\\xe2\\x81\\xa6\\xe2\\x80\\xa8\\xef\\xbb\\xbf\\xe3\\x85\\xa4\\xf3\\xa0\\x81\\x81"
        );
        assert_eq!(
            escape_json(unseen),
            "a\\u001b[2J\\u000d\\u007f\\u009b\\u00ad\\u202e\\u2066\\u2028\\ufeff\\u3164\\udb40\\udc41"
        );
        assert_eq!((escape_unseen("a\nb"), escape_json("{}\n{}\n")), ("a\\x0ab".to_owned(), "{}\n{}\n".to_owned()));
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
