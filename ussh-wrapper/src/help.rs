//! What `ussh --help` and `ussh --version` print.

/// `ussh --help`.
pub const HELP: &str = "\
ussh - ssh, with a fresh certificate
Sees to it that your ssh-agent holds a good certificate, asking your CA for one if not, then becomes ssh.

Usage:
  ussh [ssh arguments…]     make sure of a certificate, then run ssh with exactly these arguments
  ussh                      get a certificate if there is no good one
  ussh --VERB               one of these; they count only as the first argument, all else is ssh's:

  --login                   log in at the CA now, whatever the agent holds
  --force [ssh arguments…]  the same, then run ssh
  --check                   exit 0 if there is a good certificate, else 1; prints nothing
  --status [--json]         agent, CA, certificates and the time they have left; exits as --check
  --logout                  remove the certificates of your CA from the agent
  --help, --version

When a host refuses a certificate that looks good here (it may be revoked): ussh --force HOST gets a fresh one first,
and ussh --login does without going on to a host.

A good certificate is signed by a key in user_ca_file, has your name at the CA as its key ID, and is valid for another renew_before_seconds.
The CA gets to see a guarded agent: it can add keys with certificates of its own for you, and see and use no other.

Files, each key in the second overriding the first (TOML):
  /etc/ussh/ussh.toml
  ~/.config/ussh/ussh.toml
      ca = \"ca.example.com\"                      or \"host:port\", or a list, tried in order
      ca_user = \"alice\"                          your account at the CA, spelled as there; default: the local one
      user_ca_file = \"/etc/ussh/user_ca.pub\"     keys that sign user certificates, one a line
      known_hosts = \"/etc/ussh/known_hosts\"      @cert-authority lines, by which the CA's host key is known
      renew_before_seconds = 60
      connect_timeout_seconds = 10               1 to 600

Environment:
  SSH_AUTH_SOCK   your ssh-agent
  USSH_CA         overrides `ca`
  USSH_DEBUG      if set: more on stderr during a login

Exit status: that of ssh; or, before ssh runs, 64 wrong or unknown verb,
69 no agent, no CA or no certificate, 78 wrong configuration.
";

/// `ussh --version`.
pub const VERSION: &str = concat!("ussh ", env!("CARGO_PKG_VERSION"), "\n");
