//! The guarded agent towards hosts, as a process in front of a real ssh-agent, driven over its socket as root on a host would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tempfile::TempDir;
use ussh_core::agent::{Agent, ClearAnswer, Constraints, Request, Waiting, frame};
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::challenge::{Challenge, ChallengeContext, ChallengeMessage};
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::{FidoDemand, PrivateKey};
use ussh_core::sshsig;
use ussh_core::wire::WireWrite;

/// Longest wait for anything that happens by itself: the process looks every five seconds.
const SOON: Duration = Duration::from_secs(20);

/// A user with a home, a folder for sockets, an ssh-agent and a CA whose certificates count.
struct User {
    home: TempDir,
    runtime: TempDir,
    agent: Child,
    ca: PrivateKey,
}

/// A key with its certificate.
struct Pair {
    key: PrivateKey,
    certificate: Certificate,
}

struct Patiently;

impl Waiting for Patiently {}

fn now() -> u64 {
    SystemClock.now().0
}

impl User {
    fn new() -> Self {
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
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
    fn configure(&self, more: &str) {
        let file = self.path(".config/ussh/ussh.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let ca = self.path("user_ca.pub");
        std::fs::write(file, format!("user_ca_file = \"{}\"\nca_user = \"alice\"\n{more}", ca.display())).unwrap();
    }
    fn ussh(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ussh"));
        command.args(arguments).env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.env("XDG_RUNTIME_DIR", self.runtime.path()).env("SSH_AUTH_SOCK", self.path("agent"));
        command
    }
    fn said(&self, arguments: &[&str]) -> String {
        said(&mut self.ussh(arguments))
    }
    /// The guarded agent's socket; it runs then.
    fn guarded(&self) -> PathBuf {
        PathBuf::from(self.said(&["--agent"]).trim_end())
    }
    fn real(&self) -> Agent {
        connect(&self.path("agent"))
    }
    fn pair(&self, ca: &PrivateKey, kind: CertificateKind, key_id: &str, valid_after: u64, valid_before: u64) -> Pair {
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
    fn good(&self) -> Pair {
        let pair = self.pair(&self.ca, CertificateKind::User, "alice", now() - 60, now() + 3600);
        pair.add_to(&mut self.real());
        pair
    }
    /// The processes that stand in front of this user's agent.
    fn processes(&self) -> Vec<u32> {
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
    fn log(&self) -> Vec<serde_json::Value> {
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
    fn add_to(&self, agent: &mut Agent) {
        agent.add_certificate(&self.certificate, &self.key, "alice@laptop", &Constraints::default()).unwrap();
    }
    fn blob(&self) -> &[u8] {
        self.certificate.blob()
    }
    fn challenge(&self) -> Challenge {
        Challenge::new(&self.certificate, &context("sudo")).unwrap()
    }
    /// A message, with what is to be different.
    fn message(&self, change: impl FnOnce(&mut ChallengeContext)) -> Vec<u8> {
        let mut context = context("sudo");
        change(&mut context);
        Challenge::new(&self.certificate, &context).unwrap().message().to_vec()
    }
    fn has_signed(&self, data: &[u8], signature: &[u8]) -> bool {
        self.key.public_key().verify(data, signature, FidoDemand::Presence).is_ok()
    }
}

fn context(service: &str) -> ChallengeContext {
    ChallengeContext {
        host: "web1".into(),
        service: service.into(),
        user: "alice".into(),
        ruser: "alice".into(),
        tty: "/dev/pts/3".into(),
        now: SystemClock.now(),
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn kill(process: u32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.cast_signed()), nix::sys::signal::SIGKILL);
}

fn connect(socket: &Path) -> Agent {
    Agent::new(UnixStream::connect(socket).unwrap(), Duration::from_secs(20))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The answer to one payload on a connection of its own.
fn asked(socket: &Path, payload: &[u8]) -> Vec<u8> {
    connect(socket).pass_on(payload).unwrap().to_vec()
}

fn sign(blob: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
    frame::sign(blob, data, flags)[4..].to_vec()
}

fn clear(blob: &[u8], message: &[u8]) -> Vec<u8> {
    frame::clear_challenge(blob, message, 0)[4..].to_vec()
}

fn strings(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![kind];
    fields.iter().for_each(|field| payload.put_string(field));
    payload
}

/// What ssh has signed for a login (RFC 4252 §7), with the certificate's or the plain key.
fn login(session: &[u8], blob: &[u8], method: &str) -> Vec<u8> {
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
fn sshsig(namespace: &str, reserved: &[u8], hash: &str, digest: &[u8]) -> Vec<u8> {
    let mut data = sshsig::PREAMBLE.to_vec();
    [namespace.as_bytes(), reserved, hash.as_bytes(), digest].iter().for_each(|field| data.put_string(field));
    data
}

#[test]
fn lists_the_users_good_certificates_and_nothing_else_of_the_agent() {
    let user = User::new();
    let stranger = PrivateKey::generate_ed25519().unwrap();
    for (ca, kind, key_id, from, to) in [
        (&stranger, CertificateKind::User, "alice", now() - 60, now() + 3600),
        (&user.ca, CertificateKind::User, "bob", now() - 60, now() + 3600),
        (&user.ca, CertificateKind::Host, "alice", now() - 60, now() + 3600),
        (&user.ca, CertificateKind::User, "alice", now() - 60, now() - 1),
        (&user.ca, CertificateKind::User, "alice", now() + 600, now() + 3600),
    ] {
        user.pair(ca, kind, key_id, from, to).add_to(&mut user.real());
    }
    let socket = user.guarded();
    assert_eq!(connect(&socket).list(), Ok(vec![]));
    let pair = user.good();
    let listed = connect(&socket).list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].blob, pair.blob());
    assert_eq!(listed[0].comment, b"ussh alice serial 42 challenge@ussh", "not the comment that it has in the agent");
    assert!(listed[0].takes_clear_challenges());
}

#[test]
fn signs_challenges_by_their_hash_and_in_clear() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let hashed = pair.challenge();
    let signature = connect(&socket).sign(pair.blob(), &hashed.signed_data(), 0).unwrap();
    assert!(pair.has_signed(&hashed.signed_data(), &signature));
    let told = pair.challenge();
    let answer = connect(&socket).sign_clear(pair.blob(), told.message(), 0, &Patiently).unwrap();
    let ClearAnswer::Signature(signature) = answer else { panic!("{answer:?}") };
    assert!(pair.has_signed(&told.signed_data(), &signature));
    let log = user.log();
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[0]["what"], "a challenge, shown as a hash only");
    assert_eq!(log[1]["what"], "web1: sudo as alice on /dev/pts/3");
    assert_eq!(log[1]["challenge"]["tty"], "/dev/pts/3");
    assert!(log.iter().all(|entry| entry["outcome"] == "signed" && entry["serial"] == "42"), "{log:?}");
    assert_eq!(user.path(".local/state/ussh/agent.log").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = user.said(&["--log"]);
    assert!(
        text.lines().nth(1).unwrap().ends_with("Z  signed   web1: sudo as alice on /dev/pts/3  [alice serial 42]"),
        "{text}"
    );
}

/// FAILURE.
const NO: &[u8] = &[5];
/// EXTENSION_FAILURE.
const DECLINED: &[u8] = &[28];

#[test]
fn whatever_else_root_on_a_host_asks_for_it_gets_nothing_and_the_agent_stays_as_it_was() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let of = |ca: &PrivateKey, kind, key_id: &str, to| {
        let pair = user.pair(ca, kind, key_id, now() - 60, to);
        pair.add_to(&mut user.real());
        pair
    };
    let stranger = of(&PrivateKey::generate_ed25519().unwrap(), CertificateKind::User, "alice", now() + 3600);
    let bob = of(&user.ca, CertificateKind::User, "bob", now() + 3600);
    let expired = of(&user.ca, CertificateKind::User, "alice", now() - 1);
    let host = of(&user.ca, CertificateKind::Host, "alice", now() + 3600);
    let absent = user.pair(&user.ca, CertificateKind::User, "alice", now() - 60, now() + 3600);
    let plain = pair.key.public_key().to_blob();
    let (blob, data) = (pair.blob(), pair.challenge().signed_data());
    let name = "pam-ussh@ussh";
    let login_with = |session: &[u8]| login(session, blob, "publickey");
    let bind = strings(27, &[b"session-bind@openssh.com", &plain, b"session", b"signature"]);
    let mut odd_version = pair.message(|_| {});
    odd_version[0] = 2;
    let far = |by: i64| pair.message(|c| c.now = UnixTime(now().checked_add_signed(by).unwrap()));

    let rows: Vec<(&str, Vec<u8>, &[u8])> = vec![
        // Logins.
        ("a login", sign(blob, &login_with(&[7; 32]), 0), NO),
        (
            "a login with a host-bound method",
            sign(blob, &login(&[7; 32], blob, "publickey-hostbound-v00@openssh.com"), 0),
            NO,
        ),
        ("a login with the plain key", sign(&plain, &login(&[7; 32], &plain, "publickey"), 0), NO),
        ("a login whose session is a challenge", sign(blob, &login_with(&data), 0), NO),
        ("a login whose session is called SSHSIG", sign(blob, &login_with(b"SSHSIG"), 0), NO),
        ("a login whose session is empty", sign(blob, &login_with(b""), 0), NO),
        // Both at once.
        ("a challenge with a login behind it", sign(blob, &[&data[..], &login_with(&[7; 32])].concat(), 0), NO),
        ("a login with a challenge behind it", sign(blob, &[&login_with(&[7; 32])[..], &data].concat(), 0), NO),
        ("a challenge whose digest is a login", sign(blob, &sshsig(name, b"", "sha512", &login_with(&[7; 32])), 0), NO),
        (
            "a challenge whose reserved field is a login",
            sign(blob, &sshsig(name, &login_with(&[7; 32]), "sha512", &[0; 64]), 0),
            NO,
        ),
        // Other namespaces and forms.
        ("a file's SSHSIG", sign(blob, &sshsig("file", b"", "sha512", &[0; 64]), 0), NO),
        ("a commit's SSHSIG", sign(blob, &sshsig("git", b"", "sha512", &[0; 64]), 0), NO),
        ("no namespace", sign(blob, &sshsig("", b"", "sha512", &[0; 64]), 0), NO),
        ("ours and more", sign(blob, &sshsig("pam-ussh@ussh.example.com", b"", "sha512", &[0; 64]), 0), NO),
        ("ours and NUL", sign(blob, &sshsig("pam-ussh@ussh\0", b"", "sha512", &[0; 64]), 0), NO),
        ("the CA's login proof", sign(blob, &sshsig("usshca-login@ussh", b"", "sha512", &[0; 64]), 0), NO),
        ("sha256", sign(blob, &sshsig(name, b"", "sha256", &[0; 32]), 0), NO),
        ("a byte more", sign(blob, &[&data[..], &[0]].concat(), 0), NO),
        ("a byte less", sign(blob, &data[..data.len() - 1], 0), NO),
        ("the bare message", sign(blob, &pair.message(|_| {}), 0), NO),
        ("nothing", sign(blob, b"", 0), NO),
        ("a certificate to be", sign(blob, &blob[..blob.len() - 87], 0), NO),
        ("32 bytes", sign(blob, &[1; 32], 0), NO),
        // Other keys.
        ("a challenge by the plain key", sign(&plain, &data, 0), NO),
        ("by another CA's certificate", sign(stranger.blob(), &stranger.challenge().signed_data(), 0), NO),
        ("by another person's", sign(bob.blob(), &bob.challenge().signed_data(), 0), NO),
        ("by an expired one", sign(expired.blob(), &expired.challenge().signed_data(), 0), NO),
        ("by a host's", sign(host.blob(), &host.challenge().signed_data(), 0), NO),
        ("by one that the agent does not hold", sign(absent.blob(), &absent.challenge().signed_data(), 0), NO),
        (
            "by one with a byte changed",
            sign(&[&blob[..blob.len() - 1], &[blob[blob.len() - 1] ^ 1]].concat(), &data, 0),
            NO,
        ),
        // Forms of the request.
        ("flags of the old days", sign(blob, &data, 1), NO),
        ("all flags", sign(blob, &data, u32::MAX), NO),
        ("a request with more behind it", [&sign(blob, &data, 0)[..], &[0]].concat(), NO),
        ("a request that ends early", sign(blob, &data, 0)[..40].to_vec(), NO),
        ("a length beyond the end", [&[13][..], &u32::MAX.to_be_bytes(), blob].concat(), NO),
        ("a listing with more behind it", vec![11, 0], NO),
        // In clear.
        ("of another certificate", clear(blob, &absent.message(|_| {})), DECLINED),
        ("by the plain key in clear", clear(&plain, &pair.message(|_| {})), DECLINED),
        ("by another person's in clear", clear(bob.blob(), &bob.message(|_| {})), DECLINED),
        ("an old one", clear(blob, &far(-601)), DECLINED),
        ("one to come", clear(blob, &far(660)), DECLINED),
        ("no host", clear(blob, &pair.message(|c| c.host.clear())), DECLINED),
        ("no service", clear(blob, &pair.message(|c| c.service.clear())), DECLINED),
        ("no user", clear(blob, &pair.message(|c| c.user.clear())), DECLINED),
        ("a terminal's orders", clear(blob, &pair.message(|c| c.host = "web1\u{1b}[2J".into())), DECLINED),
        ("a second line", clear(blob, &pair.message(|c| c.tty = "x\nweb2".into())), DECLINED),
        ("another version", clear(blob, &odd_version), NO),
        ("a long name", clear(blob, &pair.message(|c| c.host = "x".repeat(1025))), NO),
        ("no message", clear(blob, b""), NO),
        ("a message with more behind it", clear(blob, &[&pair.message(|_| {})[..], &[0]].concat()), NO),
        // What else an agent knows.
        (
            "add",
            frame::add_certificate(&absent.certificate, &absent.key, "x", &Constraints::default()).unwrap()[4..]
                .to_vec(),
            NO,
        ),
        (
            "add with a lifetime",
            frame::add_certificate(
                &absent.certificate,
                &absent.key,
                "x",
                &Constraints { lifetime_seconds: Some(9), confirm: false },
            )
            .unwrap()[4..]
                .to_vec(),
            NO,
        ),
        ("remove", frame::remove(blob)[4..].to_vec(), NO),
        ("remove the plain key", frame::remove(&plain)[4..].to_vec(), NO),
        ("remove all", vec![19], NO),
        ("add a smartcard", strings(20, &[b"/usr/lib/opensc-pkcs11.so", b"1234"]), NO),
        ("remove a smartcard", strings(21, &[b"/usr/lib/opensc-pkcs11.so", b"1234"]), NO),
        ("add a smartcard constrained", strings(26, &[b"/tmp/evil.so", b""]), NO),
        ("lock", strings(22, &[b"secret"]), NO),
        ("unlock", strings(23, &[b"secret"]), NO),
        ("session-bind", bind, NO),
        ("session-bind, torn", strings(27, &[b"session-bind@openssh.com"]), NO),
        ("restrict-destination", strings(27, &[b"restrict-destination-v00@openssh.com", b""]), NO),
        ("query", strings(27, &[b"query"]), NO),
        ("an extension without a name", vec![27], NO),
        ("protocol 1", vec![1], NO),
        ("protocol 1, remove all", vec![9], NO),
    ];
    assert!(rows.len() > 60);
    let held = user.real().list().unwrap();
    for (what, payload, wanted) in &rows {
        assert_eq!(asked(&socket, payload), *wanted, "{what}");
    }
    // Every message number with nothing behind it, but the listing.
    for number in (0..=255).filter(|number| *number != 11) {
        assert_eq!(asked(&socket, &[number]), NO, "{number}");
    }
    assert_eq!(user.real().list().unwrap(), held);
    assert!(user.real().sign(blob, b"data", 0).is_ok(), "it is not locked");
    assert!(user.log().iter().all(|entry| entry["outcome"] == "refused"));
    assert!(connect(&socket).sign(blob, &data, 0).is_ok(), "and it still serves");
}

#[test]
fn a_host_that_sends_one_text_and_asks_to_sign_another_gets_nothing() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let (shown, meant) = (pair.challenge(), pair.challenge());
    let mut agent = connect(&socket);
    let answer = agent.sign_clear(pair.blob(), shown.message(), 0, &Patiently).unwrap();
    let ClearAnswer::Signature(signature) = answer else { panic!("{answer:?}") };
    assert!(pair.has_signed(&shown.signed_data(), &signature) && !pair.has_signed(&meant.signed_data(), &signature));
    assert_eq!(agent.pass_on(&sign(pair.blob(), &meant.signed_data(), 0)).unwrap().as_slice(), NO);
    let last = user.log().pop().unwrap();
    assert_eq!(last["what"], "to sign a hash on a connection that had sent a challenge in clear");
}

#[test]
fn torn_pipelined_oversized_requests_and_descriptors_harm_nobody() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let process = user.processes()[0];
    let descriptors = || std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let listing = asked(&socket, &[11]);
    until("connections are closed", || descriptors() <= 5);
    let before = descriptors();

    let mut torn = UnixStream::connect(&socket).unwrap();
    for byte in frame::list() {
        torn.write_all(&[byte]).unwrap();
        assert_eq!(asked(&socket, &[11]), listing, "others go on");
    }
    let answer = |stream: &mut UnixStream| {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut payload).unwrap();
        payload
    };
    assert_eq!(answer(&mut torn), listing);

    let mut pipelined = UnixStream::connect(&socket).unwrap();
    let challenge = frame::sign(pair.blob(), &pair.challenge().signed_data(), 0);
    pipelined.write_all(&[&frame::list()[..], &frame::wrap(&[19]), &challenge, &frame::list()].concat()).unwrap();
    let answers: Vec<Vec<u8>> = (0..4).map(|_| answer(&mut pipelined)).collect();
    assert_eq!((&answers[0], &answers[1][..], answers[2][0], &answers[3]), (&listing, NO, 14, &listing));

    for length in [0, 64 * 1024 + 1, u32::MAX] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{length}");
    }

    let gifts = UnixStream::connect(&socket).unwrap();
    let fds = [gifts.as_raw_fd(); 8];
    let list = frame::list();
    sendmsg::<()>(
        gifts.as_raw_fd(),
        &[IoSlice::new(&list)],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    assert_eq!(answer(&mut gifts.try_clone().unwrap()), listing);
    drop((torn, pipelined, gifts));
    until("nothing stays open", || descriptors() <= before);
}

#[test]
fn one_host_has_a_few_connections_and_cannot_take_anothers() {
    let user = User::new();
    let socket = user.guarded();
    let mut idle: Vec<Agent> = (0..8).map(|_| connect(&socket)).collect();
    for agent in &mut idle {
        assert_eq!(agent.list(), Ok(vec![]));
    }
    assert_eq!(UnixStream::connect(&socket).unwrap().read(&mut [0; 1]).unwrap(), 0, "a ninth of this process");
    let other = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert_eq!(other.stdout, b"The agent has no identities.\n", "another process goes on");
    drop(idle.pop());
    until("there is room again", || connect(&socket).list().is_ok());
}

#[test]
fn a_request_that_waits_for_a_touch_holds_up_no_other_host() {
    let user = User::new();
    let pair = user.good();
    // An agent that knows the certificate and never comes to sign with it, on connections of its own.
    let slow = user.path("slow");
    let listener = UnixListener::bind(&slow).unwrap();
    let listing = user.real().list().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let listing = frame::identities(&listing);
            std::thread::spawn(move || answer_listings(stream, &listing));
        }
    });
    let socket = said(user.ussh(&["--agent"]).env("SSH_AUTH_SOCK", &slow));
    let socket = Path::new(socket.trim_end());
    let mut waiting = UnixStream::connect(socket).unwrap();
    waiting.write_all(&frame::sign(pair.blob(), &pair.challenge().signed_data(), 0)).unwrap();
    let begun = Instant::now();
    assert_eq!(connect(socket).list().unwrap().len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    waiting.set_nonblocking(true).unwrap();
    assert_eq!(waiting.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it waits still");
    user.ussh(&["--logout"]).env("SSH_AUTH_SOCK", &slow).output().unwrap();
}

fn answer_listings(mut stream: UnixStream, listing: &[u8]) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut payload).unwrap();
        if Request::parse(&payload) == Request::List {
            stream.write_all(listing).unwrap();
        }
    }
}

#[test]
fn twenty_at_once_start_one_process_and_later_ones_find_it() {
    let user = User::new();
    let started: Vec<Child> =
        (0..20).map(|_| user.ussh(&["--agent"]).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let sockets: Vec<Vec<u8>> = started.into_iter().map(|child| child.wait_with_output().unwrap().stdout).collect();
    assert!(sockets.iter().all(|socket| *socket == sockets[0] && !socket.is_empty()), "{sockets:?}");
    let processes = user.processes();
    assert_eq!(processes.len(), 1);
    user.guarded();
    assert_eq!(user.processes(), processes);
    let status = std::fs::read_to_string(format!("/proc/{}/status", processes[0])).unwrap();
    assert!(!status.contains(&format!("\nPPid:\t{}\n", std::process::id())), "{status}");
}

#[test]
fn one_that_was_killed_or_stopped_is_replaced() {
    let user = User::new();
    let pair = user.good();
    let socket = user.guarded();
    kill(user.processes()[0]);
    until("it is gone", || user.processes().is_empty());
    assert!(socket.exists(), "it left its socket");
    assert_eq!(user.guarded(), socket);
    assert!(connect(&socket).sign(pair.blob(), &pair.challenge().signed_data(), 0).is_ok());
    // What is in the way of its socket is no reason not to start.
    kill(user.processes()[0]);
    until("it is gone", || user.processes().is_empty());
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "").unwrap();
    assert_eq!(user.guarded(), socket);
    assert_eq!(connect(&socket).list().unwrap().len(), 1);
}

#[test]
fn goes_with_the_agent_behind_it_and_with_a_logout() {
    let mut user = User::new();
    let socket = user.guarded();
    assert_eq!(user.processes().len(), 1);
    user.ussh(&["--logout"]).output().unwrap();
    until("it goes after --logout", || user.processes().is_empty());
    user.guarded();
    user.agent.kill().unwrap();
    user.agent.wait().unwrap();
    until("it goes with the agent", || user.processes().is_empty());
    assert!(!socket.exists());
}

#[test]
fn another_users_connection_is_closed() {
    let user = User::new();
    if !nix::unistd::getuid().is_root() {
        return;
    }
    user.good();
    let socket = user.guarded();
    for path in [user.runtime.path(), socket.parent().unwrap(), &socket] {
        std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let list = |uid| {
        let mut command = Command::new("ssh-add");
        command.arg("-l").env("SSH_AUTH_SOCK", &socket).uid(uid).gid(uid);
        command.output().unwrap()
    };
    let other = list(65_534);
    // It got through to the socket, and found it closed before or after it had written.
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    let is_closed =
        other.status.signal() == Some(nix::libc::SIGPIPE) || said.contains("communication with agent failed");
    assert!(is_closed && other.stdout.is_empty(), "{other:?}");
    assert!(list(0).status.success());
}

#[test]
fn a_folder_that_is_not_the_users_alone_is_refused_and_nothing_is_forwarded() {
    let user = User::new();
    std::fs::create_dir(user.runtime.path().join("ussh")).unwrap();
    std::fs::set_permissions(user.runtime.path().join("ussh"), Permissions::from_mode(0o777)).unwrap();
    let output = user.ussh(&["--agent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a folder of yours alone"), "{output:?}");
    assert_eq!(user.processes(), Vec::<u32>::new());
}

#[test]
fn new_files_take_effect_without_a_restart() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    assert_eq!(connect(&socket).list().unwrap().len(), 1);
    let other = PrivateKey::generate_ed25519().unwrap().public_key().to_openssh("another CA");
    std::fs::write(user.path("user_ca.pub"), format!("{other}\n")).unwrap();
    until("the CA does not count any more", || connect(&socket).list() == Ok(vec![]));
    assert!(connect(&socket).sign(pair.blob(), &pair.challenge().signed_data(), 0).is_err());
}

/// Starts it with an askpass that writes down its question and ends as `answer` says.
fn asking(user: &User, with: impl FnOnce(&mut Command)) -> PathBuf {
    user.configure("confirm = [\"sudo*\"]\n");
    let askpass = user.path("askpass");
    let script = format!(
        "#!/bin/sh\nprintf '%s|%s' \"$SSH_ASKPASS_PROMPT\" \"$1\" >'{0}/question'\nexit \"$(cat '{0}/answer')\"\n",
        user.home.path().display()
    );
    std::fs::write(user.path("askpass.sh"), script).unwrap();
    let mut install = Command::new("install");
    install.args(["-m", "0755"]).arg(user.path("askpass.sh")).arg(&askpass);
    assert!(install.status().unwrap().success());
    let mut command = user.ussh(&["--agent"]);
    command.env("SSH_ASKPASS", &askpass).env("DISPLAY", ":0");
    with(&mut command);
    PathBuf::from(said(&mut command).trim_end())
}

#[test]
fn where_confirm_says_so_the_person_is_asked_with_the_text_that_is_signed() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |_| {});
    let answer = |code: &str| std::fs::write(user.path("answer"), code).unwrap();
    let question = || std::fs::read_to_string(user.path("question")).ok();
    let challenge = pair.challenge();

    answer("1");
    assert_eq!(asked(&socket, &clear(pair.blob(), challenge.message())), DECLINED);
    let shown = ChallengeMessage::parse(challenge.message()).unwrap().to_string();
    assert_eq!(question().unwrap(), format!("confirm|{shown}\n\nSign with the certificate of alice?"));
    assert_eq!(user.log().pop().unwrap()["what"], format!("{shown}: you said no, or nothing"));

    answer("0");
    let signed = connect(&socket).sign_clear(pair.blob(), challenge.message(), 0, &Patiently).unwrap();
    let ClearAnswer::Signature(signature) = signed else { panic!("{signed:?}") };
    assert!(pair.has_signed(&challenge.signed_data(), &signature));

    std::fs::remove_file(user.path("question")).unwrap();
    assert_eq!(asked(&socket, &sign(pair.blob(), &challenge.signed_data(), 0)), NO, "a hash cannot be shown");
    let su = Challenge::new(&pair.certificate, &context("su")).unwrap();
    let unasked = connect(&socket).sign_clear(pair.blob(), su.message(), 0, &Patiently).unwrap();
    assert!(matches!(unasked, ClearAnswer::Signature(_)), "of su nothing is said");
    assert_eq!(question(), None, "nobody was asked");
}

#[test]
fn where_nobody_can_be_asked_nothing_is_signed() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |command| {
        command.env_remove("DISPLAY");
    });
    std::fs::write(user.path("answer"), "0").unwrap();
    assert_eq!(asked(&socket, &clear(pair.blob(), pair.challenge().message())), DECLINED);
    let log = user.log().pop().unwrap();
    assert!(log["what"].as_str().unwrap().ends_with("there is nowhere to ask you (SSH_ASKPASS, DISPLAY)"), "{log}");
}

#[test]
fn the_connections_host_key_is_noted_as_ssh_tells_it() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let host = PrivateKey::generate_ed25519().unwrap().public_key();
    let mut agent = connect(&socket);
    let mut bind = strings(27, &[b"session-bind@openssh.com", &host.to_blob(), &[1; 32], b"signature"]);
    bind.push(1);
    assert_eq!(agent.pass_on(&bind).unwrap().as_slice(), NO);
    assert_eq!(agent.pass_on(&bind).unwrap().as_slice(), NO, "the host's own is not believed");
    agent.sign_clear(pair.blob(), pair.challenge().message(), 0, &Patiently).unwrap();
    assert_eq!(user.log().pop().unwrap()["host_key"], host.fingerprint());
    assert!(OsStr::new(&user.said(&["--log"])).to_str().unwrap().contains(&host.fingerprint()));
}
