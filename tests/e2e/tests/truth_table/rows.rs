//! What pam_ussh may answer, and a line that makes it do so while the agent holds a certificate for alice and root.

/// Of libpam's codes those that we give, in its words (pam_strerror).
pub const AUTH_ERR: &str = "Authentication failure";
const PERM_DENIED: &str = "Permission denied";
pub const UNAVAILABLE: &str = "Authentication service cannot retrieve authentication info";
pub const SERVICE_ERR: &str = "Error in service module";

/// A revocation list that is older than anybody allows.
pub const STALE: &str = "/etc/ssh/stale-krl";

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    /// Module and options.
    pub line: &'static str,
    pub answer: Answer,
    /// Whether it is the agent that makes the difference: not asked where `auth` has just made the proof.
    pub is_agents: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Accepted,
    /// What the application gets, and how the line in the log ends.
    Refused(&'static str, &'static str),
    /// What the application gets: of the panic itself the log names the place.
    Panicked(&'static str),
}

const fn row(name: &'static str, line: &'static str, answer: Answer) -> Row {
    Row { name, line, answer, is_agents: false }
}

const REFUSED: [Row; 7] = [
    row(
        "refused",
        "pam_ussh.so authorized_principals=nobody",
        Answer::Refused(AUTH_ERR, ": certificate does not name a demanded principal: one of nobody"),
    ),
    row(
        "not in the group",
        "pam_ussh.so group=contractors",
        Answer::Refused(PERM_DENIED, ": not in group contractors"),
    ),
    Row {
        is_agents: true,
        ..row(
            "no agent",
            "pam_ussh.so agent_socket=/run/none",
            Answer::Refused(UNAVAILABLE, ": agent: /run/none: No such file or directory (os error 2)"),
        )
    },
    row(
        "list too old",
        "pam_ussh.so revoked_keys=/etc/ssh/stale-krl krl_max_age=1d",
        Answer::Refused(UNAVAILABLE, " s old, more than the 86400 s allowed"),
    ),
    row(
        "no CA file",
        "pam_ussh.so ca_file=/etc/ssh/none",
        Answer::Refused(SERVICE_ERR, ": misconfigured: /etc/ssh/none: No such file or directory (os error 2)"),
    ),
    row(
        "unknown option",
        "pam_ussh.so grup=admins",
        Answer::Refused(SERVICE_ERR, ": misconfigured: unknown option grup"),
    ),
    // The module that is installed cannot be made to panic.
    row(
        "no panic to be had",
        "pam_ussh.so inject_panic=auth",
        Answer::Refused(SERVICE_ERR, ": misconfigured: unknown option inject_panic"),
    ),
];

const ACCEPTED: [Row; 2] = [
    row("good", "pam_ussh.so", Answer::Accepted),
    // Nothing but the panic tells it from the other module.
    row("good, of the build that panics", "pam_ussh_panics.so inject_panic=never", Answer::Accepted),
];

/// All answers of `auth`.
pub fn auth() -> Vec<Row> {
    let panicked = row("panic", "pam_ussh_panics.so inject_panic=auth", Answer::Panicked(UNAVAILABLE));
    [&ACCEPTED[..], &REFUSED, &[panicked]].concat()
}

/// All answers of `account`.
pub fn account() -> Vec<Row> {
    let panicked = row("panic", "pam_ussh_panics.so inject_panic=account", Answer::Panicked(SERVICE_ERR));
    [&ACCEPTED[..], &REFUSED, &[panicked]].concat()
}
