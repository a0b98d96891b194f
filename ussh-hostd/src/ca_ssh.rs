//! `ssh host@CA VERB`: the system's ssh as the way to the CA, and no key of its own. What is proved is proved inside (`ussh_core::enroll`).
//!
//! The CA's key is pinned in either case: by the known_hosts file of the enrolment, or before that by the token, which holds the digest of the host CA's key. For the latter
//! ssh runs this very program (KnownHostsCommand, OpenSSH 8.5 and later), which says whether the CA's host certificate is signed by that key, and on stderr what else the server has shown.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::digest::sha256;
use ussh_core::enroll::{Exchange, ExchangeError, Granted, HostToken};
use ussh_core::escape::escape;
use ussh_core::feed::MAX_FEED;

use crate::child::{Bounds, ChildError, Ended, Running, program, run};
use crate::enrolment::{Enrolment, known_hosts};

/// First argument of this program when ssh runs it.
pub const KNOWN_HOST: &str = "known-host-of-token";
const SSH: &str = "/usr/bin/ssh";
/// How long an exchange may take in all.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a KRL may be on its way: the CA does not wait for the certificates to be in place any longer.
const KRL_PATIENCE: Duration = Duration::from_secs(25);
/// Longest answer, bytes: a KRL in base64.
const MAX_ANSWER: usize = 96 << 20;

/// Why the CA gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// ssh could not be run, or was too slow.
    #[error("{0}")]
    Ssh(#[from] ChildError),
    /// ssh did not come through.
    #[error("no way to the CA: {0}")]
    NoWay(String),
    /// What answers has a host certificate by another CA.
    #[error(
        "the server at {server} is not the CA that made this token (its host CA is another: {host_ca}): wrong token, wrong CA, or somebody in between. A token is good at the CA alone on which `usshca host token NAME` made it: `ssh-keygen -lf` of that CA's host_ca.pub says which it is"
    )]
    OtherCa {
        /// Name and port.
        server: String,
        /// Fingerprint.
        host_ca: String,
    },
    /// What answers has a plain host key.
    #[error(
        "the server at {0} shows no host certificate, so that it is not the CA that made this token: a plain sshd, or somebody in between. Is that the CA's name and port (`--port`)?"
    )]
    NoCertificate(String),
    /// What answers wants the user `host` to log in, which a CA does not.
    #[error(
        "what answers at {0} is a plain sshd, not usshca: is that the CA's port? (`--port`; a host that is enrolled remembers it)"
    )]
    NoCa(String),
    /// What answers has a host certificate of the right CA, for other names.
    #[error(
        "no way to the CA: the server at {0} has a certificate of the right host CA, but not for this name: is that the CA? Call it by a name that it has (`host_principals` in its usshca.toml), or have this one added there and its host key signed again (`usshca host sign`)"
    )]
    OtherName(String),
    /// It has run out, or is not valid yet.
    #[error(
        "no way to the CA: the host certificate of the server at {0} is not valid at this time: see whether the clocks are right, here and there; if they are, have its host key signed again (`usshca host sign`)"
    )]
    OtherTime(String),
    /// What the CA said.
    #[error("{0}")]
    Exchange(#[from] ExchangeError),
}

/// How the CA is known.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// By a known_hosts file.
    File(&'a Path),
    /// By the digest of its host CA, which this program compares.
    Token(&'a HostToken),
}

/// What ssh's KnownHostsCommand makes of the key that a server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What it is to print: the CA of its host certificate, which is the one with the token's digest.
    Known(String),
    /// A host certificate by another CA, of this fingerprint.
    OtherCa(String),
    /// A plain key.
    NoCertificate,
    /// It was not asked of a server's key.
    Nothing,
}

/// In front of what it says on stderr, which ssh passes on to us.
const SAYS: &str = "ussh-hostd says of the server: ";
const NO_CERTIFICATE: &str = "no host certificate";

impl Shown {
    /// For stderr.
    pub fn said(&self) -> Option<String> {
        match self {
            Shown::Known(_) | Shown::Nothing => None,
            Shown::OtherCa(host_ca) => Some(format!("{SAYS}{host_ca}")),
            Shown::NoCertificate => Some(format!("{SAYS}{NO_CERTIFICATE}")),
        }
    }
}

/// The CA's SSH server.
#[derive(Clone, Copy, Debug)]
pub struct CaServer<'a> {
    /// As ssh is told it.
    pub name: &'a str,
    /// Its port.
    pub port: u16,
    /// How it is known.
    pub known: Known<'a>,
}

/// An exchange that has its certificates and has not said so yet.
#[derive(Debug)]
pub struct Pending {
    ssh: Running,
    server: String,
    taken: &'static str,
    /// What was granted.
    pub granted: Granted,
}

impl Pending {
    /// Tells the CA that all is in place.
    /// # Errors
    /// [`CaError`]; what is in place is as good as ever, the CA's inventory says that it was not told.
    pub fn confirm(mut self) -> Result<(), CaError> {
        self.ssh.say(self.taken)?;
        let ended = self.ssh.finish()?;
        if ended.status.success() { Ok(()) } else { Err(no_way(&self.server, &ended)) }
    }
}

impl CaServer<'_> {
    /// `enroll` or `renew`.
    /// # Errors
    /// [`CaError`]
    pub fn certificates(&self, mut exchange: Exchange) -> Result<Pending, CaError> {
        let (ssh, answer) = self.exchange(&mut exchange, PATIENCE)?;
        let granted = exchange.granted(&answer, SystemClock.now())?;
        Ok(Pending { ssh, server: self.place(), taken: exchange.taken(), granted })
    }

    /// `krl`: as trustworthy as the connection.
    /// # Errors
    /// [`CaError`]
    pub fn krl(&self, mut exchange: Exchange) -> Result<Vec<u8>, CaError> {
        let (_ssh, answer) = self.exchange(&mut exchange, KRL_PATIENCE)?;
        Ok(exchange.received_krl(&answer)?)
    }

    /// `break-glass`: done, the CA has all of it on its disk.
    /// # Errors
    /// [`CaError`]
    pub fn report(&self, mut exchange: Exchange) -> Result<(), CaError> {
        let (_ssh, answer) = self.exchange(&mut exchange, PATIENCE)?;
        exchange.reported(&answer)?;
        Ok(())
    }

    /// `feed`: as untrusted as any.
    /// # Errors
    /// [`CaError`]
    pub fn feed(&self, time: Duration) -> Result<Vec<u8>, CaError> {
        let ended = run(&mut self.command("feed"), Bounds { time, bytes: MAX_FEED })?;
        if ended.status.success() { Ok(ended.stdout) } else { Err(no_way(&self.place(), &ended)) }
    }

    fn exchange(&self, exchange: &mut Exchange, time: Duration) -> Result<(Running, Vec<u8>), CaError> {
        let mut ssh = Running::start(&mut self.command(exchange.verb().name()), Bounds { time, bytes: MAX_ANSWER })?;
        let Some(hello) = ssh.line()? else { return Err(no_way(&self.place(), &ssh.finish()?)) };
        ssh.say(&exchange.prove(&hello)?)?;
        match ssh.line()? {
            Some(answer) => Ok((ssh, answer)),
            None => Err(no_way(&self.place(), &ssh.finish()?)),
        }
    }

    fn place(self) -> String {
        if self.port == 22 { self.name.to_owned() } else { format!("{} port {}", self.name, self.port) }
    }

    /// Nothing of anybody's configuration: neither an agent nor a key of root's has to do with it.
    fn command(&self, verb: &str) -> Command {
        let mut options = vec![
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "CheckHostIP=no".to_owned(),
            "PubkeyAuthentication=no".to_owned(),
            "IdentityAgent=none".to_owned(),
            "ControlPath=none".to_owned(),
            "ConnectTimeout=20".to_owned(),
            "ServerAliveInterval=10".to_owned(),
            format!("Port={}", self.port),
        ];
        match self.known {
            Known::File(file) => options.push(format!("UserKnownHostsFile={}", file.display())),
            Known::Token(token) => {
                options.push("UserKnownHostsFile=/dev/null".to_owned());
                let this = std::env::current_exe().unwrap_or_else(|_| "/usr/sbin/ussh-hostd".into());
                let digest = Base64::encode_string(token.host_ca_digest());
                options.push(format!("KnownHostsCommand={} {KNOWN_HOST} {digest} %I %H %K", this.display()));
            }
        }
        let mut command = program(SSH, ["-F", "none", "-T", "-a", "-x"]);
        for option in options {
            command.arg("-o").arg(option);
        }
        command.args(["--", &format!("host@{}", self.name), verb]);
        command
    }
}

impl<'a> CaServer<'a> {
    /// That of an enrolment; `file` is [`known_hosts`] of the state folder.
    pub fn of(enrolment: &'a Enrolment, file: &'a Path) -> Self {
        CaServer { name: &enrolment.ca, port: enrolment.port, known: Known::File(file) }
    }
}

/// The feed of the CA that this host is enrolled with.
/// # Errors
/// [`CaError`]
pub fn feed_of(enrolment: &Enrolment, state: &Path, time: Duration) -> Result<Vec<u8>, CaError> {
    let file = known_hosts(state);
    CaServer::of(enrolment, &file).feed(time)
}

/// What it means that ssh did not come through to this server.
fn no_way(server: &str, ended: &Ended) -> CaError {
    let said = ended.stderr();
    let lines = || said.lines().map(str::trim);
    // A CA takes the user `host` by nothing (the method "none"), and so never says this.
    if lines().any(|line| line.starts_with("host@") && line.contains(": Permission denied (")) {
        return CaError::NoCa(server.to_owned());
    }
    // The key was no more than shown: ssh may have found fault with a certificate of the right CA.
    let is_refused = lines().any(|line| line == "Host key verification failed.");
    // ssh looks at names and times once it has found the CA good (sshconnect.c, check_host_cert).
    match lines().find_map(|line| line.strip_prefix("Certificate invalid: ")) {
        Some("name is not a listed principal") if is_refused => return CaError::OtherName(server.to_owned()),
        Some("expired" | "not yet valid") if is_refused => return CaError::OtherTime(server.to_owned()),
        _ => {}
    }
    match lines().find_map(|line| line.strip_prefix(SAYS)) {
        Some(NO_CERTIFICATE) if is_refused => CaError::NoCertificate(server.to_owned()),
        Some(host_ca) if is_refused => {
            CaError::OtherCa { server: server.to_owned(), host_ca: escape(host_ca.as_bytes(), 64) }
        }
        _ => CaError::NoWay(ended.said()),
    }
}

/// What ssh's KnownHostsCommand is to say of this key of a server, in base64.
pub fn known_host(digest: &str, host: &str, key: &str) -> Shown {
    // ssh asks for an order of its algorithms, too (ssh_config(5), KnownHostsCommand).
    let Ok(blob) = Base64::decode_vec(key) else { return Shown::Nothing };
    if key == "NONE" || blob.is_empty() {
        return Shown::Nothing;
    }
    let Ok(certificate) = Certificate::parse(&blob) else { return Shown::NoCertificate };
    if certificate.kind() != CertificateKind::Host {
        return Shown::NoCertificate;
    }
    let ca = certificate.ca();
    if Base64::decode_vec(digest).is_ok_and(|digest| digest == sha256(ca.blob())) {
        Shown::Known(format!("@cert-authority {host} {}\n", ca.to_openssh("")))
    } else {
        Shown::OtherCa(ca.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::{Ca, host_certificate};

    #[test]
    fn only_a_host_certificate_of_the_tokens_ca_makes_a_server_known() {
        let (ca, other) = (Ca::new(), Ca::new());
        let digest = |ca: &Ca| Base64::encode_string(&sha256(ca.0.public_key().blob()));
        let base64 = |c: &Certificate| Base64::encode_string(c.blob());
        let (host, _) = host_certificate(&ca, &["ca"], -60, 60);
        let line = format!("@cert-authority [ca]:22022 {}\n", ca.0.public_key().to_openssh(""));
        assert_eq!(known_host(&digest(&ca), "[ca]:22022", &base64(&host)), Shown::Known(line));
        let is_by = ca.0.public_key().fingerprint();
        assert_eq!(known_host(&digest(&other), "ca", &base64(&host)), Shown::OtherCa(is_by.clone()));
        assert_eq!(known_host("junk", "ca", &base64(&host)), Shown::OtherCa(is_by));
        let (user, _) = ca.issue("alice", 1, 60);
        assert_eq!(known_host(&digest(&ca), "ca", &base64(&user)), Shown::NoCertificate, "a user certificate");
        let plain = Base64::encode_string(ca.0.public_key().blob());
        assert_eq!(known_host(&digest(&ca), "ca", &plain), Shown::NoCertificate);
        for key in ["NONE", ""] {
            assert_eq!(known_host(&digest(&ca), "ca", key), Shown::Nothing, "{key}");
        }
    }

    /// What is made of an ssh that ends with these words.
    fn judged(said: &str) -> String {
        let mut ssh = program("/bin/sh", ["-c", "printf '%s\\n' \"$1\" >&2; exit 255", "sh", said]);
        let ended = run(&mut ssh, Bounds { time: PATIENCE, bytes: 1 }).unwrap();
        let server = CaServer { name: "ca", port: 2222, known: Known::File(Path::new("/x")) };
        no_way(&server.place(), &ended).to_string()
    }

    #[test]
    fn who_answers_in_the_place_of_the_ca_is_told_from_no_answer_at_all() {
        let unknown = "No ED25519 host key is known for [ca]:2222 and you have requested strict checking.\r\nHost key verification failed.\r";
        let with = |shown: Shown| format!("{}\n{unknown}", shown.said().unwrap());
        for (said, wanted) in [
            (
                with(Shown::OtherCa("SHA256:x".into())),
                "the server at ca port 2222 is not the CA that made this token (its host CA is another: SHA256:x): wrong token, wrong CA, or somebody in between",
            ),
            (with(Shown::NoCertificate), "the server at ca port 2222 shows no host certificate"),
            (
                "host@ca: Permission denied (publickey,password).\r".into(),
                "what answers at ca port 2222 is a plain sshd, not usshca: is that the CA's port? (`--port`",
            ),
            (
                "Certificate invalid: name is not a listed principal\r\nHost key verification failed.\r".into(),
                "no way to the CA: the server at ca port 2222 has a certificate of the right host CA, but not for this name: ",
            ),
            (
                "Certificate invalid: expired\r\nHost key verification failed.\r".into(),
                "no way to the CA: the host certificate of the server at ca port 2222 is not valid at this time: ",
            ),
            (
                "Certificate invalid: not yet valid\r\nHost key verification failed.\r".into(),
                "no way to the CA: the host certificate of the server at ca port 2222 is not valid at this time: ",
            ),
            // What was shown is no matter where ssh fails by something else.
            (format!("{SAYS}{NO_CERTIFICATE}\nConnection reset by peer"), "no way to the CA: "),
            (unknown.into(), "no way to the CA: No ED25519 host key is known"),
            ("ssh: connect to host ca port 2222: Connection refused".into(), "no way to the CA: ssh: connect to host"),
        ] {
            let error = judged(&said);
            assert!(error.starts_with(wanted), "{said}: {error}");
        }
        assert_eq!((Shown::Known(String::new()).said(), Shown::Nothing.said()), (None, None));
    }
}
