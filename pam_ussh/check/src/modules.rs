//! What is known of modules: which of them tell who somebody is, and what they may return.

pub mod arguments;

use crate::pam::code::{Action, Code};
use crate::pam::explore::Meaning;
use crate::pam::stack::{Facility, Handler};

use arguments::RealUid;

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
    /// Success if root runs the program: root in person where people start it, and nothing in a daemon.
    RootOk,
    /// It asks for proof of who somebody is. PAM_IGNORE only by its options ([`arguments::ignores_by`]), or where it may besides (`MAY_IGNORE`).
    Authenticates,
    /// Not known: whether it asks for proof cannot be told, and it may say PAM_IGNORE.
    Unknown,
    /// It tests a condition: its yes opens a way only where the line says so (`done`, a jump), and excepts people only if it names some ([`arguments::names_somebody`]).
    Tests,
    /// It says nothing of who somebody is.
    Helps,
}

const AUTHENTICATORS: &[&str] = &[
    "pam_authd",
    "pam_authd_exec",
    "pam_duo",
    "pam_fprintd",
    "pam_google_authenticator",
    "pam_himmelblau",
    "pam_krb5",
    "pam_ldap",
    "pam_mysql",
    "pam_oath",
    "pam_otpw",
    "pam_p11",
    "pam_pgsql",
    "pam_pkcs11",
    "pam_poldi",
    "pam_pwdfile",
    "pam_radius_auth",
    "pam_rssh",
    "pam_ssh",
    "pam_ssh_agent_auth",
    "pam_sss",
    "pam_sss_gss",
    "pam_systemd_home",
    "pam_tacplus",
    "pam_timestamp",
    "pam_u2f",
    "pam_unix",
    "pam_usb",
    "pam_userdb",
    "pam_winbind",
    "pam_yubico",
];

/// Of these those that may say PAM_IGNORE whatever stands on the line: by a file of their own, or by a mistake (pam_pkcs11: CVE-2025-24531; pam_u2f before 1.3.1: CVE-2025-23013).
const MAY_IGNORE: &[&str] = &[
    "pam_authd",
    "pam_authd_exec",
    "pam_duo",
    "pam_himmelblau",
    "pam_otpw",
    "pam_pkcs11",
    "pam_poldi",
    "pam_ssh",
    "pam_sss_gss",
    "pam_systemd_home",
    "pam_tacplus",
    "pam_u2f",
    "pam_usb",
];

/// Some say yes to all who are on no list of theirs (pam_abl, pam_geoip, pam_shield), or to whom a script lets pass (pam_exec, pam_script).
const TESTS: &[&str] = &[
    "pam_abl",
    "pam_access",
    "pam_exec",
    "pam_ftp",
    "pam_geoip",
    "pam_listfile",
    "pam_localuser",
    // A host's name, and files that the user writes.
    "pam_rhosts",
    "pam_script",
    "pam_shield",
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
        "pam_rootok" => Role::RootOk,
        _ if arguments::permits(handler) => Role::Permits,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspicion {
    /// A module does what it is made for, and what its options say.
    Likely,
    /// One that may say PAM_IGNORE does so; a test that names nobody is passed by anybody; root runs a program of which nothing is known.
    All,
    /// Besides, the yes of a module that is not known says nothing.
    Unknown,
}

/// What a chain is run for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// PAM_SERVICE.
    pub service: &'a str,
    /// Whose hook is called.
    pub facility: Facility,
    /// What is thought possible.
    pub suspicion: Suspicion,
}

/// What the line's module may return, and what that says. Whoever fails may fail with any code.
pub fn possible(handler: &Handler, asked: Asked<'_>) -> Vec<(Code, Meaning)> {
    let Asked { facility, suspicion, .. } = asked;
    let success = |meaning| std::iter::once((Code::SUCCESS, meaning));
    let failures = || {
        let first = [Code::AUTH_ERR, Code::AUTHINFO_UNAVAIL];
        let rest = Code::all().filter(move |code| !first.contains(code));
        first.into_iter().chain(rest).filter(|code| *code != Code::SUCCESS && *code != Code::IGNORE)
    };
    let nothing = |code| (code, Meaning::Nothing);
    let ignore = |may: bool| may.then_some(nothing(Code::IGNORE));
    let proof_if = |is: bool| if is && facility == Facility::Auth { Meaning::Proof } else { Meaning::Nothing };
    match role(handler) {
        Role::Ours => success(Meaning::Accepted)
            .chain(our_refusals(facility).iter().map(|code| (*code, Meaning::Refused)))
            .collect(),
        Role::Permits => vec![nothing(Code::SUCCESS)],
        Role::Denies if facility == Facility::Session => vec![nothing(Code::SESSION_ERR)],
        Role::Denies => vec![nothing(Code::AUTH_ERR)],
        Role::Debug => vec![nothing(debug_code(handler, facility))],
        Role::RootOk => {
            let in_person = match arguments::real_uid(asked.service) {
                RealUid::OfTheCaller => true,
                RealUid::Root => false,
                RealUid::Unknown => suspicion == Suspicion::Likely,
            };
            success(proof_if(in_person)).chain(failures().map(nothing)).collect()
        }
        Role::Authenticates => {
            let may_ignore = arguments::ignores_by(handler).is_some()
                || suspicion > Suspicion::Likely && MAY_IGNORE.contains(&handler.module_name());
            success(proof_if(true)).chain(failures().map(nothing)).chain(ignore(may_ignore)).collect()
        }
        Role::Unknown => success(proof_if(suspicion < Suspicion::Unknown))
            .chain(failures().map(nothing))
            .chain(ignore(suspicion > Suspicion::Likely))
            .collect(),
        Role::Tests => {
            let excepts = suspicion == Suspicion::Likely || arguments::names_somebody(handler, asked.service);
            let meaning = if opens(handler) && excepts { Meaning::Exemption } else { Meaning::Nothing };
            success(meaning).chain(failures().map(nothing)).chain(ignore(true)).collect()
        }
        Role::Helps if facility == Facility::Auth && never_yes(handler) => {
            failures().map(nothing).chain(ignore(true)).collect()
        }
        Role::Helps => success(Meaning::Nothing).chain(failures().map(nothing)).chain(ignore(true)).collect(),
    }
}

/// Whether its yes ends the stack or jumps: then it is there to except people.
pub fn opens(handler: &Handler) -> bool {
    matches!(handler.actions.on(Code::SUCCESS), Action::Done | Action::Jump(_))
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
