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
    Impossible,
}

impl Prompting {
    /// As `ssh` decides it (readpass.c): the controlling terminal, else SSH_ASKPASS with a display or by force.
    pub fn of_this_process() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let required = std::env::var_os("SSH_ASKPASS_REQUIRE").unwrap_or_default();
        let askpass = set("SSH_ASKPASS") && (set("DISPLAY") || set("WAYLAND_DISPLAY"));
        if required == "force" || (required == "prefer" && askpass) {
            return Prompting::ByProgram;
        }
        match OpenOptions::new().read(true).write(true).open("/dev/tty") {
            Ok(_) => Prompting::Possible,
            Err(_) if askpass => Prompting::ByProgram,
            Err(_) => Prompting::Impossible,
        }
    }
    /// Whether somebody can be asked at all.
    pub fn can_ask(self) -> bool {
        self != Prompting::Impossible
    }
    /// How often in one login. A program has one answer: given three times it would count as three wrong ones.
    fn tries(self) -> &'static str {
        match self {
            Prompting::Possible => "3",
            Prompting::ByProgram | Prompting::Impossible => "1",
        }
    }
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
        // PAM's messages arrive at this level (sshconnect2.c input_userauth_info_req).
        ("LogLevel", "INFO".to_owned()),
    ];
    // In batch mode ssh offers no keyboard-interactive: a CA that asks nothing still lets us in.
    let batch = if prompting.can_ask() { "no" } else { "yes" };
    fixed.into_iter().chain([("BatchMode", batch.to_owned())]).collect()
}
