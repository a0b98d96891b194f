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
and ussh --login does without going on to a host. Where the CA wants a reason: ussh --reason \"what for\" HOST.

A good certificate is signed by a key in user_ca_file, has your name at the CA as its key ID, and is valid for another renew_before_seconds.
The CA gets to see a guarded agent: it can add keys with certificates of its own for you, and see and use no other.
Hosts that a [[host]] table names get the other side of it, if neither the arguments nor ssh_config choose: it signs what sudo
asks there, and no login. Without such tables nothing is forwarded.

Files:
  /etc/ussh/ussh.toml           the configuration (TOML)
  ~/.config/ussh/ussh.toml      each key in it overrides that one, its [[host]] tables go before that one's
  /etc/ussh/ssh_config          what --write-config writes for plain ssh
  ~/.config/ussh/ssh_config     the same, for one user
  ~/.local/state/ussh           the log of the guarded agent (agent.log); key and certificate where no agent keeps them (keys/)
  $XDG_RUNTIME_DIR/ussh         sockets; /tmp/ussh-UID where that is not set

Keys of ussh.toml, with what holds without them; docs/ussh_toml.md has more on each:
  ca = none                                  \"ca.example.com\" or \"host:port\", or a list, tried in order
  ca_user = the account's name               your account at the CA, spelled as there
  user_ca_file = \"/etc/ussh/user_ca.pub\"   keys that sign user certificates, one a line
  known_hosts = \"/etc/ussh/known_hosts\"    @cert-authority lines, by which the CA's host key is known
  renew_before_seconds = 600                 half of the certificate's life if that is less
  connect_timeout_seconds = 5                1 to 600
  on_ca_failure = \"continue\"               where no CA answers, ssh goes on with what else it has; \"stop\": it does not
  keep_in = \"agent\"                        \"files\": for those whose agent takes no certificates
  client_key = none                          the public half of a key of yours, \"~/.ssh/id_ed25519_sk.pub\", which the CA certifies instead of making one
  confirm = []                               [\"sudo*\", \"su\"]: PAM services whose challenges ask you first
  locked = []                                [\"ca\", \"host\"]: keys in which the user's file and USSH_CA have no say; in the system's file only
  [[host]]                                   last in the file, as many as you like; the first that matches decides
    match = [\"*.example.com\", \"!jump.*\"]   your hosts, by the name that ssh connects to: `*`, `?`, `!` before what is excepted; others are ssh's alone
    forward = \"guarded\"                    \"full\" (your own agent) or \"none\"

Environment:
  SSH_AUTH_SOCK        your ssh-agent; where nobody listens there, the one that systemd keeps for you, or one that ussh starts
  USSH_CA              overrides `ca`
  USSH_REASON          the reason of a login, where --reason gives none: for plain ssh, and all that calls it
  USSH_DEBUG           if set: more on stderr during a login
  SSH_ASKPASS          the program that asks where there is no terminal, and for `confirm`: if DISPLAY or WAYLAND_DISPLAY is set,
  SSH_ASKPASS_REQUIRE  or this is \"force\", as ssh has it
  XDG_RUNTIME_DIR      where the sockets lie

Exit status: that of ssh; or, before ssh runs, 64 wrong or unknown verb,
69 no agent, no CA or no certificate, 78 wrong configuration.
--check, --status: 0 there is a good certificate, 1 there is none. --why: 0 nothing is wrong, 1 something is.

Examples:
  ussh web1 sudo id                         as ssh; the CA asks for your password if there is no certificate
  git config core.sshCommand ussh           or `ussh --write-config` once, and git, scp and rsync need nothing
  PS1='$(ussh --status --prompt) '$PS1      how long you have, in bash's prompt
  ussh --why web1                           when it does not work

See also: ssh(1), ssh-agent(1), ssh_config(5); docs/ussh_toml.md, forwarding.md, ssh_config.md and trouble.md beside README.md.
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
