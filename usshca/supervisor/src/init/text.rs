//! The configuration and policy that a new CA starts with.

use std::net::SocketAddr;
use std::path::Path;

use toml::Value;
use usshca_ipc::layout::Layout;

/// sshd's port, for a CA of a machine's own.
const SSH_PORT: u16 = 22;
/// For one under a folder: beside the machine's sshd, and for ordinary users.
const TRY_PORT: u16 = 2222;

/// The first policy.
pub const POLICY: &str = r#"# Who gets which certificate. The first rule that matches decides; without one there is none.
# A rule is about its users and the members of its groups (as this machine knows them, LDAP and AD too), or, with neither key, about everybody.
# Read when the CA starts, and again on SIGHUP: one that is no good changes nothing. `usshca check` says whether it is good, `usshca explain USER` what somebody gets.
# docs/policy.md names every key.

# This machine's root is not every machine's root.
[[rule]]
name = "no root"
users = ["root"]
deny = true

# Administrators: shorter, and as root too, where a server lets them (PermitRootLogin).
# [[rule]]
# name = "admins"
# groups = ["sudo"]
# validity_seconds = 14400                  # 4 hours
# principals = ["%u", "root"]               # %u = the account's own name
# confirm = true                            # their agent asks before each use
# source_address = ["10.0.0.0/8"]           # only from here

# Everybody else whom PAM lets in, as themselves, for a working day.
[[rule]]
name = "everybody"
validity_seconds = 28800                    # 8 hours
principals = ["%u"]
# backdate_seconds = 60                     # for servers whose clocks are behind
# extensions = ["permit-pty", "permit-agent-forwarding", "permit-port-forwarding", "permit-user-rc"]
# force_command = "/usr/bin/some-command"   # sshd runs this and nothing else
"#;

/// usshca.toml.
pub fn config(layout: &Layout, ca_name: &str, names: &[String], listen: &[SocketAddr]) -> String {
    let listen: Vec<SocketAddr> = if listen.is_empty() { vec![default_listen(layout)] } else { listen.to_vec() };
    format!(
        "# Configuration of a USSH certificate authority. Read when `usshca serve` starts; `usshca check` says whether it is good.\n\
         \n\
         # The CA's name, for what users read.\n\
         ca_name = {}\n\
         # Names in the host certificate of this machine: how people reach the CA. When they change, sign the host key again (`usshca host sign`).\n\
         host_principals = {}\n\
         # Where to listen.\n\
         listen = {}\n\
         \n\
         # PAM service: a file in /etc/pam.d.\n\
         # pam_service = \"usshca\"\n\
         # Accounts of the processes without privilege (not used when an ordinary user runs the CA).\n\
         # signer_user = \"usshca\"\n\
         # front_user = \"usshca-front\"\n\
         # Seconds to log in, attempts in one connection, connections and attempts at a time.\n\
         # login_grace_seconds = 120\n\
         # max_attempts = 3\n\
         # max_connections = 300\n\
         # max_workers = 250\n\
         # Of these, from one address (of IPv6: one /64 network). Raise them where many people come from behind one address.\n\
         # max_connections_per_source = 60\n\
         # max_workers_per_source = 55\n\
         # Connections that have not logged in, as sshd's MaxStartups: from 100 on 30 % of newcomers are dropped, more and more up to all of them at 200.\n\
         # max_startups = \"100:30:200\"\n\
         # Log: \"text\", \"json\" (one object a line), or \"journald\" (with fields).\n\
         # log_format = \"text\"\n\
         # Prometheus metrics: a Unix socket or a loopback address; nowhere without.\n\
         # metrics = \"/run/usshca/metrics.sock\"\n\
         \n\
         # Publish the feed for hosts to this folder: every so many seconds and after each revocation, valid for so many.\n\
         # publish = \"/var/lib/usshca/feed\"\n\
         # publish_every_seconds = 3600\n\
         # publish_valid_seconds = 604800\n\
         # For which hosts readers of the feed trust the host CA: patterns as in known_hosts.\n\
         # known_hosts_pattern = \"*\"\n\
         \n\
         # Penalties, as sshd's PerSourcePenalties: a source whose logins fail is not let in for a while, longer each time.\n\
         # [penalties]\n\
         # auth_failure_seconds = 5\n\
         # grace_exceeded_seconds = 10\n\
         # never_authenticated_seconds = 1\n\
         # crash_seconds = 90\n\
         # min_seconds = 35\n\
         # max_seconds = 600\n\
         # max_sources = 16384\n\
         # exempt = []                               # networks without penalties: [\"10.0.0.0/8\"]\n",
        Value::from(ca_name),
        list(names.iter().map(String::as_str)),
        list(listen.iter().map(ToString::to_string)),
    )
}

fn list<T: Into<Value>>(items: impl Iterator<Item = T>) -> Value {
    Value::Array(items.map(Into::into).collect())
}

/// Both families where the machine has both: an IPv6 socket takes IPv4 too.
fn default_listen(layout: &Layout) -> SocketAddr {
    let port = if *layout == Layout::system() { SSH_PORT } else { TRY_PORT };
    if Path::new("/proc/net/if_inet6").exists() {
        SocketAddr::from(([0u16; 8], port))
    } else {
        SocketAddr::from(([0u8; 4], port))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_reads_as_what_was_asked_for() {
        let layout = Layout::in_directory(Path::new("/d"));
        let names = ["ca".to_owned(), "ca.example.com".to_owned()];
        let parse = |text: &str| Config::parse(text, Path::new("x")).unwrap();
        let config = parse(&super::config(&layout, "The \"Example\" CA \\", &names, &[]));
        assert_eq!(config.ca_name, "The \"Example\" CA \\");
        assert_eq!(config.host_principals, names);
        assert_eq!(config.listen.len(), 1);
        assert_eq!(config.listen[0].port(), 2222);
        assert_eq!(default_listen(&Layout::system()).port(), 22);
        let two = ["127.0.0.1:2022".parse().unwrap(), "[::1]:2022".parse().unwrap()];
        assert_eq!(parse(&super::config(&layout, "x", &names, &two)).listen, two);
    }

    #[test]
    fn what_is_commented_out_is_what_holds_without() {
        let layout = Layout::in_directory(Path::new("/d"));
        let text = super::config(&layout, "x", &["ca".to_owned()], &[]);
        let all = text.replace("# pam", "pam").replace("# signer", "signer").replace("# front", "front");
        let all = all.replace("# login_", "login_").replace("# max_", "max_").replace("# log_", "log_");
        let all = all.replace("# [pen", "[pen").replace("# auth_", "auth_").replace("# grace_", "grace_");
        let all = all.replace("# never_", "never_").replace("# crash_", "crash_").replace("# min_", "min_");
        let all = all.replace("# exempt", "exempt").replace("# publish_", "publish_").replace("# known_", "known_");
        let parse = |text: &str| Config::parse(text, Path::new("x")).unwrap();
        assert_ne!(text, all);
        assert_eq!(parse(&text), parse(&all));
    }
}
