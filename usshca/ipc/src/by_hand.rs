//! For whoever starts one of the CA's inner programs by hand.

/// Exit status of a wrong command line (sysexits.h EX_USAGE).
pub const EX_USAGE: u8 = 64;

/// What to say, if this process has arguments: the supervisor gives none, so a person does.
pub fn complaint(program: &str) -> Option<String> {
    std::env::args_os().nth(1)?;
    Some(sentence(program))
}

fn sentence(program: &str) -> String {
    format!(
        "{program}: a part of the CA that `usshca serve` starts; it has no options and no use by hand (see: usshca --help)\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_that_says_who_starts_it() {
        let text = sentence("usshca-pam");
        assert!(text.starts_with("usshca-pam: ") && text.contains("`usshca serve`"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
