//! How a run ends that did not become `ssh`: one sentence on what is wrong, one on what to try, and the exit status (sysexits(3)).

use std::process::ExitCode;

use nix::sys::signal::{Signal, raise};

use crate::arguments::UsageError;
use crate::config::{ConfigError, NoUserName};
use crate::exec::ExecError;
use crate::files::FilesError;
use crate::guard::{HomeError, ServeError, TerminalError};
use crate::login::{HostKeyTrouble, LoginError, Prompting};
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
}

impl Failure {
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
            | Failure::Login(LoginError::NoCa | LoginError::KnownHosts(_)) => CONFIG,
            Failure::Agent(_)
            | Failure::Files(_)
            | Failure::Login(_)
            | Failure::Exec(_)
            | Failure::Home(_)
            | Failure::Serve(_)
            | Failure::Terminal(_)
            | Failure::Proxy(_)
            | Failure::Write(_)
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
            Failure::Login(LoginError::NoCa) => Some("put `ca = \"ca.example.com\"` into that file"),
            Failure::Login(LoginError::KnownHosts(_)) => {
                Some("install the CA's known_hosts file as your administrator gives it out")
            }
            Failure::Login(LoginError::Failed { prompting: Prompting::Impossible, .. }) => {
                Some("there is no terminal to ask on: run `ussh` in one, or set SSH_ASKPASS")
            }
            Failure::Login(LoginError::Failed { .. }) => Some("see what ssh said above"),
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
            Failure::Login(LoginError::NoAnswer { .. } | LoginError::NoneAnswers(_)) => {
                Some("check the network and the name of the CA")
            }
            Failure::Login(LoginError::LeftAlone { .. }) => Some("`ussh --login` asks it at once"),
            Failure::Login(LoginError::NotProven { trouble, .. }) => Some(proof_advice(trouble)),
            Failure::Login(LoginError::AgentRefused { program, .. }) => Some(refusing_advice(program)),
            Failure::Login(LoginError::WaitedInVain(_)) => Some("answer it where it asks, or end it"),
            Failure::Login(
                LoginError::Ssh(_)
                | LoginError::Guard(_)
                | LoginError::Shared(_)
                | LoginError::SharedCaFailure(_)
                | LoginError::Line(_)
                | LoginError::Interrupted(_),
            ) => None,
            Failure::Config(ConfigError::File(error)) if error.is_missing() => {
                Some("install it as your administrator gives it out, or name another in /etc/ussh/ussh.toml")
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
            Failure::Login(LoginError::NotKept { .. }) | Failure::Files(_) => {
                Some("mend that; or keep them in an ssh-agent, without `keep_in` in ussh.toml")
            }
            Failure::Config(_)
            | Failure::Proxy(_)
            | Failure::Write(_)
            | Failure::NoUserName(_)
            | Failure::Exec(_)
            | Failure::Home(_)
            | Failure::Serve(_)
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
        _ => {
            "some agents take no certificates, or none with a lifetime (gpg-agent, Pageant, Windows'): use OpenSSH's, `SSH_AUTH_SOCK= ussh` starts one; or none, by `keep_in = \"files\"` in ~/.config/ussh/ussh.toml"
        }
    }
}

fn agent_advice(problem: &AgentProblem) -> &'static str {
    match problem {
        AgentProblem::NotSet | AgentProblem::Unreachable { .. } | AgentProblem::NotStarted(_) => {
            "start one: eval \"$(ssh-agent)\""
        }
        AgentProblem::TakesNone { .. } => {
            "put `keep_in = \"files\"` into ~/.config/ussh/ussh.toml (or use OpenSSH's agent: `SSH_AUTH_SOCK= ussh` starts one)"
        }
        AgentProblem::Files(_) => {
            "see to it that ~/.local/state/ussh/keys is yours alone (chmod 700), and that there is room"
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
