//! A new host's half of the protocol, over the stock ssh client of that host.

use ussh_core::clock::{Clock, SystemClock};
use ussh_core::enroll::{Exchange, ExchangeError, Granted, HostToken};
use ussh_core::keys::{PrivateKey, PublicKey};
use ussh_e2e::lab::{Host, Process, wait_until};

use super::{SOON, WORLD};

/// As an administrator brings it with the token, or a machine image holds it.
const KNOWN_HOSTS: &str = "/etc/ssh/ca_known_hosts";
const SSH: &str =
    "exec ssh -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/etc/ssh/ca_known_hosts";

/// `ssh host@ca VERB` on a host, with a pipe into it.
pub struct Talk {
    host: Host,
    pipe: String,
    ssh: Process,
}

/// How it ended.
#[derive(Debug)]
pub struct End {
    pub code: i32,
    pub lines: Vec<String>,
}

impl Talk {
    pub fn begin(host: &Host, verb: &str) -> Self {
        let name = verb.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let made = host.script(&format!("mktemp -d /run/{name}.XXXXXX")).unwrap();
        let pipe = format!("{}/in", made.stdout.trim());
        // Open at both ends: it has no end before ssh has.
        let ssh =
            host.command(["sh", "-c", &format!("mkfifo {pipe}; {SSH} host@ca {verb} 0<>{pipe}")]).spawn().unwrap();
        Talk { host: host.clone(), pipe, ssh }
    }

    /// The line of this number, when it is there.
    pub fn line(&self, number: usize) -> String {
        let whole =
            |text: String| text.split_inclusive('\n').nth(number).filter(|l| l.ends_with('\n')).map(str::to_owned);
        wait_until(SOON, "a line", || whole(self.ssh.stdout()).is_some()).unwrap();
        whole(self.ssh.stdout()).unwrap()
    }

    pub fn say(&self, line: &str) {
        let argv = ["sh", "-c", &format!("cat > {}", self.pipe)];
        self.host.command(argv).stdin(line).run().unwrap().ok().unwrap();
    }

    pub fn end(self) -> End {
        let output = self.ssh.wait(SOON).unwrap();
        End { code: output.status.code(), lines: output.stdout.lines().map(str::to_owned).collect() }
    }
}

/// A new host: nothing of ours on it but the CA's known_hosts line.
pub fn prepare(name: &str) -> Host {
    let host = WORLD.host(name);
    let line = WORLD.host("ca").read_file(&format!("{}/public/known_hosts", ussh_e2e::CA_DIR)).unwrap();
    host.write_file(KNOWN_HOSTS, 0o644, line).unwrap();
    host.script("ls /etc/ssh/ssh_host_ed25519_key 2>/dev/null || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key").unwrap();
    host
}

pub fn private_key(host: &Host, file: &str) -> PrivateKey {
    PrivateKey::from_openssh(&host.read_file(file).unwrap()).unwrap()
}

/// The Ed25519 host key of a host.
pub fn host_key(host: &Host) -> PrivateKey {
    private_key(host, "/etc/ssh/ssh_host_ed25519_key")
}

pub fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

pub fn token(arguments: &str) -> HostToken {
    let output = WORLD.usshca(&format!("host token {arguments}")).unwrap().ok().unwrap();
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
    HostToken::parse(&output.stdout).unwrap()
}

pub fn host_ca() -> PublicKey {
    let line = WORLD.host("ca").read_file(&format!("{}/public/host_ca.pub", ussh_e2e::CA_DIR)).unwrap();
    PublicKey::from_openssh(&line).unwrap()
}

/// All of an exchange for certificates; with `takes` the host says in the end that it has them.
pub fn exchange(host: &Host, mut exchange: Exchange, takes: bool) -> (Result<Granted, ExchangeError>, i32) {
    let talk = Talk::begin(host, exchange.verb().name());
    talk.say(&exchange.prove(talk.line(0).as_bytes()).unwrap());
    let granted = exchange.granted(talk.line(1).as_bytes(), SystemClock.now());
    if granted.is_ok() {
        talk.say(if takes { exchange.taken() } else { "{\"taken\":false}\n" });
    }
    let end = talk.end();
    assert_eq!(end.lines.len(), 2, "{end:?}");
    (granted, end.code)
}

pub fn enroll(host: &Host, token: HostToken, asked: &[&str], keys: Vec<PrivateKey>) -> Result<Granted, ExchangeError> {
    outcome(exchange(host, Exchange::enroll(token, names(asked), keys), true))
}

pub fn renew(host: &Host, asked: &[&str], keys: Vec<PrivateKey>) -> Result<Granted, ExchangeError> {
    outcome(exchange(host, Exchange::renew(host_ca(), names(asked), keys), true))
}

fn outcome((granted, code): (Result<Granted, ExchangeError>, i32)) -> Result<Granted, ExchangeError> {
    assert_eq!(code, i32::from(granted.is_err()), "{granted:?}");
    granted
}

/// The sentence of a refusal.
#[track_caller]
pub fn assert_refused(granted: Result<Granted, ExchangeError>, why: &str) {
    match granted {
        Err(ExchangeError::Refused(sentence)) => assert!(sentence.contains(why), "{sentence}"),
        other => panic!("{other:?}"),
    }
}
