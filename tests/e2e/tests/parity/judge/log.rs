//! Room in the log.

use std::os::unix::net::UnixDatagram;

use rustix::event::{PollFd, PollFlags, poll};

/// pam_ussh does not wait for a log that is busy, and its line would be lost: so there must be room for one before it is called.
pub fn wait_for_room() {
    let log = UnixDatagram::unbound().unwrap();
    log.connect("/dev/log").unwrap();
    let mut wanted = [PollFd::new(&log, PollFlags::OUT)];
    poll(&mut wanted, None).unwrap();
}
