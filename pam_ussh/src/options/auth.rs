//! Options of `auth`: what a certificate must be like, and how the agent is asked.

use std::path::PathBuf;
use std::time::Duration;

use ussh_core::principals::PrincipalList;

use super::line::{Facet, Options};
use super::{Facility, FilePattern, OptionError, Problem};

/// Where the principals come from that a certificate must hold one of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principals {
    /// No list.
    None,
    /// `authorized_principals=`
    List(PrincipalList),
    /// `authorized_principals_file=`
    File(FilePattern),
}

/// Options of a line in `auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthOptions {
    /// Trusted CA keys.
    pub ca_file: PathBuf,
    /// PAM_USER must belong to it.
    pub group: Option<String>,
    /// List that a certificate must satisfy.
    pub principals: Principals,
    /// Whether it must name PAM_USER itself. `false` only with a list.
    pub require_user_principal: bool,
    /// KRL or plain list.
    pub revoked_keys: Option<PathBuf>,
    /// Longest time since that KRL was generated. Only with `revoked_keys`.
    pub krl_max_age: Option<Duration>,
    /// Longest `valid_before - valid_after`.
    pub max_validity: Option<Duration>,
    /// Longest time since the login.
    pub max_age: Option<Duration>,
    /// For all talk with the agent but signatures. 1 s to 5 min.
    pub timeout: Duration,
    /// For each signature: a person may have to touch or confirm. 1 s to 5 min.
    pub touch_timeout: Duration,
    /// What the user is told when a key waits for a touch; one line, at most 200 characters. `None`: nothing.
    pub cue: Option<String>,
    /// Instead of SSH_AUTH_SOCK.
    pub agent_socket: Option<PathBuf>,
    /// Whether another live socket is looked for where SSH_AUTH_SOCK is dead. Never with `agent_socket`.
    pub agent_search: bool,
    /// Whether certificate and agent must be those of the login that the caller's process descends from. Never with `agent_socket`, nor in sshd.
    pub bind_session: bool,
    /// More in the log.
    pub debug: bool,
}

const CA_FILE: &str = ussh_core::break_glass::TRUSTED;
const TIMEOUT: Duration = Duration::from_secs(5);
const TOUCH_TIMEOUT: Duration = Duration::from_secs(60);
const CUE: &str = "Please touch your security key.";
/// Longest `cue_prompt=`, in characters.
const MAX_CUE: usize = 200;

impl Facet for AuthOptions {
    const FACILITY: Facility = Facility::Auth;

    /// For `account` too: what the two have in common.
    fn take(given: &mut Options) -> Result<Self, OptionError> {
        let agent_socket = given.path("agent_socket")?;
        let agent_search = given.yes_or_no("agent_search")?;
        let options = AuthOptions {
            ca_file: given.path("ca_file")?.unwrap_or_else(|| CA_FILE.into()),
            group: given.text("group"),
            principals: principals(given)?,
            require_user_principal: given.yes_or_no("require_user_principal")?.unwrap_or(true),
            revoked_keys: given.path("revoked_keys")?,
            krl_max_age: given.time("krl_max_age")?,
            max_validity: given.time("max_validity")?,
            max_age: given.time("max_age")?,
            timeout: given.wait("timeout")?.unwrap_or(TIMEOUT),
            touch_timeout: given.wait("touch_timeout")?.unwrap_or(TOUCH_TIMEOUT),
            cue: cue(given)?,
            agent_search: agent_search.unwrap_or(agent_socket.is_none()),
            agent_socket,
            bind_session: given.yes_or_no("bind_session")?.unwrap_or(false),
            debug: given.flag("debug").unwrap_or(false),
        };
        options.check().map(|()| options)
    }
}

impl AuthOptions {
    fn check(&self) -> Result<(), OptionError> {
        let contradiction = |name, text| Err(Problem::Contradiction { name, text }.on_line());
        if !self.require_user_principal && self.principals == Principals::None {
            return contradiction(
                "require_user_principal",
                "require_user_principal=no needs authorized_principals= or authorized_principals_file=",
            );
        }
        if self.krl_max_age.is_some() && self.revoked_keys.is_none() {
            return contradiction("krl_max_age", "krl_max_age= needs revoked_keys=, which names the KRL");
        }
        if self.agent_search && self.agent_socket.is_some() {
            return contradiction(
                "agent_search",
                "agent_search=yes and agent_socket= exclude each other: keep one of them",
            );
        }
        if self.bind_session && self.agent_socket.is_some() {
            return contradiction(
                "bind_session",
                "bind_session=yes and agent_socket= exclude each other: the agent must be that of the caller's own login",
            );
        }
        Ok(())
    }
}

fn principals(given: &mut Options) -> Result<Principals, OptionError> {
    let list = given.take("authorized_principals");
    let file = given.take("authorized_principals_file");
    match (list, file) {
        (None, None) => Ok(Principals::None),
        (Some(list), None) => PrincipalList::from_comma_list(&list.value)
            .map(Principals::List)
            .ok_or_else(|| list.is_not("authorized_principals", "names with commas between them, none of them empty")),
        (None, Some(file)) => FilePattern::parse(&file.value).map(Principals::File).ok_or_else(|| {
            file.is_not("authorized_principals_file", "an absolute path, with no %-sequences but %u, %U and %%")
        }),
        (Some(_), Some(file)) => Err(OptionError {
            origin: file.origin,
            problem: Problem::Contradiction {
                name: "authorized_principals",
                text: "authorized_principals and authorized_principals_file exclude each other: keep one of them",
            },
        }),
    }
}

/// `cue_prompt=` is a wish to be told as well (pam_u2f takes it as no more than a text for `cue`, and without that passes it over), unless the file says `cue = false` for this service.
fn cue(given: &mut Options) -> Result<Option<String>, OptionError> {
    let cue = given.flag("cue");
    let prompt = match given.take("cue_prompt") {
        Some(prompt) if !is_one_line(&prompt.value) => {
            return Err(prompt.is_not("cue_prompt", "one line of at most 200 printable characters"));
        }
        prompt => prompt.map(|prompt| prompt.value),
    };
    match cue.unwrap_or(prompt.is_some()) {
        true => Ok(Some(prompt.unwrap_or_else(|| CUE.to_owned()))),
        false => Ok(None),
    }
}

/// Fit for a terminal: no control character, no line or paragraph separator, nothing that turns the direction of writing; and not only blanks.
fn is_one_line(text: &str) -> bool {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    !text.trim().is_empty() && text.chars().count() <= MAX_CUE && !text.chars().any(is_odd)
}
