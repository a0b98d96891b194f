//! The control field: `required`, …, or `[code=action …]` (libpam/pam_handlers.c `_pam_parse_conf_file`, pam_misc.c `_pam_parse_control`).

use super::code::{Action, Actions, Code};

/// What is said in the second field of a line.
// One for each line of a file: what it takes is of no concern.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A module's result, mapped to actions.
    Actions(Actions),
    /// `include FILE`
    Include,
    /// `substack FILE`
    Substack,
}

/// Actions as `text` (without its brackets) says, and what libpam does not like about it: then all of them are `bad`.
pub fn parse(text: &[u8]) -> (Control, Option<&'static str>) {
    use Action::{Bad, Die, Done, Ignore, Ok};
    let simple = |success, ignore, default| {
        let pairs = [(Code::SUCCESS, success), (Code::NEW_AUTHTOK_REQD, success), (Code::IGNORE, ignore)];
        (Control::Actions(Actions::new(&pairs, default)), None)
    };
    match text.to_ascii_lowercase().as_slice() {
        b"required" => simple(Ok, Ignore, Bad),
        b"requisite" => simple(Ok, Ignore, Die),
        b"optional" => simple(Ok, Ignore, Ignore),
        b"sufficient" => simple(Done, Ignore, Ignore),
        b"include" => (Control::Include, None),
        b"substack" => (Control::Substack, None),
        _ => match explicit(text) {
            Result::Ok(actions) => (Control::Actions(actions), None),
            Err(why) => (Control::Actions(Actions::new(&[], Bad)), Some(why)),
        },
    }
}

/// Codes are known by the beginning of what is written, blanks stand where they like, and the last word on a code counts.
fn explicit(text: &[u8]) -> Result<Actions, &'static str> {
    let mut rest = Rest(text);
    let mut pairs = Vec::new();
    let mut default = None;
    loop {
        rest.skip_space();
        if rest.0.is_empty() {
            return Ok(Actions::new(&pairs, default.unwrap_or(Action::Bad)));
        }
        let code = match Code::at_start_of(rest.0) {
            Some((code, length)) => {
                rest.skip(length);
                Some(code)
            }
            None if rest.take(b"default") => None,
            None => return Err("no return value of PAM"),
        };
        rest.skip_space();
        if !rest.take(b"=") {
            return Err("no = behind a return value");
        }
        rest.skip_space();
        let action = rest.action()?;
        match code {
            Some(code) => pairs.push((code, action)),
            // The first `default` fills all that is open, so that a second finds nothing to fill.
            None => default = default.or(Some(action)),
        }
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn skip(&mut self, length: usize) {
        self.0 = self.0.get(length..).unwrap_or_default();
    }

    /// isspace(3)
    fn skip_space(&mut self) {
        let length = self.0.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
        self.skip(length);
    }

    fn take(&mut self, word: &[u8]) -> bool {
        let here = self.0.starts_with(word);
        if here {
            self.skip(word.len());
        }
        here
    }

    fn action(&mut self) -> Result<Action, &'static str> {
        let words: [(&[u8], Action); 6] = [
            (b"ignore", Action::Ignore),
            (b"ok", Action::Ok),
            (b"done", Action::Done),
            (b"bad", Action::Bad),
            (b"die", Action::Die),
            (b"reset", Action::Reset),
        ];
        if let Some((_, action)) = words.into_iter().find(|(word, _)| self.take(word)) {
            return Ok(action);
        }
        let digits: Vec<u8> = self.0.iter().copied().take_while(u8::is_ascii_digit).collect();
        self.skip(digits.len());
        let number = String::from_utf8(digits).unwrap_or_default();
        match number.parse::<u32>() {
            Ok(0) => Err("a jump over no line"),
            Ok(lines) if i32::try_from(lines).is_ok() => Ok(Action::Jump(lines)),
            Ok(_) => Err("a jump that is too far"),
            Err(_) if number.is_empty() => Err("no action behind ="),
            Err(_) => Err("a jump that is too far"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn actions(text: &str) -> Actions {
        match parse(text.as_bytes()) {
            (Control::Actions(actions), None) => actions,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn keywords_are_what_the_manual_says_in_any_case() {
        // pam.conf(5)
        assert_eq!(actions("required"), actions("success=ok new_authtok_reqd=ok ignore=ignore default=bad"));
        assert_eq!(actions("requisite"), actions("success=ok new_authtok_reqd=ok ignore=ignore default=die"));
        assert_eq!(actions("Sufficient"), actions("success=done new_authtok_reqd=done default=ignore"));
        assert_eq!(actions("OPTIONAL"), actions("success=ok new_authtok_reqd=ok default=ignore"));
        assert_eq!(parse(b"Include").0, Control::Include);
        assert_eq!(parse(b"subStack").0, Control::Substack);
    }

    #[test]
    fn what_is_not_named_is_bad() {
        assert_eq!(actions("success=2").on(Code::AUTH_ERR), Action::Bad);
        assert_eq!(actions("").on(Code::SUCCESS), Action::Bad);
        assert_eq!(actions("success=2").on(Code::SUCCESS), Action::Jump(2));
    }

    #[test]
    fn blanks_stand_where_they_like_and_the_last_word_counts() {
        let odd = actions("  success\t= \n done default=die success=1default=ok");
        assert_eq!(odd.on(Code::SUCCESS), Action::Jump(1));
        assert_eq!(odd.on(Code::AUTH_ERR), Action::Die);
    }

    #[test]
    fn what_libpam_cannot_read_makes_everything_bad() {
        for (text, why) in [
            ("sucess=1 default=ignore", "no return value of PAM"),
            ("requierd", "no return value of PAM"),
            ("success", "no = behind a return value"),
            ("success 1", "no = behind a return value"),
            ("successful=1", "no = behind a return value"),
            ("success=", "no action behind ="),
            ("success=okay", "no return value of PAM"),
            ("success=-1", "no action behind ="),
            ("success=0", "a jump over no line"),
            ("success=4294967297", "a jump that is too far"),
            ("success=99999999999999", "a jump that is too far"),
            ("SUCCESS=1", "no return value of PAM"),
        ] {
            let (control, complaint) = parse(text.as_bytes());
            assert_eq!(complaint, Some(why), "{text}");
            assert_eq!(control, Control::Actions(Actions::new(&[], Action::Bad)), "{text}");
        }
    }
}
