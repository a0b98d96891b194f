//! A small world for one test process: its own mount namespace with accounts, PAM services, a log, and agents with keys and certificates made by the real tools.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, seteuid};

use super::sanitizer::{self, Sanitizer};

pub const ALICE: u32 = 61001;
pub const BOB: u32 = 61002;

/// Everything lies here: a tmpfs of root's own, so that its files are trusted, and in which set-uid programs count.
pub const TOP: &str = "/etc/pam.d";

/// Where syslog listens: here it is us.
const LOG: &str = "/dev/log";

pub struct World {
    log: UnixDatagram,
    /// What was read of it and not looked at.
    lines: RefCell<Vec<String>>,
    sanitizer: Option<Sanitizer>,
}

/// An ssh-agent of somebody's; gone with the value.
pub struct Agent {
    process: Child,
    pub socket: PathBuf,
    uid: u32,
}

/// What came of one PAM call.
pub struct Outcome {
    pub success: bool,
    /// What pamtester printed, and what was said to the user.
    pub text: String,
    /// Lines of ours in the log.
    pub log: Vec<String>,
}

impl World {
    pub fn new() -> Self {
        // In a namespace of its own a program may no longer know its way from the root.
        let library = library();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let accounts = |file: &str, more: &str| format!("{}{more}", fs::read_to_string(file).unwrap());
        let passwd = accounts(
            "/etc/passwd",
            "alice:x:61001:61001::/nonexistent:/bin/sh\nbob:x:61002:61002::/nonexistent:/bin/sh\n",
        );
        let group = accounts("/etc/group", "alice:x:61001:\nbob:x:61002:\nadmins:x:61003:alice\n");

        // The devices that programs need, from outside; the rest of /dev is ours, for the log.
        let devices = Path::new(TOP).join("dev");
        tmpfs(TOP);
        fs::create_dir(&devices).unwrap();
        bind("/dev", &devices);
        tmpfs("/dev");
        for device in ["null", "urandom", "random", "zero", "tty"] {
            let here = Path::new("/dev").join(device);
            fs::write(&here, b"").unwrap();
            bind(devices.join(device), &here);
        }
        tmpfs("/run");
        for (file, text) in [("passwd", passwd), ("group", group)] {
            let ours = Path::new(TOP).join(file);
            fs::write(&ours, text).unwrap();
            bind(&ours, Path::new("/etc").join(file));
        }
        for (name, mode) in [("pamtester", 0o4755), ("pam_ussh.so", 0o644)] {
            let from = if name == "pamtester" { PathBuf::from("/usr/bin/pamtester") } else { library.clone() };
            let to = Path::new(TOP).join(name);
            fs::copy(from, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
        }
        let log = UnixDatagram::bind(LOG).unwrap();
        fs::set_permissions(LOG, fs::Permissions::from_mode(0o666)).unwrap();

        let mut world = World { log, lines: RefCell::default(), sanitizer: None };
        // Without it libpam complains to syslog, and the C library keeps that connection.
        let deny =
            ["auth", "account", "password", "session"].map(|facility| format!("{facility} required pam_deny.so"));
        world.service("other", &deny.join("\n"));
        for key in ["ca", "other_ca", "alice", "bob"] {
            world.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", &at(key)]);
        }
        for (ca_file, key) in [("cas", "ca"), ("other_cas", "other_ca")] {
            fs::copy(at(&format!("{key}.pub")), at(ca_file)).unwrap();
        }
        if sanitizer::is_demanded() {
            world.c_module("identity");
            world.sanitizer = Some(Sanitizer::new(&library));
        }
        world
    }

    /// A service whose stack is these lines; `MODULE` stands for ours.
    pub fn service(&self, name: &str, lines: &str) {
        fs::write(at(name), lines.replace("MODULE", &at("pam_ussh.so")) + "\n").unwrap();
    }

    /// A module in C that lies beside this file, built. Gives its path.
    pub fn c_module(&self, name: &str) -> String {
        self.compile(&format!("{name}.c"), &format!("{name}.so"), &["-shared", "-fPIC"])
    }

    /// The same, built for the sanitizer.
    pub fn sanitized_c_module(&self, name: &str) -> String {
        let options = ["-shared", "-fPIC", "-fsanitize=address"];
        self.compile(&format!("{name}.c"), &format!("{name}.so"), &options)
    }

    /// A set-uid program, likewise.
    pub fn c_program(&self, name: &str) -> String {
        let program = self.compile(&format!("{name}.c"), name, &[]);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        program
    }

    fn compile(&self, source: &str, target: &str, options: &[&str]) -> String {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stack").join(source);
        let target = at(target);
        let arguments = ["-Wall", "-Wextra", "-Werror", "-o", &target, source.to_str().unwrap(), "-lpam"];
        self.run("cc", &[options, &arguments].concat());
        target
    }

    /// Signs alice's key; the certificate lies beside a copy of the key. Gives the path of that key.
    pub fn certificate(&self, ca: &str, options: &[&str]) -> String {
        self.certificate_for(ca, "alice", options)
    }

    /// The same with another key ID.
    pub fn certificate_for(&self, ca: &str, key_id: &str, options: &[&str]) -> String {
        let _ = fs::remove_file(at("alice-cert.pub"));
        let ca = at(ca);
        let public = at("alice.pub");
        let mut arguments = vec!["-q", "-s", &ca, "-I", key_id];
        arguments.extend(options);
        arguments.push(&public);
        self.run("ssh-keygen", &arguments);
        at("alice")
    }

    pub fn certificate_line(&self) -> String {
        let text = fs::read_to_string(at("alice-cert.pub")).unwrap();
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        format!("publickey {}", words.join(" "))
    }

    /// Calls PAM as `uid` through a set-uid program, as sudo would be. `environment`: of the process.
    pub fn pam<A: AsRef<OsStr>>(&self, uid: u32, environment: &[(&str, &str)], arguments: &[A]) -> Outcome {
        self.logged();
        let Output { status, stdout, stderr } = self.call(uid, environment, &at("pamtester"), arguments);
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        Outcome { success: status.success(), text, log: self.logged() }
    }

    /// Runs one of the world's set-uid programs as `uid` to its end.
    #[track_caller]
    pub fn call<A: AsRef<OsStr>>(
        &self,
        uid: u32,
        environment: &[(&str, &str)],
        program: &str,
        arguments: &[A],
    ) -> Output {
        let mut command = self.set_uid(uid, program, arguments);
        command.envs(environment.iter().copied());
        let output = self.reading_the_log(|| command.output().unwrap());
        if self.sanitizer.is_some() {
            let reports = sanitizer::reports();
            let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
            assert!(reports.is_empty(), "{arguments:?} {output:?}\n{}", sanitizer::legible(&reports, &mut command));
        }
        output
    }

    /// One of the world's set-uid programs, as `uid` has it, with nothing in its environment that could be for the module.
    pub fn set_uid<A: AsRef<OsStr>>(&self, uid: u32, program: &str, arguments: &[A]) -> Command {
        let mut command = match &self.sanitizer {
            Some(sanitizer) => sanitizer.host(uid, program, arguments),
            None => {
                let id = uid.to_string();
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", program]).args(arguments).env_clear();
                command
            }
        };
        command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command
    }

    pub fn is_sanitized(&self) -> bool {
        self.sanitizer.is_some()
    }

    pub fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect(program);
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A socket in a folder of somebody's, at which that person listens: who that is the kernel notes at listen().
    pub fn listen_as(&self, name: &str, uid: u32) -> (UnixListener, PathBuf) {
        let socket = folder_of(name, uid).join("s");
        seteuid(Uid::from_raw(uid)).unwrap();
        let listener = UnixListener::bind(&socket);
        seteuid(Uid::from_raw(0)).unwrap();
        (listener.unwrap(), socket)
    }

    /// Starts an agent of somebody's in a folder of that person's own.
    pub fn agent(&self, name: &str, uid: u32) -> Agent {
        let socket = folder_of(name, uid).join("s");
        let mut process = as_uid(uid, "ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It prints where it listens once it does.
        let mut first = [0u8; 1];
        std::io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut first).unwrap();
        Agent { process, socket, uid }
    }

    /// The lines of ours that have come to the log since it was looked at last.
    pub fn logged(&self) -> Vec<String> {
        self.reading_the_log(|| ());
        let lines = self.lines.take();
        let ours =
            lines.iter().filter_map(|line| Some(line.split_once("pam_ussh[")?.1.split_once("]: ")?.1.to_owned()));
        ours.collect()
    }

    /// Reads the log while `work` goes on: its queue holds some ten lines, and who has more to say waits for room.
    fn reading_the_log<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                // Nobody else writes an empty line. It ends the reading when `work` has panicked, too.
                let done = catch_unwind(AssertUnwindSafe(work));
                UnixDatagram::unbound().unwrap().send_to(b"", LOG).unwrap();
                done
            });
            let mut buffer = [0u8; 4096];
            loop {
                match self.log.recv(&mut buffer).unwrap() {
                    0 => break,
                    length => {
                        self.lines.borrow_mut().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                    }
                }
            }
            worker.join().unwrap().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl Agent {
    /// ssh-add in its owner's name: the key, and the certificate that lies beside it.
    pub fn add(&self, key: &str) {
        // ssh-add reads keys of its user's own only.
        let folder = self.socket.parent().unwrap();
        for file in ["", ".pub", "-cert.pub"] {
            if let Ok(data) = fs::read(format!("{key}{file}")) {
                let copy = folder.join(format!("key{file}"));
                fs::write(&copy, data).unwrap();
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
                chown(&copy, Some(self.uid), Some(self.uid)).unwrap();
            }
        }
        let status = as_uid(self.uid, "ssh-add")
            .arg("-q")
            .arg(folder.join("key"))
            .env("SSH_AUTH_SOCK", &self.socket)
            .status()
            .unwrap();
        assert!(status.success());
        for file in ["key", "key.pub", "key-cert.pub"] {
            let _ = fs::remove_file(folder.join(file));
        }
    }

    pub fn empty(&self) {
        let status =
            as_uid(self.uid, "ssh-add").args(["-q", "-D"]).env("SSH_AUTH_SOCK", &self.socket).status().unwrap();
        assert!(status.success());
    }

    /// SIGSTOP: it is there, and does not answer.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A path below [`TOP`].
pub fn at(name: &str) -> String {
    format!("{TOP}/{name}")
}

fn folder_of(name: &str, uid: u32) -> PathBuf {
    let folder = PathBuf::from(at(&format!("agent-{name}")));
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(uid), Some(uid)).unwrap();
    folder
}

fn as_uid(uid: u32, program: &str) -> Command {
    let id = uid.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", program])
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::null());
    command
}

fn tmpfs(on: &str) {
    mount(Some("tmpfs"), on, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
}

fn bind(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let none: Option<&str> = None;
    mount(Some(from.as_ref()), to.as_ref(), none, MsFlags::MS_BIND, none).unwrap();
}

/// Cargo puts the library beside the tests that it builds it for.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join("libpam_ussh.so")
}
