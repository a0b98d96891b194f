//! `ssh host@CA VERB`: the system's ssh as the way to the CA, and no key of its own. What is proved is proved inside (`ussh_core::enroll`).
//!
//! The CA's key is pinned in either case: by the known_hosts file of the enrolment, or before that by the token, which holds the digest of the host CA's key. For the latter
//! ssh runs this very program (KnownHostsCommand, OpenSSH 8.5 and later), which says whether the CA's host certificate is signed by that key.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::digest::sha256;
use ussh_core::enroll::{Exchange, ExchangeError, Granted, HostToken};
use ussh_core::feed::MAX_FEED;

use crate::child::{Bounds, ChildError, Running, program, run};
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
        if ended.status.success() { Ok(()) } else { Err(CaError::NoWay(ended.said())) }
    }
}

impl CaServer<'_> {
    /// `enroll` or `renew`.
    /// # Errors
    /// [`CaError`]
    pub fn certificates(&self, mut exchange: Exchange) -> Result<Pending, CaError> {
        let (ssh, answer) = self.exchange(&mut exchange, PATIENCE)?;
        Ok(Pending { ssh, taken: exchange.taken(), granted: exchange.granted(&answer, SystemClock.now())? })
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
        if ended.status.success() { Ok(ended.stdout) } else { Err(CaError::NoWay(ended.said())) }
    }

    fn exchange(&self, exchange: &mut Exchange, time: Duration) -> Result<(Running, Vec<u8>), CaError> {
        let mut ssh = Running::start(&mut self.command(exchange.verb().name()), Bounds { time, bytes: MAX_ANSWER })?;
        let Some(hello) = ssh.line()? else { return Err(no_way(ssh)) };
        ssh.say(&exchange.prove(&hello)?)?;
        match ssh.line()? {
            Some(answer) => Ok((ssh, answer)),
            None => Err(no_way(ssh)),
        }
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

fn no_way(ssh: Running) -> CaError {
    ssh.finish().map_or_else(CaError::Ssh, |ended| CaError::NoWay(ended.said()))
}

/// What ssh's KnownHostsCommand is to print for this key of a server, in base64: the CA of its host certificate, if it is the one with this digest. `None`: it is not.
pub fn known_host(digest: &str, host: &str, key: &str) -> Option<String> {
    let certificate = Certificate::parse(&Base64::decode_vec(key).ok()?).ok()?;
    let is_it = sha256(certificate.ca().blob()).as_slice() == Base64::decode_vec(digest).ok()?;
    (is_it && certificate.kind() == CertificateKind::Host)
        .then(|| format!("@cert-authority {host} {}\n", certificate.ca().to_openssh("")))
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
        let line = known_host(&digest(&ca), "[ca]:22022", &base64(&host)).unwrap();
        assert_eq!(line, format!("@cert-authority [ca]:22022 {}\n", ca.0.public_key().to_openssh("")));
        assert_eq!(known_host(&digest(&other), "ca", &base64(&host)), None);
        let (user, _) = ca.issue("alice", 1, 60);
        assert_eq!(known_host(&digest(&ca), "ca", &base64(&user)), None, "a user certificate");
        let plain = Base64::encode_string(ca.0.public_key().blob());
        for key in [plain.as_str(), "NONE", ""] {
            assert_eq!(known_host(&digest(&ca), "ca", key), None, "{key}");
        }
    }
}
