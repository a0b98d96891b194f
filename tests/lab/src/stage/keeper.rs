//! The keeper: outside of the lab, the one that cleans up.
//!
//! Input: a channel to the test, of which it only watches that it is open; lab init does the talking.
//! When the test is gone, or lab init is, or a signal says so, it kills lab init, and with it all of the lab, waits until
//! the last process is gone and removes the cgroup folders. Its mounts are in a mount namespace of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use rustix::event::PollFlags;
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::cgroup::{self, LabFolder};
use crate::error::{Doing, LabError, Result};
use crate::wire::{Channel, LabReply, MARK};

pub(super) fn run() -> Result<()> {
    // A signal for the test's process group, Ctrl-C for one, must not take the one that cleans up.
    rustix::process::setsid().doing("starting a session")?;
    rustix::process::chdir("/").doing("leaving the test's folder")?;
    let signals = super::signals(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD])?;
    let test = Channel::from_stdin().doing("opening the channel to the test")?;
    let outcome = keep(&test, &signals);
    if let Err(error) = &outcome {
        // If the test is gone, nobody is left to be told.
        let _ = test.send(&LabReply::Failed(error.to_string()), &[]);
    }
    outcome
}

fn keep(test: &Channel, signals: &nix::sys::signalfd::SignalFd) -> Result<()> {
    let id = std::env::var(MARK).map_err(|_| LabError::setup("started without an identifier"))?;
    see_cgroups()?;
    let folder = LabFolder::create(&id)?;
    // Its other end tells lab init, by closing, that even the keeper was killed.
    let (link, link_of_init) = Channel::pair().doing("making a channel")?;
    let outcome = start_init(test, link_of_init).and_then(|mut init| {
        let outcome = watch(test, signals, &mut init);
        init.kill().doing("ending lab init")?;
        // Returns when every process of the lab is gone: lab init is the first of its pid namespace.
        init.wait().doing("waiting for lab init")?;
        outcome
    });
    drop(link);
    outcome.and(folder.remove().doing("removing the lab's cgroup"))
}

/// A mount namespace with the cgroup v2 tree at a known place. The machine may have it anywhere, or not at all.
fn see_cgroups() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).doing("making a mount namespace")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing("making mounts private")?;
    rustix::mount::mount("cgroup2", cgroup::MOUNT, "cgroup2", MountFlags::empty(), None)
        .doing("mounting the cgroup v2 tree (is it compiled into the kernel?)")
}

fn start_init(test: &Channel, link: Channel) -> Result<Child> {
    let test = test.as_fd().try_clone_to_owned().doing("copying the channel to the test")?;
    unshare(CloneFlags::CLONE_NEWPID).doing("making a pid namespace")?;
    super::helper("lab-init")
        .stdin(Stdio::from(test))
        .stdout(Stdio::from(OwnedFd::from(link)))
        .spawn()
        .doing("starting lab init")
}

/// Returns when it is time to go.
fn watch(test: &Channel, signals: &nix::sys::signalfd::SignalFd, init: &mut Child) -> Result<()> {
    loop {
        let events = super::wait_for_any(&[(test, false), (signals, true)])?;
        if events.first().is_some_and(|events| !events.is_empty()) {
            return Ok(());
        }
        if events.get(1).is_some_and(|events| events.contains(PollFlags::IN)) {
            while let Ok(Some(signal)) = signals.read_signal() {
                if signal.ssi_signo != Signal::SIGCHLD as u32 {
                    return Ok(());
                }
            }
            if let Some(status) = init.try_wait().doing("asking for lab init")? {
                return Err(LabError::setup(format!("lab init ended: {status}")));
            }
        }
    }
}
