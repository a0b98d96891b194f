//! What is said to whoever started us: a newline on a descriptor when ready, and sd_notify's datagrams (sd_notify(3)), the watchdog's too.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    ready_fd: Option<OwnedFd>,
    manager: Option<SocketAddr>,
    /// How often it wants to hear that we are alive (half of WATCHDOG_USEC), and when next.
    watchdog: Option<(Duration, Instant)>,
}

impl Notify {
    /// By the environment that it gave us; `ready_fd` gets the newline.
    #[must_use]
    pub fn new(ready_fd: Option<OwnedFd>) -> Self {
        let manager = std::env::var_os("NOTIFY_SOCKET").and_then(|name| address(name.as_bytes()));
        let pid = std::env::var("WATCHDOG_PID").ok();
        let micros = std::env::var("WATCHDOG_USEC").ok();
        let every = watchdog_period(micros.as_deref(), pid.as_deref(), std::process::id());
        Notify { ready_fd, manager, watchdog: every.map(|every| (every, Instant::now())) }
    }

    /// All is there.
    pub fn ready(&mut self) {
        if let Some(descriptor) = self.ready_fd.take() {
            // One who waits no longer is nobody's concern.
            let _ = File::from(descriptor).write_all(b"\n");
        }
        self.say("READY=1");
    }

    /// It reads its configuration again; [`Self::ready`] follows.
    pub fn reloading(&self) {
        self.say("RELOADING=1");
    }

    /// It is about to end.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// When [`Self::alive`] has to be called.
    #[must_use]
    pub fn next_instant(&self) -> Option<Instant> {
        self.watchdog.map(|(_, next)| next)
    }

    /// The loop goes round.
    pub fn alive(&mut self, now: Instant) {
        if let Some((every, next)) = self.watchdog.filter(|(_, next)| now >= *next) {
            self.say("WATCHDOG=1");
            self.watchdog = Some((every, next.max(now) + every));
        }
    }

    fn say(&self, state: &str) {
        if let Some(manager) = &self.manager {
            let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(state.as_bytes(), manager));
        }
    }
}

/// A path, or `@` and a name in the abstract namespace.
fn address(name: &[u8]) -> Option<SocketAddr> {
    match name.split_first() {
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest).ok(),
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)).ok(),
    }
}

/// Half of what the manager waits for (sd_watchdog_enabled(3)), if it is us whom it watches.
fn watchdog_period(micros: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let micros = micros?.parse::<u64>().ok().filter(|micros| *micros > 1)?;
    Some(Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_and_only_if_it_is_ours() {
        let second = Some(Duration::from_millis(500));
        assert_eq!(watchdog_period(Some("1000000"), None, 7), second);
        assert_eq!(watchdog_period(Some("1000000"), Some("7"), 7), second);
        assert_eq!(watchdog_period(Some("1000000"), Some("8"), 7), None);
        assert_eq!(watchdog_period(Some("0"), None, 7), None);
        assert_eq!(watchdog_period(None, None, 7), None);
    }

    #[test]
    fn the_manager_hears_each_state_and_life_no_more_often_than_it_asked() {
        let path = std::env::temp_dir().join(format!("ussh-os-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let hear = || {
            let mut buffer = [0; 256];
            manager.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
        };
        let (start, every) = (Instant::now(), Duration::from_secs(5));
        let manager_address = address(path.as_os_str().as_bytes());
        assert!(manager_address.is_some());
        let mut notify = Notify { ready_fd: None, manager: manager_address, watchdog: Some((every, start)) };
        notify.ready();
        notify.reloading();
        notify.stopping();
        assert_eq!(hear().unwrap(), "READY=1");
        assert_eq!(hear().unwrap(), "RELOADING=1");
        assert_eq!(hear().unwrap(), "STOPPING=1");
        for (at, alive) in [(0, true), (1, false), (5, true), (9, false), (30, true), (34, false), (35, true)] {
            notify.alive(start + Duration::from_secs(at));
            assert_eq!(hear().is_some(), alive, "{at}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
