//! Host init: the first process of a host. Makes the host's namespaces and root, then runs what the test asks for.
//!
//! Input: lab init's instructions, then the test's requests, both trusted; syslog datagrams, untrusted.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use rustix::thread::CapabilitySet;

use super::syslog::Syslog;
use super::{cgroup, host_root, network};
use crate::error::{Doing, LabError, Result};
use crate::wire::{Channel, Handshake, HostSpec, MARK, RunControl, RunReply, RunRequest, Status};

/// Capabilities over the whole machine, which nothing in a host has.
const WITHHELD: [CapabilitySet; 6] = [
    CapabilitySet::SYS_TIME,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::MKNOD,
    CapabilitySet::SYSLOG,
];

/// Size of a new terminal.
const TERMINAL: Winsize = Winsize { ws_row: 24, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };

/// A command of the test that has not ended.
struct Job {
    process: Pid,
    channel: Channel,
}

pub(super) fn run() -> Result<()> {
    let lab = Channel::from_stdin().doing("opening the channel to lab init")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .doing("asking to die with lab init")?;
    let made = make(&lab);
    match made {
        Ok((requests, log)) => {
            let root =
                rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing("opening the root")?;
            lab.send(&Handshake::Up, &[root.as_fd()]).doing("answering lab init")?;
            drop((lab, root));
            serve(&requests, log)
        }
        Err(error) => {
            let _ = lab.send(&Handshake::Failed(error.to_string()), &[]);
            Err(error)
        }
    }
}

fn make(lab: &Channel) -> Result<(Channel, Syslog)> {
    let Some((Handshake::Make(spec), mut descriptors)) = lab.receive().doing("hearing from lab init")? else {
        return Err(LabError::setup("no instructions from lab init"));
    };
    let (Some(log), Some(requests)) = (descriptors.pop(), descriptors.pop()) else {
        return Err(LabError::setup("lab init passed too few descriptors"));
    };
    enter_namespaces(&spec)?;
    lab.send(&Handshake::Namespaced, &[]).doing("answering lab init")?;
    let Some((Handshake::Linked, _)) = lab.receive().doing("hearing from lab init")? else {
        return Err(LabError::setup("no network link from lab init"));
    };
    network::configure_host(spec.address)?;
    host_root::enter(&spec)?;
    for capability in WITHHELD {
        rustix::thread::remove_capability_from_bounding_set(capability).doing("giving up a capability")?;
    }
    // One byte: no core file, and none to a collector outside of the host either (core(5)).
    setrlimit(Resource::RLIMIT_CORE, 1, RLIM_INFINITY).doing("forbidding core files")?;
    Ok((Channel::from(requests), Syslog::open(log)?))
}

fn enter_namespaces(spec: &HostSpec) -> Result<()> {
    let id = std::env::var(MARK).map_err(|_| LabError::setup("started without an identifier"))?;
    // First: the cgroup namespace takes the folder it is made in as its root.
    cgroup::enter(&cgroup::folder(&id).join(&spec.name))?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .doing("making namespaces")?;
    nix::unistd::sethostname(&spec.name).doing("setting the host name")
}

fn serve(requests: &Channel, mut log: Syslog) -> Result<()> {
    let signals = super::signals(&[Signal::SIGCHLD])?;
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        let mut waited: Vec<(&dyn AsFd, bool)> = vec![(requests, true), (&log, true), (&signals, true)];
        waited.extend(jobs.iter().map(|job| (&job.channel as &dyn AsFd, true)));
        let events = super::wait_for_any(&waited)?;
        drop(waited);
        let mut events = events.into_iter();
        let (asked, logged) = (events.next(), events.next());
        events.next();
        let addressed: Vec<bool> = events.map(|events| !events.is_empty()).collect();

        if logged.is_some_and(|events| events.contains(PollFlags::IN)) {
            log.collect();
        }
        let mut heard = addressed.into_iter();
        jobs.retain(|job| !heard.next().unwrap_or(false) || job.obey());
        while let Ok(Some(_)) = signals.read_signal() {}
        reap(&mut jobs);
        if asked.is_some_and(|events| !events.is_empty()) {
            let Some((request, descriptors)) = requests.receive().doing("reading a request")? else {
                return Ok(());
            };
            jobs.extend(start(request, descriptors));
        }
    }
}

impl Job {
    /// Does what the test says about the command; whether there may be more to say.
    fn obey(&self) -> bool {
        match self.channel.receive() {
            Ok(Some((RunControl::Signal(number), _))) => {
                if let Ok(signal) = Signal::try_from(number) {
                    self.signal(signal);
                }
                let _ = self.channel.send(&RunReply::Signalled, &[]);
                true
            }
            // The test has lost interest.
            Ok(None) | Err(_) => {
                self.signal(Signal::SIGKILL);
                false
            }
        }
    }

    /// To its process group, or, before it has one, to the process. Not reaped yet: the number is still its own.
    fn signal(&self, signal: Signal) {
        if killpg(self.process, signal).is_err() {
            let _ = kill(self.process, signal);
        }
    }
}

/// Reaps whatever has ended, orphans too, and tells the test of its commands.
fn reap(jobs: &mut Vec<Job>) {
    loop {
        let (process, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(process, code)) => (process, Status::Exited(code)),
            Ok(WaitStatus::Signaled(process, signal, _)) => (process, Status::Signaled(signal as i32)),
            Ok(_) | Err(_) => return,
        };
        if let Some(at) = jobs.iter().position(|job| job.process == process) {
            let _ = jobs.swap_remove(at).channel.send(&RunReply::Ended(status), &[]);
        }
    }
}

/// Starts a command; its job, if it runs.
fn start(request: RunRequest, descriptors: Vec<OwnedFd>) -> Option<Job> {
    let mut descriptors = descriptors.into_iter();
    let channel = Channel::from(descriptors.next()?);
    let started = if request.terminal { start_on_terminal(&request) } else { start_on(&request, descriptors) };
    match started {
        Ok((process, master)) => {
            let beside: Vec<_> = master.iter().map(AsFd::as_fd).collect();
            // If this fails the test is gone, and the closed channel says so next.
            let _ = channel.send(&RunReply::Started(process.as_raw()), &beside);
            Some(Job { process, channel })
        }
        Err(error) => {
            let _ = channel.send(&RunReply::Failed(error.to_string()), &[]);
            None
        }
    }
}

fn start_on(request: &RunRequest, mut descriptors: impl Iterator<Item = OwnedFd>) -> Result<(Pid, Option<OwnedFd>)> {
    let (Some(stdin), Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next(), descriptors.next()) else {
        return Err(LabError::setup("too few descriptors for a command"));
    };
    Ok((spawn(request, stdin, stdout, stderr)?, None))
}

fn start_on_terminal(request: &RunRequest) -> Result<(Pid, Option<OwnedFd>)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .doing("opening a terminal")?;
    rustix::pty::unlockpt(&master).doing("unlocking a terminal")?;
    rustix::termios::tcsetwinsize(&master, TERMINAL).doing("sizing a terminal")?;
    let name = rustix::pty::ptsname(&master, Vec::new()).doing("naming a terminal")?;
    let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .doing("opening a terminal")?;
    let slave = File::from(slave);
    let copy = || slave.try_clone().map(OwnedFd::from).doing("copying a descriptor");
    let process = spawn(request, copy()?, copy()?, copy()?)?;
    Ok((process, Some(master)))
}

fn spawn(request: &RunRequest, stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> Result<Pid> {
    let mut command = super::helper("exec-as");
    command
        .args([&request.user, request.cwd.as_deref().unwrap_or("")])
        .args(&request.argv)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == MARK))
        .envs(&request.env)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    let child = command.spawn().doing("starting a command")?;
    let process = i32::try_from(child.id()).map_err(|_| LabError::setup("process ID out of range"))?;
    Ok(Pid::from_raw(process))
}
