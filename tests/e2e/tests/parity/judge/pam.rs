//! pam_ussh in a PAM stack of the row's own, called as the user by pamtester.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};

use super::{agent, log};
use crate::job::{Job, Judged, USER, service};
use crate::wire::Take;

/// Set-uid, as sudo is.
pub const PAMTESTER: &str = "/usr/libexec/parity-pamtester";
/// How long ssh-agent may take to listen.
const SOON: Duration = Duration::from_secs(20);

/// The user's agents: OpenSSH's, and for what that refuses to hold one of our own per row.
pub struct Agents {
    real: Child,
    socket: PathBuf,
}

impl Agents {
    pub fn new() -> Self {
        let socket = PathBuf::from(format!("/home/{USER}/parity-agent.sock"));
        let real = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(started.elapsed() < SOON, "ssh-agent does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Agents { real, socket }
    }

    pub fn judge(&self, job: &Job, certificate: &[u8]) -> Judged {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let real_agent = agent::put_into(&mut stream, certificate, &job.key);
        let accepted = if real_agent { authenticate(job, &self.socket) } else { with_scripted_agent(job, certificate) };
        Judged { number: job.number, accepted, log: String::new(), real_agent }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.real.kill().unwrap();
        self.real.wait().unwrap();
    }
}

fn with_scripted_agent(job: &Job, certificate: &[u8]) -> bool {
    let socket = PathBuf::from(format!("/home/{USER}/{}.sock", service(job.number)));
    let served = agent::serve_one(UnixListener::bind(&socket).unwrap(), certificate, &job.key);
    let accepted = authenticate(job, &socket);
    // A row that goes wrong before the agent is asked leaves it waiting.
    drop(UnixStream::connect(&socket));
    served.join().unwrap();
    std::fs::remove_file(&socket).unwrap();
    accepted
}

fn authenticate(job: &Job, socket: &Path) -> bool {
    pamtester(&["-I", &format!("ruser={USER}"), &service(job.number)], socket)
}

/// The certificate as sshd hands it on in its own stack. There is no agent.
pub fn within_sshd(job: &Job, certificate: &[u8]) -> Judged {
    let name = String::from_utf8_lossy(Take(certificate).string()).trim_end_matches('\0').to_owned();
    let info = format!("SSH_AUTH_INFO_0=publickey {name} {}", Base64::encode_string(certificate));
    std::fs::copy(format!("/etc/pam.d/{}", service(job.number)), "/etc/pam.d/sshd").unwrap();
    // So that the log tells the rows apart.
    let tty = format!("tty={}", service(job.number));
    let accepted = pamtester(&["-E", &info, "-I", &tty, "sshd"], Path::new("/nonexistent"));
    Judged { number: job.number, accepted, log: String::new(), real_agent: false }
}

fn pamtester(arguments: &[&str], socket: &Path) -> bool {
    log::wait_for_room();
    let status = Command::new(PAMTESTER)
        .args(arguments)
        .args([USER, "authenticate"])
        .env("SSH_AUTH_SOCK", socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.unwrap().success()
}
