//! What `ussh --help` and `ussh --version` print. The table of verbs is also what the command line is read by, and what manual page and completions are made of.

/// One verb of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// With its dashes.
    pub name: &'static str,
    /// What may follow, for people; empty: nothing.
    pub takes: &'static str,
    /// What it does.
    pub does: &'static str,
}

const fn verb(name: &'static str, takes: &'static str, does: &'static str) -> Verb {
    Verb { name, takes, does }
}

/// All our verbs.
pub const VERBS: [Verb; 12] = [
    verb("--login", "", "log in at the CA now, whatever the agent holds"),
    verb("--force", "[ssh arguments…]", "the same, then run ssh"),
    verb("--check", "[--agent]", "exit 0 if there is a good certificate, else 1; prints nothing"),
    verb("--status", "[--json]", "agent, CA, certificates and the time they have left; exits as --check"),
    verb("--logout", "", "remove the certificates of your CA from the agent"),
    verb("--agent", "", "see to it that the guarded agent runs, and print its socket"),
    verb("--log", "[--json]", "what hosts asked of the guarded agent, and what became of it"),
    verb("--proxy", "HOST PORT", "get a certificate if there is no good one, connect: for ProxyCommand"),
    verb("--write-config", "[…]", "have plain ssh do all this: --hosts A,B --ca CA --system --dry-run"),
    verb("--remove-config", "[…]", "take that away again, byte for byte: --system --dry-run"),
    verb("--help", "", "this text"),
    verb("--version", "", "the version"),
];

/// One sentence on what it is, one on what it does.
pub const ABOUT: [&str; 2] = [
    "ssh, with a fresh certificate",
    "Sees to it that your ssh-agent holds a good certificate, asking your CA for one if not, then becomes ssh.",
];

/// The ways to call it, each with what it means.
pub const USAGE: [(&str, &str); 3] = [
    ("ussh [ssh arguments…]", "make sure of a certificate, then run ssh with exactly these arguments"),
    ("ussh", "get a certificate if there is no good one"),
    ("ussh --VERB", "one of these; they count only as the first argument, all else is ssh's:"),
];

/// What stands below the verbs.
pub const REST: &str = "\
When a host refuses a certificate that looks good here (it may be revoked): ussh --force HOST gets a fresh one first,
and ussh --login does without going on to a host.

A good certificate is signed by a key in user_ca_file, has your name at the CA as its key ID, and is valid for another renew_before_seconds.
The CA gets to see a guarded agent: it can add keys with certificates of its own for you, and see and use no other.
Hosts that a [[host]] table names get the other side of it, if neither the arguments nor ssh_config choose: it signs what sudo
asks there, and no login. Without such tables nothing is forwarded.

Files, each key in the second overriding the first, its [[host]] tables going before the first's (TOML):
  /etc/ussh/ussh.toml
  ~/.config/ussh/ussh.toml
      ca = \"ca.example.com\"                      or \"host:port\", or a list, tried in order
      ca_user = \"alice\"                          your account at the CA, spelled as there; default: the local one
      user_ca_file = \"/etc/ussh/user_ca.pub\"     keys that sign user certificates, one a line
      known_hosts = \"/etc/ussh/known_hosts\"      @cert-authority lines, by which the CA's host key is known
      renew_before_seconds = 600                 default: 600, or half of the certificate's life if that is less
      connect_timeout_seconds = 10               1 to 600
      confirm = [\"sudo*\", \"su\"]                  PAM services whose challenges ask you first (SSH_ASKPASS); default: none
      [[host]]                                   last in the file, as many as you like; the first that matches decides
      match = [\"*.example.com\", \"!jump.*\"]       your hosts, by the name that ssh connects to; others are ssh's alone
      forward = \"guarded\"                        or \"full\" (your own agent) or \"none\"

Environment:
  SSH_AUTH_SOCK   your ssh-agent
  USSH_CA         overrides `ca`
  USSH_DEBUG      if set: more on stderr during a login

Exit status: that of ssh; or, before ssh runs, 64 wrong or unknown verb,
69 no agent, no CA or no certificate, 78 wrong configuration.
";

/// `ussh --version`.
pub const VERSION: &str = concat!("ussh ", env!("CARGO_PKG_VERSION"), "\n");

/// `ussh --help`.
pub fn help() -> String {
    let [what, does] = ABOUT;
    let usage: String = USAGE.iter().map(|(call, means)| format!("  {call:<25} {means}\n")).collect();
    let verbs: String = VERBS
        .iter()
        .map(|verb| format!("  {:<25} {}\n", format!("{} {}", verb.name, verb.takes).trim_end(), verb.does))
        .collect();
    format!("ussh - {what}\n{does}\n\nUsage:\n{usage}\n{verbs}\n{REST}")
}

#[cfg(test)]
mod tests;
