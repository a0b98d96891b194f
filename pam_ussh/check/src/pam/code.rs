//! What a module may return, and what a line makes of it (libpam/pam_tokens.h, pam_private.h).

use std::fmt;

use ussh_os::pam_names::RETURN_NAMES;

/// A PAM return value, 0 to 31.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u8);

impl Code {
    /// PAM_SUCCESS.
    pub const SUCCESS: Code = Code(0);
    /// PAM_SERVICE_ERR.
    pub const SERVICE_ERR: Code = Code(3);
    /// PAM_PERM_DENIED. libpam's own "must fail" too.
    pub const PERM_DENIED: Code = Code(6);
    /// PAM_AUTH_ERR.
    pub const AUTH_ERR: Code = Code(7);
    /// PAM_AUTHINFO_UNAVAIL.
    pub const AUTHINFO_UNAVAIL: Code = Code(9);
    /// PAM_NEW_AUTHTOK_REQD.
    pub const NEW_AUTHTOK_REQD: Code = Code(12);
    /// PAM_SESSION_ERR.
    pub const SESSION_ERR: Code = Code(14);
    /// PAM_IGNORE.
    pub const IGNORE: Code = Code(25);
    /// PAM_MODULE_UNKNOWN: the library is not there, or has no such hook.
    pub const MODULE_UNKNOWN: Code = Code(28);
    /// PAM_INCOMPLETE: the only one that ends nothing and decides nothing.
    pub const INCOMPLETE: Code = Code(31);

    /// All but PAM_INCOMPLETE, which only event-driven applications can make use of.
    pub fn all() -> impl Iterator<Item = Code> {
        (0..Code::INCOMPLETE.0).map(Code)
    }

    /// By its number in `_pam_types.h`.
    pub fn from_number(number: i32) -> Option<Code> {
        u8::try_from(number).ok().filter(|number| usize::from(*number) < RETURN_NAMES.len()).map(Code)
    }

    /// By its name in a control field.
    pub fn from_name(name: &str) -> Option<Code> {
        RETURN_NAMES.iter().zip(0..).find(|(one, _)| **one == name).map(|(_, number)| Code(number))
    }

    /// The first whose name `text` begins with, and that name's length: how libpam reads a control field (`_pam_parse_control`).
    pub fn at_start_of(text: &[u8]) -> Option<(Code, usize)> {
        RETURN_NAMES
            .iter()
            .zip(0..)
            .find(|(name, _)| text.starts_with(name.as_bytes()))
            .map(|(name, n)| (Code(n), name.len()))
    }

    /// As in a control field.
    pub fn name(self) -> &'static str {
        RETURN_NAMES.get(usize::from(self.0)).copied().unwrap_or("invalid")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a line does with what its module returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// As if the line were not there.
    Ignore,
    /// Success counts, unless something has failed.
    Ok,
    /// The same, and the (sub)stack ends if nothing has failed.
    Done,
    /// The stack has failed; the rest runs.
    Bad,
    /// The stack has failed and ends.
    Die,
    /// Back to what was when the substack began.
    Reset,
    /// So many lines of this level are skipped, and the result forgotten. Never 0.
    Jump(u32),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Ignore => f.write_str("ignored"),
            Action::Ok => f.write_str("counts"),
            Action::Done => f.write_str("counts, and ends the stack"),
            Action::Bad => f.write_str("refuses"),
            Action::Die => f.write_str("refuses, and ends the stack"),
            Action::Reset => f.write_str("forgets the substack"),
            Action::Jump(1) => f.write_str("skips the next line"),
            Action::Jump(lines) => write!(f, "skips {lines} lines"),
        }
    }
}

/// An action for each code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions([Action; 32]);

impl Actions {
    /// For each code the first pair that names it; `default` for the rest.
    pub fn new(pairs: &[(Code, Action)], default: Action) -> Self {
        let mut actions = [default; 32];
        for (code, action) in pairs {
            if let Some(one) = actions.get_mut(usize::from(code.0)) {
                *one = *action;
            }
        }
        Actions(actions)
    }

    /// What happens on this code.
    pub fn on(&self, code: Code) -> Action {
        self.0.get(usize::from(code.0)).copied().unwrap_or(Action::Bad)
    }
}
