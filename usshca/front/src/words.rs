//! PAM's words as clients can show them.
//!
//! OpenSSH's client sends an INFO_REQUEST's instruction through its log: cut after 1023 bytes, each byte that is no ASCII as `\ooo` (log.c, `do_log`: MSGBUFSIZ, LOG_STDERR_VIS).
//! A prompt it shows whole, and in UTF-8 (sshconnect2.c, `input_userauth_info_req`: asmprintf). sshd puts text before the prompt for that reason (auth-pam.c, `sshpam_query`).

use std::fmt::Write;

/// Most of one instruction, in bytes as that client shows them.
const MAX_INSTRUCTION: usize = 960;

/// Text without what steers a terminal: what is left of controls is the newline and the tab.
pub fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' if characters.peek() == Some(&'\n') => {}
            c if c.is_control() => {
                // Writing to a String never fails.
                let _ = write!(clean, "\\x{:02x}", u32::from(c));
            }
            c => clean.push(c),
        }
    }
    clean
}

/// Text for instructions, one after another: whole lines where they fit. Each part is as long as that client shows.
pub fn instructions(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut length = 0;
    for line in text.split_inclusive('\n') {
        let line_length: usize = line.chars().map(shown_length).sum();
        if length + line_length > MAX_INSTRUCTION && length > 0 {
            parts.push(String::new());
            length = 0;
        }
        for c in line.chars() {
            if length + shown_length(c) > MAX_INSTRUCTION {
                parts.push(String::new());
                length = 0;
            }
            length += shown_length(c);
            if let Some(part) = parts.last_mut() {
                part.push(c);
            }
        }
    }
    // The client ends each with a newline of its own.
    parts.iter().map(|part| part.strip_suffix('\n').unwrap_or(part).to_owned()).collect()
}

/// `\ooo` for each byte.
fn shown_length(c: char) -> usize {
    if c.is_ascii() { 1 } else { 4 * c.len_utf8() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(harmless("a\x1b[2J\x07\u{9b}5m\tb\r\nc\rd\0"), "a\\x1b[2J\\x07\\x9b5m\tb\nc\\x0dd\\x00");
        assert_eq!(harmless("Grüße — 欢迎"), "Grüße — 欢迎");
    }

    #[test]
    fn long_text_is_parted_between_lines_and_nothing_of_it_is_lost() {
        let text: String = (0..200).map(|n| format!("line {n}: {}\n", "ä".repeat(n % 7))).collect();
        let parts = instructions(&text);
        assert!(parts.len() > 2);
        assert_eq!(parts.join("\n") + "\n", text);
        for part in &parts {
            assert!(part.chars().map(shown_length).sum::<usize>() <= MAX_INSTRUCTION);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_parted_between_characters() {
        let text = "é".repeat(1000);
        let parts = instructions(&text);
        assert_eq!(parts.concat(), text);
        assert_eq!(parts[0].chars().count(), MAX_INSTRUCTION / 8);
        assert_eq!(instructions("one\ntwo"), ["one\ntwo"]);
        assert_eq!(instructions(""), [""]);
    }
}
