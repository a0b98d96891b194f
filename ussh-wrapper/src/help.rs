//! What `ussh --help` and `ussh --version` print. All of it that tells of verbs comes from their one definition.

use crate::verbs::{VERBS, Verb};

/// Width of the column before what something does, in characters.
const COLUMN: usize = 25;

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
      connect_timeout_seconds = 5                1 to 600
      on_ca_failure = \"continue\"                 or \"stop\": where no CA answers, ssh goes on with what else it has, or does not
      confirm = [\"sudo*\", \"su\"]                  PAM services whose challenges ask you first (SSH_ASKPASS); default: none
      [[host]]                                   last in the file, as many as you like; the first that matches decides
      match = [\"*.example.com\", \"!jump.*\"]       your hosts, by the name that ssh connects to; others are ssh's alone
      forward = \"guarded\"                        or \"full\" (your own agent) or \"none\"

Environment:
  SSH_AUTH_SOCK   your ssh-agent; where nobody listens there, the one that systemd keeps for you, or one that ussh starts
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
    let usage: String = USAGE.iter().map(|(call, means)| row(2, call, means)).collect();
    let verbs: String = VERBS.iter().map(of_verb).collect();
    format!("ussh - {what}\n{does}\n\nUsage:\n{usage}\n{verbs}\n{REST}")
}

fn of_verb(verb: &Verb) -> String {
    let options = verb.options.iter().filter(|option| option.is_shown());
    let call = format!("{} {}", verb.name, verb.takes());
    options.fold(row(2, call.trim_end(), verb.does), |text, option| {
        text + &row(4, format!("{} {}", option.name, option.value).trim_end(), option.does)
    })
}

/// What is too long for its column has a line of its own.
fn row(indent: usize, call: &str, means: &str) -> String {
    let width = COLUMN + 2 - indent;
    if call.chars().count() <= width {
        return format!("{:indent$}{call:<width$} {means}\n", "");
    }
    format!("{:indent$}{call}\n{:28}{means}\n", "", "")
}

#[cfg(test)]
mod completions;
#[cfg(test)]
mod tests;
