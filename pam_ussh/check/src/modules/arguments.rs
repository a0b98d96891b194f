//! What a module's arguments, and the service, make of its word.

use crate::pam::stack::Handler;

/// Services whose programs keep their caller's real uid (setuid programs that people start), so that pam_rootok's yes is root in person.
const STARTED_BY_PEOPLE: &[&str] = &[
    "chage",
    "chfn",
    "chpasswd",
    "chsh",
    "doas",
    "groupadd",
    "groupdel",
    "groupmems",
    "groupmod",
    "newusers",
    "passwd",
    "runuser",
    "runuser-l",
    "su",
    "su-l",
    "sudo",
    "sudo-i",
    "useradd",
    "userdel",
    "usermod",
];

/// Services of daemons, which run as root whoever is at the other end.
const DAEMONS: &[&str] = &["atd", "cron", "crond", "ftp", "login", "remote", "rlogin", "rsh", "sshd", "vsftpd"];

/// Who runs as root when a service asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealUid {
    /// Root only if root called.
    OfTheCaller,
    /// Always root.
    Root,
    /// Not known here.
    Unknown,
}

/// By the service's name.
pub fn real_uid(service: &str) -> RealUid {
    match service {
        _ if STARTED_BY_PEOPLE.contains(&service) => RealUid::OfTheCaller,
        _ if DAEMONS.contains(&service) => RealUid::Root,
        _ => RealUid::Unknown,
    }
}

/// Of modules that ask for proof: words on the line with which they answer PAM_IGNORE for some people, or when something is not there (each module's manual).
const IGNORE_BY_OPTION: &[(&str, &[&str])] = &[
    ("pam_google_authenticator", &["nullok"]),
    ("pam_himmelblau", &["ignore_unknown_user"]),
    ("pam_krb5", &["ignore_root", "ignore_unknown_principals", "minimum_uid"]),
    ("pam_ldap", &["ignore_authinfo_unavail", "ignore_unknown_user", "minimum_uid"]),
    ("pam_oath", &["no_usersfile_okay"]),
    ("pam_radius_auth", &["localifdown"]),
    ("pam_sss", &["ignore_authinfo_unavail", "ignore_unknown_user"]),
    ("pam_u2f", &["nouserok"]),
    ("pam_userdb", &["unknown_ok"]),
    ("pam_yubico", &["nullok"]),
];

/// The word on the line by which this module, which asks for proof, may pass people over.
pub fn ignores_by(handler: &Handler) -> Option<&'static str> {
    let (_, options) = IGNORE_BY_OPTION.iter().find(|(name, _)| *name == handler.module_name())?;
    options.iter().copied().find(|option| has(handler, option))
}

/// pam_u2f(8) `alwaysok`: for demonstrations.
pub fn permits(handler: &Handler) -> bool {
    handler.module_name() == "pam_u2f" && has(handler, "alwaysok")
}

fn has(handler: &Handler, option: &str) -> bool {
    handler.arguments.iter().any(|argument| argument.split(|byte| *byte == b'=').next() == Some(option.as_bytes()))
}

/// Whether a test that opens a way names those for whom it does: a user, a group, a list of them. What it does not know of says no.
pub fn names_somebody(handler: &Handler, service: &str) -> bool {
    let arguments: Vec<String> =
        handler.arguments.iter().map(|argument| String::from_utf8_lossy(argument).into_owned()).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    // PAM_USER is the one who calls, but for su, where it is the one whom anybody may ask for.
    let user_is_asked_for = matches!(service, "su" | "su-l" | "runuser" | "runuser-l");
    match handler.module_name() {
        // It judges the caller in su too. With `deny` it is all others who pass.
        "pam_wheel" => !has("deny"),
        "pam_ftp" => true,
        "pam_succeed_if" => {
            let subject = |word: &str| match word {
                "ruser" => true,
                "user" | "uid" | "gid" => has("use_uid") || !user_is_asked_for,
                _ => false,
            };
            arguments.windows(3).any(|words| match words {
                [field, test, value] => subject(field) && names(test, value),
                _ => false,
            })
        }
        "pam_listfile" => {
            let item = arguments.iter().find_map(|argument| argument.strip_prefix("item="));
            let by_person = match item {
                Some("ruser") => true,
                Some("user" | "group") => !user_is_asked_for,
                _ => false,
            };
            by_person && has("sense=allow") && !has("onerr=succeed")
        }
        _ => false,
    }
}

/// pam_succeed_if(8). All conditions of a line must hold, so that one that names somebody is enough.
fn names(test: &str, value: &str) -> bool {
    match test {
        "=" | "eq" | "in" | "ingroup" | "innetgr" => true,
        "=~" => value.bytes().any(|byte| !matches!(byte, b'*' | b'?')),
        _ => false,
    }
}
