//! The desk: how the CA is, for `usshca status` (a Unix socket beside the admin socket: one JSON object, then the end) and for Prometheus (HTTP on a Unix socket or a loopback
//! address).
//!
//! Whoever asks gets an answer at once or none: nothing here waits, nobody holds the loop up, and there are never more than [`MAX_CLIENTS`] of them. An HTTP server as a crate
//! would bring threads or a runtime, which this process must not have.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use serde::Deserialize;

use crate::serve::counters::Report;
use crate::serve::{exposition, own_socket};

/// Scrapers at a time. One more takes the place of the one that has been there for longest.
const MAX_CLIENTS: usize = 8;
/// Connections accepted in one go.
const ACCEPT_BATCH: usize = 16;
/// Longest request, in bytes.
const MAX_REQUEST: usize = 8 * 1024;
/// How long a scraper may take from its connection to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nobody is let in when there were no descriptors for one.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);
/// Mode of the status socket: as the admin socket's.
const STATUS_MODE: u32 = 0o600;
/// Mode of the metrics socket: whoever gets into its folder. There are no secrets in it, and the scraper has an account of its own.
const METRICS_MODE: u32 = 0o666;

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum MetricsAddress {
    /// A Unix socket.
    Path(PathBuf),
    /// A loopback address.
    Loopback(SocketAddr),
}

impl TryFrom<String> for MetricsAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.starts_with('/') {
            return Ok(MetricsAddress::Path(PathBuf::from(text)));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(MetricsAddress::Loopback(address)),
            Ok(_) => Err("must be a loopback address: metrics have no login of their own".to_owned()),
            Err(_) => Err("must be an absolute path, or a loopback address as 127.0.0.1:9122".to_owned()),
        }
    }
}

/// A listening socket for metrics.
#[derive(Debug)]
pub enum MetricsListener {
    /// On a path.
    Unix(UnixListener),
    /// On loopback.
    Tcp(TcpListener),
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

#[derive(Debug)]
struct Client {
    stream: Stream,
    request: Vec<u8>,
    /// Empty until the request is complete.
    answer: Vec<u8>,
    /// Bytes of it that are sent.
    sent: usize,
    deadline: Instant,
}

/// Who is asked, and who asks.
#[derive(Debug)]
pub struct Desk {
    status: UnixListener,
    metrics: Option<MetricsListener>,
    clients: Vec<Client>,
    /// Nobody is let in before: there were no descriptors.
    deaf_until: Option<Instant>,
}

impl Desk {
    /// Listens for both.
    /// # Errors
    /// Which address it cannot listen on, and why.
    pub fn open(
        status: &Path,
        metrics: Option<&MetricsAddress>,
        activated: Option<MetricsListener>,
    ) -> Result<Self, (String, io::Error)> {
        let failed = |what: String| move |e| (what, e);
        let listener = own_socket::listen(status, STATUS_MODE).map_err(failed(status.display().to_string()))?;
        let metrics = match (activated, metrics) {
            (Some(listener), _) => Some(listener),
            (None, Some(MetricsAddress::Path(path))) => {
                let listener =
                    own_socket::demand_own_folder(path).and_then(|()| own_socket::listen(path, METRICS_MODE));
                let listener = listener.map_err(failed(path.display().to_string()))?;
                Some(MetricsListener::Unix(listener))
            }
            (None, Some(MetricsAddress::Loopback(address))) => {
                let bound = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
                Some(MetricsListener::Tcp(bound.map_err(failed(address.to_string()))?))
            }
            (None, None) => None,
        };
        Ok(Desk { status: listener, metrics, clients: Vec::new(), deaf_until: None })
    }

    /// On a socket that is there: whoever binds one here changes the umask, for folders of other tests as well.
    #[cfg(test)]
    pub fn of(status: UnixListener) -> Self {
        Desk { status, metrics: None, clients: Vec::new(), deaf_until: None }
    }

    /// What to wait for.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listeners = [Some(self.status.as_fd()), self.metrics.as_ref().map(AsFd::as_fd)].into_iter().flatten();
        let listeners = listeners.filter(|_| self.deaf_until.is_none());
        let clients = self
            .clients
            .iter()
            .map(|c| (c.stream.as_fd(), if c.answer.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLOUT }));
        listeners.map(|fd| (fd, PollFlags::POLLIN)).chain(clients)
    }

    /// When a scraper is late, or somebody may be let in again.
    pub fn next_instant(&self) -> Option<Instant> {
        self.clients.iter().map(|c| c.deadline).chain(self.deaf_until).min()
    }

    /// Whether one of the descriptors on which something has happened is ours, or a scraper is late.
    pub fn has_to_do(&self, happened: &[RawFd], now: Instant) -> bool {
        let mut fds = self.descriptors().map(|(fd, _)| fd.as_raw_fd());
        fds.any(|fd| happened.contains(&fd)) || self.next_instant().is_some_and(|at| now >= at)
    }

    /// Answers whoever can be answered.
    pub fn serve(&mut self, report: &Report, now: Instant) {
        self.deaf_until = self.deaf_until.filter(|until| now < *until);
        if self.deaf_until.is_none() && !self.let_in(report, now) {
            self.deaf_until = Some(now + SHORTAGE_PAUSE);
        }
        // Made once, however many ask.
        let mut page = None;
        self.clients.retain_mut(|client| {
            let page = || page.get_or_insert_with(|| exposition::page(report)).clone();
            now < client.deadline && client.go_on(page)
        });
    }
}

impl Desk {
    /// False: there are no descriptors.
    fn let_in(&mut self, report: &Report, now: Instant) -> bool {
        // So many in one go, and no more: whoever connects without end would keep the loop from everything else.
        for _ in 0..ACCEPT_BATCH {
            match self.status.accept() {
                Ok((stream, _)) => tell_status(stream, report),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        for _ in 0..ACCEPT_BATCH {
            let Some(listener) = &self.metrics else { break };
            match accept(listener) {
                Ok(stream) => {
                    if self.clients.len() >= MAX_CLIENTS {
                        self.clients.remove(0);
                    }
                    let deadline = now + PATIENCE;
                    self.clients.push(Client { stream, request: Vec::new(), answer: Vec::new(), sent: 0, deadline });
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        true
    }
}

/// It fits into the socket's empty buffer.
fn tell_status(mut stream: UnixStream, report: &Report) {
    let Ok(mut text) = serde_json::to_vec(report) else { return };
    text.push(b'\n');
    // One who does not wait for it is nobody's concern.
    let _ = stream.set_nonblocking(true);
    let _ = stream.write_all(&text);
}

fn accept(listener: &MetricsListener) -> io::Result<Stream> {
    match listener {
        MetricsListener::Unix(listener) => {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            Ok(Stream::Unix(stream))
        }
        MetricsListener::Tcp(listener) => {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            Ok(Stream::Tcp(stream))
        }
    }
}

impl Client {
    /// False: it is done, or gone.
    fn go_on(&mut self, page: impl FnOnce() -> String) -> bool {
        if self.answer.is_empty() {
            let mut buffer = [0; 1024];
            loop {
                match self.stream.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(n) => self.request.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return false,
                }
                if self.request.len() > MAX_REQUEST {
                    return false;
                }
            }
            match asked(&self.request) {
                Asked::NotYet => return true,
                Asked::Metrics => self.answer = exposition::answer("200 OK", &page()),
                Asked::SomethingElse => self.answer = exposition::answer("404 Not Found", "try /metrics\n"),
            }
        }
        while let Some(rest) = self.answer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return false,
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    NotYet,
    Metrics,
    SomethingElse,
}

/// The request line (RFC 9112 §3); headers change nothing.
fn asked(request: &[u8]) -> Asked {
    if !request.windows(4).any(|end| end == b"\r\n\r\n") {
        return Asked::NotYet;
    }
    let line = request.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ');
    match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics" | b"/")) => Asked::Metrics,
        (Some(b"GET"), Some(target)) if target.starts_with(b"/metrics?") => Asked::Metrics,
        _ => Asked::SomethingElse,
    }
}

impl AsFd for MetricsListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            MetricsListener::Unix(l) => l.as_fd(),
            MetricsListener::Tcp(l) => l.as_fd(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(s) => s.as_fd(),
            Stream::Tcp(s) => s.as_fd(),
        }
    }
}

impl Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(s) => s.read(buffer),
            Stream::Tcp(s) => s.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(s) => s.write(bytes),
            Stream::Tcp(s) => s.write(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::serve::exposition::tests::report;

    fn desk() -> (tempfile::TempDir, Desk, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.sock");
        let address = MetricsAddress::Path(path.clone());
        let desk = Desk::open(&folder.path().join("status.sock"), Some(&address), None).unwrap();
        (folder, desk, path)
    }

    fn ask(path: &Path, request: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request).unwrap();
        stream
    }

    fn answer(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_scraper_gets_metrics_and_anything_else_is_not_found() {
        let (_folder, mut desk, path) = desk();
        let now = Instant::now();
        let good = ask(&path, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let bad = ask(&path, b"POST /metrics HTTP/1.1\r\n\r\n");
        let slow = ask(&path, b"GET /metrics HTTP/1.1\r\n");
        desk.serve(&report(), now);
        assert!(answer(good).starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(answer(bad).starts_with("HTTP/1.1 404 Not Found\r\n"));
        assert_eq!(desk.clients.len(), 1);
        // It is not waited for without end.
        assert_eq!(desk.next_instant(), Some(now + PATIENCE));
        desk.serve(&report(), now + PATIENCE);
        assert_eq!(answer(slow), "");
        assert!(desk.clients.is_empty());
    }

    #[test]
    fn scrapers_that_never_ask_take_the_place_of_nobody_who_does() {
        let (_folder, mut desk, path) = desk();
        let silent: Vec<UnixStream> = (0..100).map(|_| ask(&path, b"G")).collect();
        let now = Instant::now();
        desk.serve(&report(), now);
        let waiting = ask(&path, b"GET /metrics HTTP/1.1\r\n\r\n");
        assert_eq!(desk.clients.len(), MAX_CLIENTS);
        // So many in one go: the loop has other things to do.
        desk.serve(&report(), now);
        waiting.set_nonblocking(true).unwrap();
        assert_eq!((&waiting).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        for _ in 0..100_usize.div_ceil(ACCEPT_BATCH) {
            desk.serve(&report(), now);
        }
        waiting.set_nonblocking(false).unwrap();
        assert!(answer(waiting).contains("usshca_connections"));
        let good = ask(&path, b"GET /metrics HTTP/1.1\r\n\r\n");
        desk.serve(&report(), now);
        assert!(answer(good).contains("usshca_connections"));
        let endless = ask(&path, &[b'x'; MAX_REQUEST + 1]);
        desk.serve(&report(), now);
        drop(endless);
        assert!(desk.clients.iter().all(|c| c.request.len() <= 1));
        drop(silent);
    }

    #[test]
    fn one_that_reads_nothing_holds_nobody_up() {
        let (_folder, mut desk, path) = desk();
        let deaf = ask(&path, b"GET /metrics HTTP/1.1\r\n\r\n");
        let mut large = report();
        // More than a socket takes.
        large.listening = vec!["x".repeat(100); 100_000];
        large.last_error = Some("x".repeat(1 << 20));
        let now = Instant::now();
        desk.serve(&large, now);
        desk.serve(&large, now + PATIENCE);
        assert!(desk.clients.is_empty());
        drop(deaf);
    }

    #[test]
    fn the_status_is_one_json_object_for_its_owner_alone() {
        let (folder, mut desk, _) = desk();
        let path = folder.path().join("status.sock");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, STATUS_MODE);
        let stream = UnixStream::connect(path).unwrap();
        desk.serve(&report(), Instant::now());
        assert_eq!(serde_json::from_str::<Report>(&answer(stream)).unwrap(), report());
    }

    #[test]
    fn metrics_are_not_served_in_a_folder_that_others_write_to() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let address = MetricsAddress::Path(open.join("metrics.sock"));
        let (what, e) = Desk::open(&folder.path().join("status.sock"), Some(&address), None).unwrap_err();
        assert!(what.ends_with("open/metrics.sock") && e.to_string().contains("others can write to"), "{what}: {e}");
        assert!(!open.join("metrics.sock").exists());
    }

    #[test]
    fn only_loopback_addresses_and_absolute_paths_are_places_for_metrics() {
        let of = |text: &str| MetricsAddress::try_from(text.to_owned());
        assert!(of("/run/usshca/metrics.sock").is_ok() && of("127.0.0.1:9122").is_ok() && of("[::1]:9122").is_ok());
        assert!(of("10.0.0.1:9122").is_err() && of("metrics.sock").is_err() && of("localhost:9122").is_err());
    }
}
