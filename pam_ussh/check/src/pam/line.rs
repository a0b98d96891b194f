//! Lines and words as libpam reads them (libpam/pam_handlers.c `_pam_assemble_line` and pam_misc.c `_pam_StrTok`, `_pam_mkargv` of 1.5; pam_line.c and `_pam_tokenize` since 1.6).
//!
//! Where the two read a line in different ways, it is read as 1.5 does, and that is a complaint.

/// Longest line that libpam 1.5 reads as one, in bytes, with what continues it and without the newline.
const LONGEST: usize = 1022;

/// A logical line: comments gone, continuations joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of its first part; from 1.
    pub number: usize,
    /// Never empty.
    pub text: Vec<u8>,
}

/// Something that no author meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// From 1.
    pub number: usize,
    /// What, and what comes of it.
    pub what: &'static str,
}

/// A file, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// In order.
    pub lines: Vec<Line>,
    /// In order.
    pub complaints: Vec<Complaint>,
    /// The last line is to be continued, and is not: libpam gives the whole service up.
    pub broken_off: bool,
}

/// Reads a file.
pub fn assemble(text: &[u8]) -> Lines {
    let mut read = Lines::default();
    let mut open: Option<Line> = None;
    let mut physical: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // What stands behind the last newline is a line only if there is something.
    if physical.last().is_some_and(|last| last.is_empty()) {
        physical.pop();
    }
    for (part, number) in physical.into_iter().zip(1..) {
        let mut complain = |what| read.complaints.push(Complaint { number, what });
        if part.contains(&0) {
            complain("a NUL byte: libpam reads no further than that in this line");
        }
        if part.len() > LONGEST {
            complain("longer than 1,022 bytes: libpam 1.5 takes the rest, of a comment too, for a line of its own");
        }
        let part = part.split(|byte| *byte == 0).next().unwrap_or_default();
        let part = trim_start(part);
        let Some(first) = part.first() else {
            if open.is_some() {
                complain("a blank line in the middle of a continued one: libpam 1.5 passes over it, 1.6 ends the line");
            }
            continue;
        };
        if *first == b'#' {
            if open.is_some() {
                complain("a comment in the middle of a continued line: libpam 1.5 passes over it, 1.6 ends the line");
            }
            continue;
        }
        let (part, continued) = match part.iter().position(|byte| *byte == b'#') {
            Some(end) => (part.get(..end).unwrap_or_default(), false),
            None => match trim_end(part).split_last() {
                Some((b'\\', before)) => (before, true),
                _ => (part, false),
            },
        };
        if part.last() == Some(&b'\r') {
            complain("a carriage return at the end: libpam takes it for a part of the last word");
        }
        let line = open.get_or_insert_with(|| Line { number, text: Vec::new() });
        line.text.extend_from_slice(part);
        if line.text.len() > LONGEST && part.len() <= LONGEST {
            complain("with what it continues longer than 1,022 bytes: libpam 1.5 does not read it as one line");
        }
        if continued {
            line.text.push(b' ');
        } else {
            read.lines.extend(open.take());
        }
    }
    if let Some(line) = open {
        read.broken_off = true;
        read.complaints.push(Complaint {
            number: line.number,
            what: "the file ends where this line is to be continued: libpam gives the whole service up",
        });
    }
    read
}

/// Words: blanks part them, `[…]` is one (with `\]` for a bracket in it), and what stands behind the bracket begins the next.
pub fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = trim_start(text);
    while let Some(first) = rest.first() {
        let (word, length) = if *first == b'[' { bracketed(rest) } else { plain(rest) };
        words.push(word);
        rest = trim_start(rest.get(length..).unwrap_or_default());
    }
    words
}

fn plain(text: &[u8]) -> (Vec<u8>, usize) {
    let word: Vec<u8> = text.iter().copied().take_while(|byte| !is_blank(*byte)).collect();
    let length = word.len();
    (word, length)
}

fn bracketed(text: &[u8]) -> (Vec<u8>, usize) {
    let mut word = Vec::new();
    let mut bytes = text.iter().copied().enumerate().skip(1).peekable();
    while let Some((at, byte)) = bytes.next() {
        match (byte, bytes.peek()) {
            (b']', _) => return (word, at + 1),
            (b'\\', Some((_, b']'))) => {
                word.push(b']');
                bytes.next();
            }
            _ => word.push(byte),
        }
    }
    (word, text.len())
}

/// The delimiters of `_pam_StrTok`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n')
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| is_blank(**byte)).count();
    text.get(blanks..).unwrap_or_default()
}

fn trim_end(text: &[u8]) -> &[u8] {
    let blanks = text.iter().rev().take_while(|byte| is_blank(**byte)).count();
    text.get(..text.len() - blanks).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    type Read = (Vec<(usize, String)>, Vec<(usize, &'static str)>);

    fn read(text: &str) -> Read {
        let read = assemble(text.as_bytes());
        let lines = read.lines.into_iter().map(|line| (line.number, String::from_utf8(line.text).unwrap())).collect();
        (lines, read.complaints.into_iter().map(|complaint| (complaint.number, complaint.what)).collect())
    }

    fn line_words(text: &str) -> Vec<String> {
        words(text.as_bytes()).into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn comments_and_blank_lines_are_no_lines() {
        let (lines, complaints) = read("#%PAM-1.0\n\n \t\n  # x\n a b # c\nd");
        assert_eq!(lines, [(5, "a b ".to_owned()), (6, "d".to_owned())]);
        assert!(complaints.is_empty());
        assert_eq!(read("").0, []);
    }

    #[test]
    fn a_backslash_at_the_end_continues_and_a_comment_does_not() {
        let (lines, complaints) = read("a \\\n  b \\ \t\nc\nd # e \\\nf");
        assert_eq!(lines, [(1, "a  b  c".to_owned()), (4, "d ".to_owned()), (5, "f".to_owned())]);
        assert!(complaints.is_empty());
    }

    #[test]
    fn what_versions_read_differently_is_a_complaint() {
        let (lines, complaints) = read("a \\\n# x\n\nb");
        assert_eq!(lines, [(1, "a  b".to_owned())]);
        assert_eq!(complaints.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3]);
        assert!(read(&format!("# {}", "x".repeat(1021))).1[0].1.contains("1,022 bytes"));
        assert_eq!(read(&format!("# {}", "x".repeat(1020))).1, []);
        assert!(read(&format!("a {}\\\n{}", "x".repeat(600), "y".repeat(600))).1[0].1.contains("continues"));
    }

    #[test]
    fn a_file_that_breaks_off_is_no_stack() {
        assert!(assemble(b"a\nb \\\n").broken_off && assemble(b"b \\").broken_off);
        assert!(!assemble(b"a\nb").broken_off);
    }

    #[test]
    fn a_carriage_return_is_no_blank() {
        assert!(read("a b\r\n").1[0].1.contains("carriage return"));
    }

    #[test]
    fn words_are_parted_by_blanks_and_kept_by_brackets() {
        assert_eq!(
            line_words("auth [success=1 default=ignore]  x.so\t[a b] c[d e"),
            ["auth", "success=1 default=ignore", "x.so", "a b", "c[d", "e"]
        );
        assert_eq!(line_words("[a]b [[c\\]\\d] [e f"), ["a", "b", "[c]\\d", "e f"]);
        assert_eq!(line_words("  "), Vec::<String>::new());
        assert_eq!(line_words("[]x"), ["", "x"]);
    }
}
