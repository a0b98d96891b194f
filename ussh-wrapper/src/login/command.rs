//! The arguments of the `ssh` that goes to the CA: nothing of the user's own configuration has a say.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{AccessFlags, access};

use crate::config::{CaAddress, CaUser, Config};
use crate::guard::DEFAULT_ASKPASS;

/// Host keys that are certificates, best first; all that OpenSSH 8.2 and later know but the ones with SHA-1.
const HOST_KEY_ALGORITHMS: &str = "ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com,ecdsa-sha2-nistp384-cert-v01@openssh.com,\
ecdsa-sha2-nistp521-cert-v01@openssh.com,rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com";
/// What may have signed them.
const CA_SIGNATURE_ALGORITHMS: &str =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256";

/// Whether somebody is there to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompting {
    /// A terminal.
    Possible,
    /// An askpass program.
    ByProgram,
    /// ssh would answer the CA's questions with nothing, and a wrong password would be counted.
    Impossible(Missing),
}

/// What is missing beside a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// SSH_ASKPASS is not set, and the default is not there.
    Program,
    /// It names nothing that can be run.
    Unfit,
    /// The same, and SSH_ASKPASS_REQUIRE lets ssh ask by nothing else.
    Forced,
    /// It is, and ssh does not use it: there is no display, and SSH_ASKPASS_REQUIRE does not say that none is needed.
    Display,
    /// SSH_ASKPASS_REQUIRE forbids it.
    Never,
}

impl Missing {
    /// What to do.
    pub fn advice(self) -> &'static str {
        match self {
            Missing::Program => {
                "there is no terminal to ask on: run this in one, or set SSH_ASKPASS to a program that asks (and, without a display, SSH_ASKPASS_REQUIRE=force)"
            }
            Missing::Unfit => {
                "there is no terminal to ask on, and SSH_ASKPASS names no program that can be run: run this in a terminal, or mend SSH_ASKPASS"
            }
            Missing::Forced => {
                "SSH_ASKPASS_REQUIRE=force wants a program to ask, and there is none that can be run: name one in SSH_ASKPASS, or unset SSH_ASKPASS_REQUIRE"
            }
            Missing::Display => {
                "there is no terminal to ask on, and SSH_ASKPASS counts only where DISPLAY is set: run this in a terminal, or set SSH_ASKPASS_REQUIRE=force"
            }
            Missing::Never => {
                "there is no terminal to ask on, and SSH_ASKPASS_REQUIRE=never forbids SSH_ASKPASS: run this in a terminal, or set it to force"
            }
        }
    }
}

impl Prompting {
    /// As `ssh` decides it (readpass.c `read_passphrase`): the controlling terminal, else SSH_ASKPASS with a display or by force. But ssh runs a program that is not there, and answers with nothing.
    pub fn of_this_process() -> Self {
        let terminal = || OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self::of(&is_set, &required(), Askpass::of_this_process(), terminal)
    }
    fn of(is_set: &dyn Fn(&str) -> bool, required: &str, askpass: Askpass, terminal: impl FnOnce() -> bool) -> Self {
        let (display, is_there) = (is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"), askpass == Askpass::There);
        match required {
            "force" if is_there => return Prompting::ByProgram,
            "force" => return Prompting::Impossible(Missing::Forced),
            "prefer" if is_there && display => return Prompting::ByProgram,
            _ => {}
        }
        match askpass {
            _ if terminal() => Prompting::Possible,
            Askpass::None => Prompting::Impossible(Missing::Program),
            _ if required == "never" => Prompting::Impossible(Missing::Never),
            Askpass::Unfit => Prompting::Impossible(Missing::Unfit),
            Askpass::There if display => Prompting::ByProgram,
            Askpass::There => Prompting::Impossible(Missing::Display),
        }
    }
    /// Has ssh decide it the same way: OpenSSH 9.2 and others do not know WAYLAND_DISPLAY.
    pub(super) fn tell(self, ssh: &mut Command) {
        match self {
            Prompting::Possible => ssh.env(REQUIRE_VARIABLE, "never"),
            Prompting::ByProgram => ssh.env(REQUIRE_VARIABLE, "force"),
            Prompting::Impossible(_) => ssh,
        };
    }
    /// Whether somebody can be asked at all.
    pub fn can_ask(self) -> bool {
        !matches!(self, Prompting::Impossible(_))
    }
    /// How often in one login. A program has one answer: given three times it would count as three wrong ones.
    fn tries(self) -> &'static str {
        match self {
            Prompting::Possible => "3",
            Prompting::ByProgram | Prompting::Impossible(_) => "1",
        }
    }
}

/// Whether the terminal or the program asks.
const REQUIRE_VARIABLE: &str = "SSH_ASKPASS_REQUIRE";

/// The program that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Askpass {
    /// Not named, and the default is not there.
    None,
    /// Named, and nothing that can be run.
    Unfit,
    /// It can be run.
    There,
}

impl Askpass {
    fn of_this_process() -> Self {
        match std::env::var_os("SSH_ASKPASS") {
            Some(named) if is_program(&named) => Askpass::There,
            Some(named) if !named.is_empty() => Askpass::Unfit,
            None if is_program(OsStr::new(DEFAULT_ASKPASS)) => Askpass::There,
            _ => Askpass::None,
        }
    }
}

/// As execlp(3) finds it.
fn is_program(name: &OsStr) -> bool {
    let can_be_run = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if name.is_empty() || name.as_bytes().contains(&b'/') {
        return can_be_run(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| can_be_run(&folder.join(name)))
}

/// ssh compares it without regard to case.
fn required() -> String {
    std::env::var(REQUIRE_VARIABLE).unwrap_or_default().to_ascii_lowercase()
}

/// The whole argument list. `known_hosts` is the real path of what was checked, `guarded` the socket of the guarded agent; all values are such that ssh takes them as they stand.
pub fn login_arguments(
    config: &Config,
    ca: &CaAddress,
    user: &CaUser,
    known_hosts: &str,
    guarded: &Path,
    prompting: Prompting,
) -> Vec<String> {
    let mut arguments = vec!["-F".to_owned(), "none".to_owned(), "-T".to_owned()];
    for (keyword, value) in options(config, known_hosts, guarded, prompting) {
        arguments.push("-o".to_owned());
        arguments.push(format!("{keyword}={value}"));
    }
    arguments.extend([
        "-p".to_owned(),
        ca.port().to_string(),
        "-l".to_owned(),
        user.as_str().to_owned(),
        "--".to_owned(),
        ca.host().to_owned(),
    ]);
    arguments
}

fn options(config: &Config, known_hosts: &str, guarded: &Path, prompting: Prompting) -> Vec<(&'static str, String)> {
    let fixed = [
        // The CA proves itself by a host certificate of a CA in our file, or not at all.
        ("UserKnownHostsFile", known_hosts.to_owned()),
        ("GlobalKnownHostsFile", "/dev/null".to_owned()),
        ("HostKeyAlgorithms", HOST_KEY_ALGORITHMS.to_owned()),
        ("CASignatureAlgorithms", CA_SIGNATURE_ALGORITHMS.to_owned()),
        ("StrictHostKeyChecking", "yes".to_owned()),
        ("UpdateHostKeys", "no".to_owned()),
        ("VerifyHostKeyDNS", "no".to_owned()),
        ("CheckHostIP", "no".to_owned()),
        // The user proves himself by what the CA's PAM stack asks for; no key of his is shown to it.
        ("PreferredAuthentications", "keyboard-interactive".to_owned()),
        ("KbdInteractiveAuthentication", "yes".to_owned()),
        ("NumberOfPasswordPrompts", prompting.tries().to_owned()),
        ("PubkeyAuthentication", "no".to_owned()),
        ("PasswordAuthentication", "no".to_owned()),
        ("HostbasedAuthentication", "no".to_owned()),
        ("IdentitiesOnly", "yes".to_owned()),
        ("IdentityFile", "none".to_owned()),
        // The guarded agent is all that it gets. Without it the login would be for nothing.
        ("ForwardAgent", guarded.display().to_string()),
        // ssh drops the forwarding if it finds no agent for itself (ssh.c `check_agent_present`).
        ("IdentityAgent", guarded.display().to_string()),
        ("ExitOnForwardFailure", "yes".to_owned()),
        ("ForwardX11", "no".to_owned()),
        ("Tunnel", "no".to_owned()),
        ("PermitLocalCommand", "no".to_owned()),
        // Straight there, alone, and not for ever.
        ("ProxyCommand", "none".to_owned()),
        ("ProxyJump", "none".to_owned()),
        ("ControlMaster", "no".to_owned()),
        ("ControlPath", "none".to_owned()),
        ("CanonicalizeHostname", "no".to_owned()),
        ("EscapeChar", "none".to_owned()),
        ("ConnectionAttempts", "1".to_owned()),
        ("ConnectTimeout", config.connect_timeout_seconds.to_string()),
        ("ServerAliveInterval", "10".to_owned()),
        ("ServerAliveCountMax", "3".to_owned()),
        // Its account of the login is for us alone (heard.rs).
        ("LogLevel", "DEBUG3".to_owned()),
    ];
    // In batch mode ssh offers no keyboard-interactive: a CA that asks nothing still lets us in.
    let batch = if prompting.can_ask() { "no" } else { "yes" };
    fixed.into_iter().chain([("BatchMode", batch.to_owned())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_be_asked_and_what_is_missing_is_seen_as_ssh_sees_it() {
        use Askpass::{None, There, Unfit};
        let missing = Prompting::Impossible;
        for (set, required, askpass, terminal, wanted) in [
            (&[][..], "", None, true, Prompting::Possible),
            (&["DISPLAY"], "", There, true, Prompting::Possible),
            (&["DISPLAY"], "prefer", There, true, Prompting::ByProgram),
            (&["DISPLAY"], "prefer", Unfit, true, Prompting::Possible),
            (&["DISPLAY"], "", There, false, Prompting::ByProgram),
            (&["WAYLAND_DISPLAY"], "", There, false, Prompting::ByProgram),
            (&["WAYLAND_DISPLAY"], "prefer", There, true, Prompting::ByProgram),
            (&[], "force", There, false, Prompting::ByProgram),
            (&[], "force", There, true, Prompting::ByProgram),
            (&[], "force", None, true, missing(Missing::Forced)),
            (&["DISPLAY"], "force", Unfit, false, missing(Missing::Forced)),
            (&[], "", None, false, missing(Missing::Program)),
            (&["DISPLAY"], "", None, false, missing(Missing::Program)),
            (&["DISPLAY"], "", Unfit, false, missing(Missing::Unfit)),
            (&[], "", There, false, missing(Missing::Display)),
            (&[], "prefer", There, false, missing(Missing::Display)),
            (&["DISPLAY"], "never", There, false, missing(Missing::Never)),
            (&["DISPLAY"], "never", There, true, Prompting::Possible),
        ] {
            assert_eq!(
                Prompting::of(&|name| set.contains(&name), required, askpass, || terminal),
                wanted,
                "{set:?} {required} {askpass:?} {terminal}"
            );
        }
    }

    #[test]
    fn a_program_is_what_can_be_run_by_its_path_or_by_its_name() {
        for (name, wanted) in [
            ("/bin/sh", true),
            ("sh", true),
            ("/etc/passwd", false),
            ("/", false),
            ("/nowhere", false),
            ("nowhere.x", false),
            ("", false),
        ] {
            assert_eq!(is_program(OsStr::new(name)), wanted, "{name}");
        }
    }
}
