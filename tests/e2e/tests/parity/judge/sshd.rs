//! The host's sshd, one run per row (`sshd -i`): its own configuration, its own log, no row in another's way.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::client;
use crate::job::{Job, Judged, folder};

/// Longest time for one packet.
const SOON: Duration = Duration::from_secs(30);

/// Loopback, both kinds: sshd asks its socket who is at the other end.
pub struct Sshd {
    ipv4: TcpListener,
    ipv6: TcpListener,
}

impl Sshd {
    pub fn new() -> Self {
        Sshd { ipv4: TcpListener::bind("127.0.0.1:0").unwrap(), ipv6: TcpListener::bind("[::1]:0").unwrap() }
    }

    pub fn judge(&self, job: &Job, certificate: &[u8]) -> Judged {
        let listener = if job.ipv6 { &self.ipv6 } else { &self.ipv4 };
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.set_nodelay(true).unwrap();
        let server = OwnedFd::from(listener.accept().unwrap().0);
        let config = format!("{}/sshd_config", folder(job.number));
        let mut sshd = Command::new("/usr/sbin/sshd")
            .args(["-i", "-e", "-f", &config])
            .stdin(server.try_clone().unwrap())
            .stdout(server)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = sshd.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut log = Vec::new();
            stderr.read_to_end(&mut log).unwrap();
            String::from_utf8_lossy(&log).into_owned()
        });
        let result = client::log_in(client, certificate, &job.key);
        let mut log = reader.join().unwrap();
        sshd.wait().unwrap();
        let accepted = result.unwrap_or_else(|error| {
            log += &format!("client: {error}\n");
            false
        });
        Judged { number: job.number, accepted, log, real_agent: false }
    }
}
