//! The arguments of the `ssh` that goes to the CA: nothing of the user's own configuration has a say.

use std::fs::OpenOptions;
use std::path::Path;

use crate::config::{CaAddress, CaUser, Config};

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
    /// SSH_ASKPASS is not set.
    Program,
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
                "there is no terminal to ask on: run `ussh` in one, or set SSH_ASKPASS to a program that asks (and, without a display, SSH_ASKPASS_REQUIRE=force)"
            }
            Missing::Display => {
                "there is no terminal to ask on, and SSH_ASKPASS counts only where DISPLAY is set: run `ussh` in a terminal, or set SSH_ASKPASS_REQUIRE=force"
            }
            Missing::Never => {
                "there is no terminal to ask on, and SSH_ASKPASS_REQUIRE=never forbids SSH_ASKPASS: run `ussh` in a terminal, or set it to force"
            }
        }
    }
}

impl Prompting {
    /// As `ssh` decides it (readpass.c `read_passphrase`): the controlling terminal, else SSH_ASKPASS with a display or by force.
    pub fn of_this_process() -> Self {
        let terminal = || OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok();
        Self::of(&|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()), &required(), terminal)
    }
    fn of(is_set: &dyn Fn(&str) -> bool, required: &str, terminal: impl FnOnce() -> bool) -> Self {
        let display = is_set("DISPLAY") || is_set("WAYLAND_DISPLAY");
        let askpass = is_set("SSH_ASKPASS") && display && required != "never";
        if required == "force" || (required == "prefer" && askpass) {
            return Prompting::ByProgram;
        }
        match (terminal(), askpass) {
            (true, _) => Prompting::Possible,
            (false, true) => Prompting::ByProgram,
            (false, false) if !is_set("SSH_ASKPASS") => Prompting::Impossible(Missing::Program),
            (false, false) if required == "never" => Prompting::Impossible(Missing::Never),
            (false, false) => Prompting::Impossible(Missing::Display),
        }
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

/// ssh compares it without regard to case.
fn required() -> String {
    std::env::var("SSH_ASKPASS_REQUIRE").unwrap_or_default().to_ascii_lowercase()
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
        let missing = Prompting::Impossible;
        for (set, required, terminal, wanted) in [
            (&[][..], "", true, Prompting::Possible),
            (&["SSH_ASKPASS", "DISPLAY"], "", true, Prompting::Possible),
            (&["SSH_ASKPASS", "DISPLAY"], "prefer", true, Prompting::ByProgram),
            (&["SSH_ASKPASS", "DISPLAY"], "", false, Prompting::ByProgram),
            (&["SSH_ASKPASS"], "force", false, Prompting::ByProgram),
            (&[], "force", true, Prompting::ByProgram),
            (&[], "", false, missing(Missing::Program)),
            (&["DISPLAY"], "", false, missing(Missing::Program)),
            (&["SSH_ASKPASS"], "", false, missing(Missing::Display)),
            (&["SSH_ASKPASS"], "prefer", false, missing(Missing::Display)),
            (&["SSH_ASKPASS", "DISPLAY"], "never", false, missing(Missing::Never)),
            (&["SSH_ASKPASS", "DISPLAY"], "never", true, Prompting::Possible),
        ] {
            assert_eq!(
                Prompting::of(&|name| set.contains(&name), required, || terminal),
                wanted,
                "{set:?} {required} {terminal}"
            );
        }
    }
}
