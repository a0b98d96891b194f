//! The processes of a lab. Each is the helper program `ussh-lab`, started anew: a test is full of threads and must not fork.
//!
//! ```text
//! test ── keeper ────────── lab init ───────────── host init ── a command of the test
//!         own mount view    pid 1, the bridge      pid 1, one host
//! ```
//!
//! All run as root. Each holds a socket whose other end only its maker has and goes when that end closes, and the
//! death of a pid 1 ends everything in its namespace. So nothing outlives the test, however it ends: namespaces, mounts
//! and links have no other holder, and the keeper, which is outside, removes the cgroup folders when all else is gone.

mod cgroup;
mod exec_as;
mod host_init;
mod host_root;
mod keeper;
mod lab_init;
mod network;
mod syslog;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::error::{Doing, LabError, Result};

/// The helper program under its own magic link: it works whatever is mounted over the path it was started from.
const SELF: &str = "/proc/self/exe";

/// Names of the lab's own processes.
const STAGES: [&str; 4] = ["keeper", "lab-init", "host-init", "exec-as"];

/// Runs one of the lab's own processes, if the program was called as one.
#[doc(hidden)]
pub fn run(arguments: &[OsString]) -> Option<ExitCode> {
    let (stage, rest) = arguments.split_first()?;
    if !STAGES.iter().any(|known| stage == known) {
        return None;
    }
    // Started by a magic link, it would be called "exe" in process lists. Without a better name it runs as well.
    let _ = rustix::thread::set_name(c"ussh-lab");
    // A child has the signals blocked that its maker has, and std does not change that.
    let unblocked = SigSet::empty().thread_set_mask().doing("unblocking signals");
    let outcome = unblocked.and_then(|()| match stage.to_str() {
        Some("keeper") => keeper::run(),
        Some("lab-init") => lab_init::run(),
        Some("host-init") => host_init::run(),
        Some("exec-as") => exec_as::run(rest),
        _ => Err(LabError::setup("is no process of a lab")),
    });
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ussh-lab {}: {error}", stage.display());
            ExitCode::from(127)
        }
    })
}

/// The helper program as one of the lab's own processes.
fn helper(stage: &str) -> Command {
    let mut command = Command::new(SELF);
    command.arg0("ussh-lab").arg(stage);
    command
}

/// Blocks `signals` and hands them out as something to poll for.
fn signals(signals: &[Signal]) -> Result<nix::sys::signalfd::SignalFd> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block().doing("blocking signals")?;
    let descriptor = nix::sys::signalfd::SignalFd::new(&set).doing("making a signal descriptor")?;
    let flags = fcntl_getfl(descriptor.as_fd()).doing("reading descriptor flags")?;
    fcntl_setfl(descriptor.as_fd(), flags | OFlags::NONBLOCK).doing("setting descriptor flags")?;
    Ok(descriptor)
}

/// Waits until one of `descriptors` has ended or, where the flag says so, has something to read. Their events, in order.
fn wait_for_any(descriptors: &[(&dyn AsFd, bool)]) -> Result<Vec<PollFlags>> {
    let borrowed: Vec<_> = descriptors.iter().map(|(descriptor, reading)| (descriptor.as_fd(), *reading)).collect();
    let mut polled: Vec<_> = borrowed
        .iter()
        .map(|(descriptor, reading)| {
            PollFd::from_borrowed_fd(*descriptor, if *reading { PollFlags::IN } else { PollFlags::empty() })
        })
        .collect();
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None)).doing("polling")?;
    Ok(polled.iter().map(PollFd::revents).collect())
}
