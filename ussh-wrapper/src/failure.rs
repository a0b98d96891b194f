//! How a run ends that did not become `ssh`: one sentence on what is wrong, one on what to try, and the exit status (sysexits(3)).

use std::io::ErrorKind;
use std::process::ExitCode;

use nix::sys::signal::{Signal, raise};
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_os::agent_socket::ConnectError;

use crate::arguments::UsageError;
use crate::config::{ConfigError, NoUserName};
use crate::exec::ExecError;
use crate::files::FilesError;
use crate::guard::{HomeError, ServeError, TerminalError};
use crate::login::{HostKeyTrouble, LoginError, Missing, Prompting};
use crate::proxy::ProxyError;
use crate::ssh_config::WriteError;
use crate::user_agent::AgentProblem;

/// EX_USAGE: a verb of ours was used wrongly.
pub const USAGE: u8 = 64;
/// EX_UNAVAILABLE: no agent, no CA, no certificate, no ssh.
pub const UNAVAILABLE: u8 = 69;
/// EX_CONFIG: the configuration is wrong.
pub const CONFIG: u8 = 78;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line.
    #[error("{0}")]
    Usage(#[from] UsageError),
    /// The configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The user has no name at the CA.
    #[error("{0}")]
    NoUserName(#[from] NoUserName),
    /// The agent.
    #[error("{0}")]
    Agent(#[from] AgentProblem),
    /// The files in place of one.
    #[error("{0}")]
    Files(#[from] FilesError),
    /// The login at the CA.
    #[error("{0}")]
    Login(#[from] LoginError),
    /// `--revoke`.
    #[error("{0}")]
    NotRevoked(Box<NotRevoked>),
    /// Running ssh.
    #[error("{0}")]
    Exec(#[from] ExecError),
    /// The guarded agent's folder or process.
    #[error("the guarded agent: {0}")]
    Home(#[from] HomeError),
    /// The guarded agent itself.
    #[error("the guarded agent: {0}")]
    Serve(#[from] ServeError),
    /// `--confirm`.
    #[error("{0}")]
    Terminal(#[from] TerminalError),
    /// `--proxy`.
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    /// `--write-config`, `--remove-config`.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// The log of the guarded agent.
    #[error("the log of the guarded agent cannot be read: {0}")]
    Log(std::io::Error),
    /// Standard output.
    #[error("what was to be shown cannot be written: {0}")]
    Output(std::io::Error),
}

/// The panic button was pressed, and the CA has not said that it did something.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.to_text())]
pub struct NotRevoked {
    /// Why not.
    pub source: Failure,
    /// How many certificates were removed here.
    pub removed: usize,
    /// When the last of these ends.
    pub until: Option<UnixTime>,
    /// Something is still here.
    pub is_left: bool,
}

impl NotRevoked {
    /// Whether nobody could be asked, for that reason.
    fn is_for_the_configuration(&self) -> bool {
        matches!(self.source, Failure::Config(_) | Failure::NoUserName(_))
    }
    /// What is missing to ask anybody, if that is why.
    fn missing(&self) -> Option<Missing> {
        if let Failure::Login(error) = &self.source { error.missing() } else { None }
    }
    /// First of all what is still dangerous.
    fn to_text(&self) -> String {
        let is_unsure = matches!(&self.source, Failure::Login(error) if !error.is_before_the_session());
        let what = if is_unsure {
            "the CA has not said that anything was revoked: take it that nothing was"
        } else {
            "nothing was revoked"
        };
        let copies = match self.until.filter(|end| *end > SystemClock.now()) {
            Some(UnixTime::FOREVER) => "a copy of the certificate that was here is good for ever".to_owned(),
            Some(end) => format!("a copy of what was here is good until {end}"),
            None => "copies of your certificates are good until they end".to_owned(),
        };
        let here = match self.removed {
            0 if self.is_left => "none was removed here: see above".to_owned(),
            0 => "none was here to remove".to_owned(),
            count if self.is_left => format!("of those here {count} went, and not all: see above"),
            1 => "1 certificate was removed here".to_owned(),
            count => format!("{count} certificates were removed here"),
        };
        format!("{what}, and {copies} ({here}): {}", self.source)
    }
}

impl Failure {
    /// Whether there is no agent.
    pub fn is_no_agent(&self) -> bool {
        matches!(self, Failure::Agent(problem) if problem.is_no_agent())
    }
    /// Whether a certificate had no place here: nothing of the CA's, and nothing that ssh would do wrong without one.
    pub fn is_no_place(&self) -> bool {
        match self {
            Failure::Login(error) => error.is_no_place(),
            Failure::Agent(problem) => problem.is_no_place(),
            Failure::Home(_) | Failure::Files(_) => true,
            Failure::Usage(_)
            | Failure::Config(_)
            | Failure::NoUserName(_)
            | Failure::NotRevoked(_)
            | Failure::Exec(_)
            | Failure::Serve(_)
            | Failure::Terminal(_)
            | Failure::Proxy(_)
            | Failure::Write(_)
            | Failure::Output(_)
            | Failure::Log(_) => false,
        }
    }
    /// Says it on stderr and gives the exit status; after a signal it ends the process by that signal.
    pub fn report(&self) -> ExitCode {
        if let Failure::Login(LoginError::Interrupted(signal)) = self {
            return end_by(*signal);
        }
        self.tell();
        ExitCode::from(self.exit_status())
    }

    /// Says what is wrong and what to try on stderr.
    pub fn tell(&self) {
        eprintln!("ussh: {self}");
        if let Some(advice) = self.advice() {
            eprintln!("ussh: {advice}");
        }
    }

    /// Exit status, as documented in `ussh --help`.
    pub fn exit_status(&self) -> u8 {
        match self {
            Failure::NotRevoked(not_revoked) if not_revoked.is_for_the_configuration() => CONFIG,
            Failure::Usage(_)
            | Failure::Proxy(ProxyError::Host(_) | ProxyError::Port(_))
            | Failure::Write(WriteError::NoHosts) => USAGE,
            Failure::Config(_)
            | Failure::Write(
                WriteError::Config(_)
                | WriteError::Broken { .. }
                | WriteError::SettingsThere(_)
                | WriteError::Locked(_),
            )
            | Failure::NoUserName(_)
            | Failure::Agent(AgentProblem::ClientKey(_))
            | Failure::Login(
                LoginError::NoCa | LoginError::KnownHosts(_) | LoginError::Agent(AgentProblem::ClientKey(_)),
            ) => CONFIG,
            Failure::Agent(_)
            | Failure::Files(_)
            | Failure::Login(_)
            | Failure::NotRevoked(_)
            | Failure::Exec(_)
            | Failure::Home(_)
            | Failure::Serve(_)
            | Failure::Terminal(_)
            | Failure::Proxy(_)
            | Failure::Write(_)
            | Failure::Output(_)
            | Failure::Log(_) => UNAVAILABLE,
        }
    }

    /// Whether it is the CA that fails, and not what was asked of it.
    pub fn is_ca_failure(&self) -> bool {
        matches!(self, Failure::Login(error) if error.is_ca_failure())
    }

    /// The one thing to try.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Failure::Usage(_) => Some("see `ussh --help`"),
            Failure::Agent(problem) => Some(agent_advice(problem)),
            Failure::Login(LoginError::Agent(problem)) => Some(agent_advice(problem)),
            Failure::Login(LoginError::NoCa) => Some(
                "put `ca = \"ca.example.com\"` into that file (or your own, ~/.config/ussh/ussh.toml, which overrides it); a USSH_CA that names none overrides both",
            ),
            Failure::Login(LoginError::KnownHosts(_)) => {
                Some("install the CA's known_hosts file as your administrator gives it out")
            }
            Failure::NotRevoked(not_revoked) if not_revoked.is_for_the_configuration() => Some(
                "mend that, and run `ussh --revoke` again; without it: ssh CA revoke-mine, or have the CA's administrators do it (usshca revoke --user YOU)",
            ),
            Failure::NotRevoked(not_revoked) if not_revoked.missing().is_some() => {
                not_revoked.missing().map(Missing::advice)
            }
            Failure::NotRevoked(_) => Some(
                "run `ussh --revoke` again; and if that does not help at once, have the CA's administrators do it (usshca revoke --user YOU)",
            ),
            Failure::Login(LoginError::Failed { prompting: Prompting::Impossible(missing), .. }) => {
                Some(missing.advice())
            }
            Failure::Login(LoginError::Failed { denied: true, prompting: Prompting::ByProgram, .. }) => Some(
                "try again; a program that asks nobody gives no answer, which counts as a wrong one; if the answers were right, the account may be locked or expired there: ask the CA's administrators",
            ),
            Failure::Login(LoginError::Failed { denied: true, .. }) => Some(
                "try again; if the answers were right, the account may be locked or expired there: ask the CA's administrators",
            ),
            Failure::Login(LoginError::Failed { .. } | LoginError::Silent { .. }) => {
                Some("try again; if it stays so, tell the CA's administrators")
            }
            Failure::Login(LoginError::NotGiven { wants_reason: true, .. }) => Some(
                "give it so: ussh --reason \"what for\" (and a HOST behind it, to go on there); for plain ssh: export USSH_REASON=\"what for\"",
            ),
            Failure::Login(LoginError::NotGiven { .. }) => {
                Some("see what it said above; if that is not clear, ask its administrators")
            }
            Failure::Login(LoginError::NothingCame { somebody_elses: true, .. }) => Some(
                "if that is your own account, spelled as the CA has it, put it into `ca_user`; else tell the CA's administrator",
            ),
            Failure::Login(LoginError::NothingCame { skew: Some(_), .. }) => {
                Some("set this machine's clock (or tell the CA's administrator, should the CA's be the wrong one)")
            }
            Failure::Login(LoginError::NothingCame { .. }) => {
                Some("check `user_ca_file`, this machine's clock, and that the CA may use agent forwarding")
            }
            Failure::Login(LoginError::NoUsshca { .. }) => Some("put the CA's own name and port into `ca`"),
            Failure::Login(LoginError::NoAnswer { .. } | LoginError::NoneAnswers(_)) => {
                Some("check the network and the name of the CA")
            }
            Failure::Login(LoginError::LeftAlone { .. }) => Some("`ussh --login` asks it at once"),
            Failure::Login(LoginError::NotProven { trouble, .. }) => Some(proof_advice(trouble)),
            Failure::Login(LoginError::AgentRefused { program, .. }) => Some(refusing_advice(program)),
            Failure::Login(LoginError::WaitedInVain(_)) => Some("answer it where it asks, or end it"),
            Failure::Login(
                LoginError::Ssh(_)
                | LoginError::Shared(_)
                | LoginError::SharedCaFailure(_)
                | LoginError::Interrupted(_),
            ) => None,
            Failure::Config(ConfigError::File(error)) if error.is_missing() => {
                Some("install it as your administrator gives it out, or name another in ussh.toml")
            }
            Failure::Terminal(TerminalError::NoTerminal(_)) => {
                Some("run it in a terminal of its own; with a desktop it is not needed (SSH_ASKPASS)")
            }
            Failure::Terminal(TerminalError::Taken) => Some("answer there, or end that one"),
            Failure::Terminal(TerminalError::Home(_) | TerminalError::Io(_)) => None,
            Failure::Config(ConfigError::Contradiction) => Some("take one of the two out of ussh.toml"),
            Failure::Config(ConfigError::Locks(_)) => Some("give that file and its folders to root, closed to others"),
            Failure::Config(ConfigError::OwnLocks(_)) => Some("take it out of your own file"),
            Failure::Write(WriteError::Locked(_)) => Some("leave that option out: the system's file has what counts"),
            Failure::Write(WriteError::Broken { .. }) => Some("take out by hand what is left of it"),
            Failure::Login(LoginError::NotKept { own_key: true, .. }) => Some("mend that, and try again"),
            Failure::Login(LoginError::NotKept { .. }) | Failure::Files(_) => {
                Some("mend that; or keep them in an ssh-agent, without `keep_in` in ussh.toml")
            }
            Failure::Home(_) | Failure::Login(LoginError::Line(_) | LoginError::Guard(_)) => {
                Some("see to it that XDG_RUNTIME_DIR (or /tmp/ussh-UID) is a folder of yours with room in it")
            }
            Failure::Config(_)
            | Failure::Proxy(_)
            | Failure::Write(_)
            | Failure::NoUserName(_)
            | Failure::Exec(_)
            | Failure::Serve(_)
            | Failure::Output(_)
            | Failure::Log(_) => None,
        }
    }
}

fn proof_advice(trouble: &HostKeyTrouble) -> &'static str {
    match trouble {
        HostKeyTrouble::Expired | HostKeyTrouble::NotYetValid => {
            "nothing was sent to it. Check this machine's clock; if that is right, tell the CA's administrator"
        }
        HostKeyTrouble::OtherName => {
            "nothing was sent to it. Check the name in `ca`; if that is right, tell the CA's administrator"
        }
        HostKeyTrouble::NoCertificate | HostKeyTrouble::OtherCa | HostKeyTrouble::Revoked => {
            "nothing was sent to it. Ask the CA's administrator before you log in there"
        }
    }
}

/// Which agents refuse what: gpg-agent (agent/command-ssh.c) takes no certificate, Pageant no lifetime. gnome-keyring has OpenSSH's behind it by now, and takes both.
fn refusing_advice(program: &str) -> &'static str {
    match program {
        "ssh-agent" => "unlock it (ssh-add -X), or say yes when it asks",
        // Of one that has left its parent, as OpenSSH's does, the kernel knows no program.
        "unknown" => {
            "unlock it, if it is locked (ssh-add -X), or say yes when it asks; if it is none of OpenSSH's: `SSH_AUTH_SOCK= ussh` starts one; or none, by `keep_in = \"files\"` in ~/.config/ussh/ussh.toml"
        }
        _ => {
            "some agents take no certificates, or none with a lifetime (gpg-agent, Pageant, Windows'): use OpenSSH's, `SSH_AUTH_SOCK= ussh` starts one; or none, by `keep_in = \"files\"` in ~/.config/ussh/ussh.toml"
        }
    }
}

fn agent_advice(problem: &AgentProblem) -> &'static str {
    match problem {
        AgentProblem::Unreachable { source: ConnectError::Io(error), .. }
            if error.kind() == ErrorKind::PermissionDenied =>
        {
            "it is somebody else's (a shell by su or sudo may have kept SSH_AUTH_SOCK): start your own: eval \"$(ssh-agent)\""
        }
        AgentProblem::NotSet | AgentProblem::Unreachable { .. } | AgentProblem::NotStarted(_) => {
            "start one: eval \"$(ssh-agent)\""
        }
        AgentProblem::Locked { .. } => "unlock it (ssh-add -X), and run this again",
        AgentProblem::TakesNoKey { program, .. } => refusing_advice(program),
        AgentProblem::Guarded { .. } => {
            "set SSH_AUTH_SOCK to your own ssh-agent (`SSH_AUTH_SOCK= ussh` starts one, or finds it)"
        }
        AgentProblem::TakesNone { .. } => {
            "put `keep_in = \"files\"` into ~/.config/ussh/ussh.toml (or use OpenSSH's agent: `SSH_AUTH_SOCK= ussh` starts one)"
        }
        AgentProblem::Files(_) => {
            "see to it that ~/.local/state/ussh/keys is yours alone (chmod 700), and a folder, that nobody else can write those above it (chmod go-w), and that there is room"
        }
        AgentProblem::ClientKey(_) => "name the file that ends in .pub there",
        AgentProblem::KeyMissing { .. } => "add it (ssh-add), and try again",
        AgentProblem::WrongUser { .. } => "start your own: eval \"$(ssh-agent)\"",
        AgentProblem::Broken { .. } => "try `ssh-add -l`, or start another: eval \"$(ssh-agent)\"",
    }
}

/// As if the signal had ended us at once; should it be caught or ignored meanwhile, the shell's convention.
fn end_by(signal: i32) -> ExitCode {
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = raise(signal);
    }
    ExitCode::from(u8::try_from(signal).ok().and_then(|number| number.checked_add(128)).unwrap_or(UNAVAILABLE))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_revocation_that_failed_says_first_what_is_still_good() {
        let said = |source: LoginError, removed, until| {
            NotRevoked { source: source.into(), removed, until, is_left: false }.to_string()
        };
        let hour = UnixTime(SystemClock.now().0 + 3600);
        let before = said(LoginError::NoneAnswers("ca: not there".into()), 2, Some(hour));
        let wanted = format!(
            "nothing was revoked, and a copy of what was here is good until {hour} (2 certificates were removed here): none of the CAs"
        );
        assert!(before.starts_with(&wanted), "{before}");
        for until in [None, Some(UnixTime(1))] {
            let unknown = said(LoginError::NoCa, 0, until);
            let wanted = "nothing was revoked, and copies of your certificates are good until they end (none was here to remove): no CA";
            assert!(unknown.starts_with(wanted), "{unknown}");
        }
        // The connection may have ended when the CA had done it.
        let late = said(LoginError::Ssh(ExecError::NotFound("ssh")), 1, None);
        assert!(late.starts_with("nothing was revoked"), "{late}");
        let ca = crate::config::CaAddress::try_from("ca".to_owned()).unwrap();
        let cut = LoginError::Failed {
            ca,
            user: "alice".into(),
            denied: false,
            said: "Connection reset".into(),
            prompting: Prompting::Possible,
        };
        let late = said(cut, 1, Some(UnixTime::FOREVER));
        assert!(late.starts_with("the CA has not said that anything was revoked: take it that nothing was, and a copy of the certificate that was here is good for ever (1 "), "{late}");
        // It is never said that nothing was here where something is.
        for (removed, wanted) in
            [(0, "(none was removed here: see above): "), (2, "(of those here 2 went, and not all: see above): ")]
        {
            let left = NotRevoked { source: LoginError::NoCa.into(), removed, until: None, is_left: true };
            assert!(left.to_string().contains(wanted), "{left}");
        }
        let unknown = Failure::NotRevoked(Box::new(NotRevoked {
            source: ConfigError::Environment("x".into()).into(),
            removed: 0,
            until: None,
            is_left: false,
        }));
        assert!(
            unknown.to_string().starts_with("nothing was revoked, and ") && unknown.exit_status() == CONFIG,
            "{unknown}"
        );
    }
}
