//! What options there are, on what lines, and what a value must look like. The one list: the line, the file and the manual are held to it.

use std::fmt;

/// The kind of line that an option stands on: PAM's management groups, as far as we have hooks with options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facility {
    /// `auth`
    Auth,
    /// `account`
    Account,
    /// `session`
    Session,
}

impl Facility {
    /// All of them.
    pub(super) const ALL: [Facility; 3] = [Facility::Auth, Facility::Account, Facility::Session];

    /// As PAM's files write it.
    pub fn name(self) -> &'static str {
        match self {
            Facility::Auth => "auth",
            Facility::Account => "account",
            Facility::Session => "session",
        }
    }
}

/// What a value is, and so how a line (`max_age=8h`, `agent_search=no`, `debug`) and the file (`max_age_seconds = 28800`, `agent_search = false`, `debug = true`) write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// Names: with commas between them on a line, an array in the file.
    Names,
    /// `yes` or `no` on a line, a boolean in the file.
    YesNo,
    /// A time on a line, `_seconds` and an integer in the file.
    Time,
    /// There or not; a boolean in the file.
    Flag,
}

/// One option.
#[derive(Debug)]
pub(super) struct Spec {
    pub name: &'static str,
    pub kind: Kind,
    /// On what lines it may stand.
    pub facilities: &'static [Facility],
    /// Whether the file may hold it.
    pub in_file: bool,
}

const CERTIFICATE: &[Facility] = &[Facility::Auth, Facility::Account];
const ACCOUNT: &[Facility] = &[Facility::Account];
const SESSION: &[Facility] = &[Facility::Session];
const ANY: &[Facility] = &Facility::ALL;

const fn spec(name: &'static str, kind: Kind, facilities: &'static [Facility]) -> Spec {
    Spec { name, kind, facilities, in_file: true }
}

pub(super) const OPTIONS: [Spec; 20] = [
    spec("ca_file", Kind::Text, CERTIFICATE),
    spec("revoked_keys", Kind::Text, CERTIFICATE),
    spec("krl_max_age", Kind::Time, CERTIFICATE),
    spec("authorized_principals", Kind::Names, CERTIFICATE),
    spec("authorized_principals_file", Kind::Text, CERTIFICATE),
    spec("require_user_principal", Kind::YesNo, CERTIFICATE),
    spec("group", Kind::Text, CERTIFICATE),
    spec("max_validity", Kind::Time, CERTIFICATE),
    spec("max_age", Kind::Time, CERTIFICATE),
    spec("timeout", Kind::Time, CERTIFICATE),
    spec("touch_timeout", Kind::Time, CERTIFICATE),
    spec("cue", Kind::Flag, CERTIFICATE),
    spec("cue_prompt", Kind::Text, CERTIFICATE),
    spec("agent_socket", Kind::Text, CERTIFICATE),
    spec("agent_search", Kind::YesNo, CERTIFICATE),
    spec("bind_session", Kind::YesNo, CERTIFICATE),
    spec("account_exempt_group", Kind::Text, ACCOUNT),
    spec("spool_failure", Kind::Text, SESSION),
    spec("debug", Kind::Flag, ANY),
    Spec { name: "config", kind: Kind::Text, facilities: ANY, in_file: false },
];

impl Spec {
    /// By its name on a line.
    pub fn by_name(name: &str) -> Option<&'static Spec> {
        OPTIONS.iter().find(|spec| spec.name == name)
    }

    /// By its key in the file.
    pub fn by_key(key: &str) -> Option<&'static Spec> {
        OPTIONS.iter().find(|spec| {
            spec.in_file
                && match spec.kind {
                    Kind::Time => key.strip_suffix("_seconds") == Some(spec.name),
                    Kind::Text | Kind::Names | Kind::YesNo | Kind::Flag => key == spec.name,
                }
        })
    }

    /// Whether the option of this name takes a list of names.
    pub fn takes_names(name: &str) -> bool {
        Spec::by_name(name).is_some_and(|spec| spec.kind == Kind::Names)
    }

    /// Whether it may stand on such a line.
    pub fn is_for(&self, facility: Facility) -> bool {
        self.facilities.contains(&facility)
    }
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
