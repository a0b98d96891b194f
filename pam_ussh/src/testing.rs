//! For the tests of `records`, `origin` and `search`: connections of sshd's, as far as these look at them, records and agents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::UnixTime;
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::PrivateKey;
use ussh_core::record::{SessionRecord, VERSION};
use ussh_os::process;
use ussh_os::process_tree::ProcessId;

/// Records must be root's, and so this is who asks in these tests.
pub fn is_root() -> bool {
    process::effective_uid() == 0
}

/// A folder of a test's own: the spool, and sockets.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        Folder::below(&std::env::temp_dir())
    }

    /// On a path that root alone can change.
    pub fn trusted() -> Self {
        Folder::below("/run".as_ref())
    }

    fn below(folder: &Path) -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("pam-ussh-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn spool(&self) -> PathBuf {
        self.at("sessions")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A key with a certificate of `key_id`, by this CA.
pub fn issued(ca: &PrivateKey, key_id: &str) -> Certificate {
    let template = CertificateTemplate {
        public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
        serial: 1,
        kind: CertificateKind::User,
        key_id: key_id.into(),
        principals: vec!["alice".into()],
        valid_after: UnixTime(0),
        valid_before: UnixTime(1000),
        critical_options: vec![],
        extensions: vec![],
    };
    template.sign(ca).unwrap()
}

/// One of `key_id`, as a record has it.
pub fn certificate(key_id: &str) -> String {
    issued(&PrivateKey::generate_ed25519().unwrap(), key_id).to_openssh("")
}

/// The same with an empty key ID, which only ssh-keygen makes.
pub fn certificate_without_key_id() -> String {
    let folder = Folder::new();
    for arguments in ["-q -t ed25519 -N  -f ca", "-q -t ed25519 -N  -f k", "-q -s ca -I  -n alice k.pub"] {
        let mut command = Command::new("ssh-keygen");
        assert!(command.args(arguments.split(' ')).current_dir(folder.at("")).status().unwrap().success());
    }
    std::fs::read_to_string(folder.at("k-cert.pub")).unwrap().trim_end().into()
}

/// Of `monitor`, this boot, this user, from 192.0.2.7, with a certificate of alice's.
pub fn record(monitor: ProcessId) -> SessionRecord {
    SessionRecord {
        version: VERSION,
        pid: monitor.pid,
        start_time: monitor.start_time,
        boot_id: process::boot_id().unwrap(),
        user: "alice".into(),
        uid: process::real_uid(),
        rhost: "192.0.2.7".into(),
        certificate: Some(certificate("alice")),
        opened: UnixTime(1_700_000_000),
    }
}

/// Stands for the monitor of one connection: a program that forks, once per line that it reads. `relay PATH TARGET`: the fork listens at PATH and passes what comes there on to
/// TARGET, as sshd does with a forwarded agent and with `-R`. `mute PATH`: it listens, and says nothing. Each line is answered with the fork's number when it listens.
const MONITOR: &str = r#"
use IO::Socket::UNIX; use IO::Select; $| = 1; my @forks;
sub relay { my ($listener, $target) = @_; my %other; my $all = IO::Select->new($listener);
  while (my @ready = $all->can_read) { for my $one (@ready) {
    if ($one == $listener) { my $in = $listener->accept; 
      my $out = defined $target ? IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $target) : undef;
      if (defined $out) { $other{$in} = $out; $other{$out} = $in; $all->add($in, $out) } elsif (defined $target) { close $in } else { push @forks, $in } next }
    my $other = $other{$one} or next;
    if (sysread($one, my $bytes, 65536)) { syswrite $other, $bytes } else { $all->remove($one, $other); close $one; close $other } } } }
while (<STDIN>) { my ($what, $path, $target) = split; pipe(my $r, my $w); my $pid = fork;
  if (!$pid) { close $r; close STDIN; $SIG{PIPE} = 'IGNORE';
    my $listener = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $path, Listen => 16) or die "$path: $!";
    syswrite $w, "$$\n"; close $w; relay($listener, $what eq 'relay' ? $target : undef) }
  close $w; push @forks, $pid; print scalar <$r> }
kill 9, @forks;
"#;

/// A connection; its processes end with it.
pub struct Sshd {
    process: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    pub monitor: ProcessId,
}

impl Sshd {
    pub fn start() -> Self {
        let mut command = Command::new("/usr/bin/perl");
        let mut process = command.args(["-e", MONITOR]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let monitor = ProcessId::of(process.id()).unwrap();
        Sshd { commands: process.stdin.take(), process, answers, monitor }
    }

    /// Listens at `path` for what lies at `target`.
    pub fn relay(&mut self, path: &Path, target: &Path) -> ProcessId {
        self.tell(&format!("relay {} {}\n", path.display(), target.display()))
    }

    /// Listens at `path`, and says nothing.
    pub fn mute(&mut self, path: &Path) -> ProcessId {
        self.tell(&format!("mute {}\n", path.display()))
    }

    fn tell(&mut self, command: &str) -> ProcessId {
        self.commands.as_mut().unwrap().write_all(command.as_bytes()).unwrap();
        ProcessId::of(self.answers.next().unwrap().unwrap().parse().unwrap()).unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.commands.take());
        self.process.wait().unwrap();
    }
}

/// An ssh-agent with one key, whose comment is its name.
pub struct SshAgent {
    process: Child,
    pub socket: PathBuf,
}

impl SshAgent {
    pub fn start(folder: &Folder, name: &str) -> Self {
        let socket = folder.at(&format!("agent-{name}"));
        let mut command = Command::new("ssh-agent");
        let mut process = command.args(["-D", "-a"]).arg(&socket).stdout(Stdio::piped()).spawn().unwrap();
        // It prints its socket once it listens.
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let agent = SshAgent { process, socket };
        let key = folder.at(&format!("key-{name}"));
        agent.run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key));
        agent.run(Command::new("ssh-add").arg("-q").arg(&key));
        agent
    }

    fn run(&self, command: &mut Command) {
        let output = command.env("SSH_AUTH_SOCK", &self.socket).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
