//! A user with a home folder, an ssh-agent and a CA, and what root on a host would send.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use ussh_core::agent::{Agent, Constraints, Waiting, frame};
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::challenge::{Challenge, ChallengeContext};
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::{FidoDemand, PrivateKey};
use ussh_core::sshsig;
use ussh_core::wire::WireWrite;

/// Longest wait for anything that happens by itself: the process looks every five seconds.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// FAILURE.
pub(crate) const NO: &[u8] = &[5];
/// EXTENSION_FAILURE.
pub(crate) const DECLINED: &[u8] = &[28];

/// A user with a home, a folder for sockets, an ssh-agent and a CA whose certificates count.
pub(crate) struct User {
    pub(crate) home: TempDir,
    pub(crate) runtime: TempDir,
    pub(crate) agent: Child,
    pub(crate) ca: PrivateKey,
}

/// A key with its certificate.
pub(crate) struct Pair {
    pub(crate) key: PrivateKey,
    pub(crate) certificate: Certificate,
}

pub(crate) struct Patiently;

impl Waiting for Patiently {}

pub(crate) fn now() -> u64 {
    SystemClock.now().0
}

impl User {
    pub(crate) fn new() -> Self {
        // Not in /tmp, which is everybody's: `ussh` would take no file from there.
        let home =
            tempfile::Builder::new().prefix(".ussh-test-").tempdir_in(std::env::var_os("HOME").unwrap()).unwrap();
        let runtime = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
        let mut agent = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(home.path().join("agent"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(agent.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let user = User { home, runtime, agent, ca: PrivateKey::generate_ed25519().unwrap() };
        std::fs::write(user.path("user_ca.pub"), format!("{}\n", user.ca.public_key().to_openssh("user CA"))).unwrap();
        user.configure("");
        user
    }
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
    pub(crate) fn configure(&self, more: &str) {
        let file = self.path(".config/ussh/ussh.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let ca = self.path("user_ca.pub");
        std::fs::write(file, format!("user_ca_file = \"{}\"\nca_user = \"alice\"\n{more}", ca.display())).unwrap();
    }
    pub(crate) fn ussh(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ussh"));
        command.args(arguments).env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.env("XDG_RUNTIME_DIR", self.runtime.path()).env("SSH_AUTH_SOCK", self.path("agent"));
        command
    }
    pub(crate) fn said(&self, arguments: &[&str]) -> String {
        said(&mut self.ussh(arguments))
    }
    /// The guarded agent's socket; it runs then.
    pub(crate) fn guarded(&self) -> PathBuf {
        PathBuf::from(self.said(&["--agent"]).trim_end())
    }
    pub(crate) fn real(&self) -> Agent {
        connect(&self.path("agent"))
    }
    pub(crate) fn pair(
        &self,
        ca: &PrivateKey,
        kind: CertificateKind,
        key_id: &str,
        valid_after: u64,
        valid_before: u64,
    ) -> Pair {
        let key = PrivateKey::generate_ed25519().unwrap();
        let template = CertificateTemplate {
            public_key: key.public_key(),
            serial: 42,
            kind,
            key_id: key_id.to_owned(),
            principals: vec!["alice".to_owned()],
            valid_after: UnixTime(valid_after),
            valid_before: UnixTime(valid_before),
            critical_options: vec![],
            extensions: vec![],
        };
        let certificate = template.sign(ca).unwrap();
        Pair { key, certificate }
    }
    /// A good certificate, in the agent.
    pub(crate) fn good(&self) -> Pair {
        let pair = self.pair(&self.ca, CertificateKind::User, "alice", now() - 60, now() + 3600);
        pair.add_to(&mut self.real());
        pair
    }
    /// The processes that stand in front of this user's agent.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let own = format!("SSH_AUTH_SOCK={}", self.path("agent").display());
        let numbers = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers
            .filter(|process| {
                let read = |name: &str| std::fs::read(format!("/proc/{process}/{name}")).unwrap_or_default();
                read("cmdline") == b"ussh\0--agent\0--serve\0"
                    && read("environ").split(|byte| *byte == 0).any(|variable| variable == own.as_bytes())
            })
            .collect()
    }
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        self.said(&["--log", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        for process in self.processes() {
            kill(process);
        }
    }
}

impl Pair {
    pub(crate) fn add_to(&self, agent: &mut Agent) {
        agent.add_certificate(&self.certificate, &self.key, "alice@laptop", &Constraints::default()).unwrap();
    }
    pub(crate) fn blob(&self) -> &[u8] {
        self.certificate.blob()
    }
    pub(crate) fn challenge(&self) -> Challenge {
        Challenge::new(&self.certificate, &context("sudo")).unwrap()
    }
    /// A message, with what is to be different.
    pub(crate) fn message(&self, change: impl FnOnce(&mut ChallengeContext)) -> Vec<u8> {
        let mut context = context("sudo");
        change(&mut context);
        Challenge::new(&self.certificate, &context).unwrap().message().to_vec()
    }
    pub(crate) fn has_signed(&self, data: &[u8], signature: &[u8]) -> bool {
        self.key.public_key().verify(data, signature, FidoDemand::Presence).is_ok()
    }
}

pub(crate) fn context(service: &str) -> ChallengeContext {
    ChallengeContext {
        host: "web1".into(),
        service: service.into(),
        user: "alice".into(),
        ruser: "alice".into(),
        tty: "/dev/pts/3".into(),
        now: SystemClock.now(),
    }
}

pub(crate) fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn kill(process: u32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.cast_signed()), nix::sys::signal::SIGKILL);
}

pub(crate) fn connect(socket: &Path) -> Agent {
    Agent::new(UnixStream::connect(socket).unwrap(), Duration::from_secs(20))
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The answer to one payload on a connection of its own.
pub(crate) fn asked(socket: &Path, payload: &[u8]) -> Vec<u8> {
    connect(socket).pass_on(payload).unwrap().to_vec()
}

pub(crate) fn sign(blob: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
    frame::sign(blob, data, flags)[4..].to_vec()
}

pub(crate) fn clear(blob: &[u8], message: &[u8]) -> Vec<u8> {
    frame::clear_challenge(blob, message, 0)[4..].to_vec()
}

pub(crate) fn strings(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![kind];
    fields.iter().for_each(|field| payload.put_string(field));
    payload
}

/// What ssh has signed for a login (RFC 4252 §7), with the certificate's or the plain key.
pub(crate) fn login(session: &[u8], blob: &[u8], method: &str) -> Vec<u8> {
    let mut data = Vec::new();
    data.put_string(session);
    data.put_byte(50);
    data.put_string(b"alice");
    data.put_string(b"ssh-connection");
    data.put_string(method.as_bytes());
    data.put_byte(1);
    data.put_string(b"ssh-ed25519-cert-v01@openssh.com");
    data.put_string(blob);
    data
}

/// SSHSIG with each field as given.
pub(crate) fn sshsig(namespace: &str, reserved: &[u8], hash: &str, digest: &[u8]) -> Vec<u8> {
    let mut data = sshsig::PREAMBLE.to_vec();
    [namespace.as_bytes(), reserved, hash.as_bytes(), digest].iter().for_each(|field| data.put_string(field));
    data
}
