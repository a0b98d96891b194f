//! The last step: ssh itself, told to say what it does. It forwards nothing, asks nobody, learns no key and shares no connection.

use std::net::UdpSocket;
use std::process::{Command, Stdio};

use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::escape::escape;
use ussh_core::verdict::source_address_allows;

use super::host::Host;
use super::{Fault, MAX_SHOWN, Report};
use crate::exec::find_ssh;
use crate::keeper::Keeper;
use crate::login::{Cause, HostKeyTrouble};
use crate::status::duration;

/// Clocks may differ by this much, in seconds: the CA dates a certificate back by a minute.
const CLOCK_TOLERANCE: u64 = 45;

/// Of two values of a keyword ssh takes the first: these come before the user's.
const OPTIONS: [&str; 12] = [
    "BatchMode=yes",
    "ConnectTimeout=5",
    "ConnectionAttempts=1",
    "UpdateHostKeys=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "LogLevel=DEBUG1",
];

impl Report {
    /// Tries it, and explains a refusal.
    pub(super) fn login(
        &mut self,
        host: &Host,
        certificate: &Certificate,
        keeper: &Keeper,
        keys: usize,
    ) -> Result<(), Fault> {
        let mut ssh = Command::new(find_ssh()?);
        if let Some(agent) = keeper.agent() {
            ssh.env("SSH_AUTH_SOCK", agent.path());
        }
        ssh.arg("-T")
            .args(keeper.options(Vec::new))
            .args(OPTIONS.iter().flat_map(|option| ["-o", option]))
            .arg("--")
            .arg(&host.given);
        let output = ssh.arg("date +%s").stdin(Stdio::null()).output().map_err(crate::failure::Failure::Log)?;
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("\nAuthenticated to ") || said.starts_with("Authenticated to ") {
            return self.inside(host, &said, &String::from_utf8_lossy(&output.stdout), output.status.code());
        }
        let fault = Refused { host, certificate, keeper, keys, said: &said }.explain();
        self.step("login", "ssh is not let in");
        Err(fault)
    }

    fn inside(&mut self, host: &Host, said: &str, answer: &str, code: Option<i32>) -> Result<(), Fault> {
        let by_certificate =
            said.lines().any(|line| line.starts_with("debug1: Server accepts key: ") && line.contains("-CERT "));
        let how = if by_certificate { "by the certificate" } else { "without the certificate" };
        self.step("login", format!("{} lets {} in {how}", host.name, host.user));
        if code == Some(255) {
            let last = last_line(said);
            return Err(Fault::new(
                format!("{} took the proof and ended the session: {last}", host.name),
                "ask its administrators: the account may be closed there, or its shell",
            ));
        }
        if code != Some(0) {
            let shown =
                answer.lines().last().map_or_else(|| last_line(said), |line| escape(line.trim().as_bytes(), MAX_SHOWN));
            return Err(Fault::new(
                format!("{} lets {} in, and runs no command for that account: {shown}", host.name, host.user),
                "ask its administrators: the account's shell may be closed",
            ));
        }
        let now = SystemClock.now().0;
        let Ok(there) = answer.trim().parse::<u64>() else { return Ok(()) };
        let off = there.abs_diff(now);
        self.step("clock", format!("that of {} is {} off this machine's", host.name, duration(off)));
        if off > CLOCK_TOLERANCE {
            let which = if there > now { "ahead of" } else { "behind" };
            return Err(Fault::new(
                format!(
                    "the clock of {} is {} {which} this machine's: certificates are good for another time there",
                    host.name,
                    duration(off)
                ),
                "set the clock that is wrong",
            ));
        }
        Ok(())
    }
}

/// A login that was refused, with what may be the reason.
struct Refused<'a> {
    host: &'a Host,
    certificate: &'a Certificate,
    keeper: &'a Keeper,
    /// How many the agent lists.
    keys: usize,
    said: &'a str,
}

impl Refused<'_> {
    fn explain(&self) -> Fault {
        let name = &self.host.name;
        // The debug lines are not for the causes that ssh names by itself.
        let told: String = self
            .said
            .lines()
            .filter(|line| !line.starts_with("debug"))
            .fold(String::new(), |all, line| all + line + "\n");
        if told.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            return Fault::new(
                format!(
                    "{name} shows another host key than the one in ssh's known_hosts, and no certificate of your host CA"
                ),
                format!("ask its administrators whether the key was changed; if so: ssh-keygen -R {name}"),
            );
        }
        match Cause::find(&told) {
            Some(Cause::NoAnswer(reason)) => {
                let way = if self.host.is_indirect() { " by way of its ProxyJump or ProxyCommand" } else { "" };
                Fault::new(
                    format!("{name} port {} does not answer{way}: {reason}", self.host.port),
                    "check the network, and the name and port in ssh_config",
                )
            }
            Some(Cause::NotProven(trouble)) => self.not_proven(&trouble),
            None if told.contains("Too many authentication failures") => Fault::new(
                format!(
                    "{name} has ended it after too many keys: the agent lists {}, and ssh tries one after the other",
                    self.keys
                ),
                "remove keys that you do not need (ssh-add -d), or raise MaxAuthTries there",
            ),
            None if told.contains("Permission denied") => self.denied(),
            None => Fault::new(format!("ssh ended: {}", last_line(&told)), format!("try ssh -v {name}")),
        }
    }

    fn not_proven(&self, trouble: &HostKeyTrouble) -> Fault {
        let name = &self.host.name;
        let (wrong, advice) = match trouble {
            HostKeyTrouble::Expired => (
                format!("the host certificate of {name} has expired, if this machine's clock is right"),
                "check this machine's clock; if that is right, tell the host's administrators (ussh-hostd renew)",
            ),
            HostKeyTrouble::NotYetValid => (
                format!("the host certificate of {name} is not valid yet, if this machine's clock is right"),
                "check this machine's clock; if that is right, tell the host's administrators",
            ),
            HostKeyTrouble::OtherName => (
                format!("what answers as {name} has a host certificate for another name"),
                "use the name that is certified, or ask its administrators",
            ),
            HostKeyTrouble::OtherCa | HostKeyTrouble::NoCertificate => (
                format!("{name} has no host certificate of a CA in ssh's known_hosts, and its key is not there either"),
                "put the host CA's @cert-authority line into ssh's known_hosts, or ask the host's administrators",
            ),
            HostKeyTrouble::Revoked => {
                (format!("the host key of {name} is marked as revoked"), "ask its administrators before you go there")
            }
        };
        Fault::new(wrong, advice)
    }

    /// sshd does not say why; what can be seen from here comes first.
    fn denied(&self) -> Fault {
        let Refused { host, certificate, said, .. } = self;
        let (name, user) = (&host.name, &host.user);
        if host.value("pubkeyauthentication").is_some_and(|value| value == "no" || value == "false") {
            return Fault::new(
                "ssh_config has ssh use no keys for this host (PubkeyAuthentication no)",
                "take that out of ssh_config",
            );
        }
        let fingerprint = certificate.public_key().fingerprint();
        let about = |begin: &str| {
            said.lines().any(|line| line.starts_with(begin) && line.contains("-CERT ") && line.contains(&fingerprint))
        };
        if !about("debug1: Offering public key: ") {
            if host.value("identitiesonly") == Some("yes") {
                return Fault::new(
                    "ssh_config has ssh offer no key that it does not name itself (IdentitiesOnly yes): the certificate in the agent was not offered",
                    "take IdentitiesOnly out of ssh_config for this host",
                );
            }
            return Fault::new(
                "ssh did not offer the certificate (perhaps by PubkeyAcceptedAlgorithms of ssh_config)",
                format!("see what ssh -v {name} says of it"),
            );
        }
        if about("debug1: Server accepts key: ") {
            return Fault::new(
                format!("{} would not sign with the certificate's key", self.keeper.place().display()),
                "unlock the agent (ssh-add -X), or say yes when it asks",
            );
        }
        let principals: Vec<String> =
            certificate.principals().iter().map(|principal| escape(principal, MAX_SHOWN)).collect();
        if !principals.iter().any(|principal| principal == user) {
            return Fault::new(
                format!("the certificate is for {}, and ssh logs in as {user}", principals.join(", ")),
                format!("log in as one of these: ssh {}@{name}", principals.first().map_or("", String::as_str)),
            );
        }
        if let Some(origin) = self.origin()
            && source_address_allows(certificate, Some(origin)).is_err()
        {
            return Fault::new(
                format!("the certificate may not be used from this machine's address {origin} (source-address)"),
                "log in from an address that the CA's policy has, or ask the CA's administrators",
            );
        }
        Fault::new(
            format!(
                "{name} does not take the certificate, and from here it looks good: it may be revoked, or {name} does not trust your CA, has no account {user}, or another clock"
            ),
            format!(
                "ussh --force {name} gets a new one; if that is refused too, ask the administrators of {name}: sshd's log says why"
            ),
        )
    }

    /// This machine's address on the way there; nothing is sent. None where ssh goes another way.
    fn origin(&self) -> Option<std::net::IpAddr> {
        if self.host.is_indirect() {
            return None;
        }
        let port = self.host.port.parse().ok()?;
        let address = std::net::ToSocketAddrs::to_socket_addrs(&(self.host.name.as_str(), port)).ok()?.next()?;
        let any: std::net::SocketAddr =
            if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(address).ok()?;
        socket.local_addr().ok().map(|local| local.ip())
    }
}

fn last_line(said: &str) -> String {
    let line = said.lines().rfind(|line| !line.starts_with("debug") && !line.trim().is_empty());
    escape(line.unwrap_or("it does not say why").trim().as_bytes(), MAX_SHOWN)
}
