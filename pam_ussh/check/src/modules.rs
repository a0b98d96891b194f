//! What is known of modules: which of them tell who somebody is, and what they may return.

use crate::pam::code::Code;
use crate::pam::explore::Meaning;
use crate::pam::stack::{Facility, Handler};

/// Our module's name.
pub const OURS: &str = "pam_ussh";

/// What a module's word is worth in `auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// pam_ussh.
    Ours,
    /// Always success.
    Permits,
    /// Never success.
    Denies,
    /// pam_debug: says what its arguments say.
    Debug,
    /// It asks for proof of who somebody is, and never ignores.
    Authenticates,
    /// Not known: taken for one that authenticates, and may say PAM_IGNORE besides.
    Unknown,
    /// It tests a condition that the administrator has named: its yes opens a way only where the line says so (`done`, a jump).
    Tests,
    /// It says nothing of who somebody is.
    Helps,
}

const AUTHENTICATORS: &[&str] = &[
    "pam_duo",
    "pam_fprintd",
    "pam_google_authenticator",
    "pam_krb5",
    "pam_ldap",
    "pam_mysql",
    "pam_oath",
    "pam_otpw",
    "pam_p11",
    "pam_pgsql",
    "pam_pkcs11",
    "pam_radius_auth",
    "pam_rhosts",
    // Root in person is a proof of its own.
    "pam_rootok",
    "pam_rssh",
    "pam_ssh_agent_auth",
    "pam_sss",
    "pam_sss_gss",
    "pam_systemd_home",
    "pam_tacplus",
    "pam_timestamp",
    "pam_u2f",
    "pam_unix",
    "pam_userdb",
    "pam_winbind",
    "pam_yubico",
];

const TESTS: &[&str] = &[
    "pam_access",
    "pam_exec",
    "pam_listfile",
    "pam_localuser",
    "pam_succeed_if",
    "pam_time",
    "pam_usertype",
    "pam_wheel",
];

const HELPERS: &[&str] = &[
    "pam_apparmor",
    "pam_cap",
    "pam_ck_connector",
    "pam_cracklib",
    "pam_echo",
    "pam_ecryptfs",
    "pam_elogind",
    "pam_env",
    "pam_faildelay",
    "pam_faillock",
    "pam_filter",
    "pam_fscrypt",
    "pam_gnome_keyring",
    "pam_group",
    "pam_issue",
    "pam_keyinit",
    "pam_kwallet",
    "pam_kwallet5",
    "pam_lastlog",
    "pam_lastlog2",
    "pam_limits",
    "pam_loginuid",
    "pam_mail",
    "pam_mkhomedir",
    "pam_motd",
    "pam_mount",
    "pam_namespace",
    "pam_nologin",
    "pam_pwhistory",
    "pam_pwquality",
    "pam_securetty",
    "pam_selinux",
    "pam_sepermit",
    "pam_setquota",
    "pam_shells",
    "pam_stress",
    "pam_systemd",
    "pam_systemd_loadkey",
    "pam_tally",
    "pam_tally2",
    "pam_tmpdir",
    "pam_tty_audit",
    "pam_umask",
    "pam_warn",
    "pam_xauth",
    "pam_zfs_key",
];

/// Of the helpers those whose `auth` never says yes: PAM_IGNORE, or a failure. pam_nologin says yes with `successok`.
const NEVER_YES: &[&str] = &["pam_env", "pam_faildelay", "pam_group", "pam_mail", "pam_nologin", "pam_warn"];

/// By the module's name.
pub fn role(handler: &Handler) -> Role {
    let name = handler.module_name();
    let is_in = |list: &[&str]| list.contains(&name);
    match name {
        OURS => Role::Ours,
        "pam_permit" => Role::Permits,
        "pam_deny" => Role::Denies,
        "pam_debug" => Role::Debug,
        _ if is_in(AUTHENTICATORS) => Role::Authenticates,
        _ if is_in(TESTS) => Role::Tests,
        _ if is_in(HELPERS) => Role::Helps,
        _ => Role::Unknown,
    }
}

/// Whether it is a line of ours.
pub fn is_ours(handler: &Handler) -> bool {
    handler.module_name() == OURS
}

/// How far to go in what is thought possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// A module that is not known may say PAM_IGNORE.
    All,
    /// It says yes or no.
    Likely,
}

/// What the line's module may return when the facility's hook is called, and what that says. Whoever fails may fail with any code.
pub fn possible(handler: &Handler, facility: Facility, suspicion: Suspicion) -> Vec<(Code, Meaning)> {
    let role = role(handler);
    let success = |meaning| std::iter::once((Code::SUCCESS, meaning));
    let failures = || {
        let first = [Code::AUTH_ERR, Code::AUTHINFO_UNAVAIL];
        let rest = Code::all().filter(move |code| !first.contains(code));
        first.into_iter().chain(rest).filter(|code| *code != Code::SUCCESS && *code != Code::IGNORE)
    };
    let nothing = |code| (code, Meaning::Nothing);
    let proof = if facility == Facility::Auth { Meaning::Proof } else { Meaning::Nothing };
    match role {
        Role::Ours => success(Meaning::Accepted)
            .chain(our_refusals(facility).iter().map(|code| (*code, Meaning::Refused)))
            .collect(),
        Role::Permits => vec![nothing(Code::SUCCESS)],
        Role::Denies if facility == Facility::Session => vec![nothing(Code::SESSION_ERR)],
        Role::Denies => vec![nothing(Code::AUTH_ERR)],
        Role::Debug => vec![nothing(debug_code(handler, facility))],
        Role::Authenticates => success(proof).chain(failures().map(nothing)).collect(),
        Role::Unknown if suspicion == Suspicion::Likely => success(proof).chain(failures().map(nothing)).collect(),
        Role::Unknown => success(proof).chain(failures().map(nothing)).chain([nothing(Code::IGNORE)]).collect(),
        Role::Tests => {
            let opens = matches!(
                handler.actions.on(Code::SUCCESS),
                crate::pam::code::Action::Done | crate::pam::code::Action::Jump(_)
            );
            let meaning = if opens { Meaning::Exemption } else { Meaning::Nothing };
            success(meaning).chain(failures().map(nothing)).chain([nothing(Code::IGNORE)]).collect()
        }
        Role::Helps if facility == Facility::Auth && never_yes(handler) => {
            failures().map(nothing).chain([nothing(Code::IGNORE)]).collect()
        }
        Role::Helps => {
            success(Meaning::Nothing).chain(failures().map(nothing)).chain([nothing(Code::IGNORE)]).collect()
        }
    }
}

fn never_yes(handler: &Handler) -> bool {
    NEVER_YES.contains(&handler.module_name()) && !handler.arguments.iter().any(|argument| argument == b"successok")
}

/// Every no of our module, and that it is not there.
pub fn our_refusals(facility: Facility) -> &'static [Code] {
    match facility {
        Facility::Auth | Facility::Account | Facility::Password => {
            &[Code::AUTH_ERR, Code::AUTHINFO_UNAVAIL, Code::PERM_DENIED, Code::SERVICE_ERR, Code::MODULE_UNKNOWN]
        }
        Facility::Session => &[Code::SESSION_ERR, Code::SERVICE_ERR, Code::MODULE_UNKNOWN],
    }
}

/// pam_debug(8): `auth=CODE` and the like; success without.
fn debug_code(handler: &Handler, facility: Facility) -> Code {
    let event: &[u8] = match facility {
        Facility::Auth => b"auth=",
        Facility::Account => b"acct=",
        Facility::Password => b"prechauthtok=",
        Facility::Session => b"open_session=",
    };
    let value = handler.arguments.iter().find_map(|argument| argument.strip_prefix(event));
    value.and_then(|value| Code::from_name(std::str::from_utf8(value).ok()?)).unwrap_or(Code::SUCCESS)
}
