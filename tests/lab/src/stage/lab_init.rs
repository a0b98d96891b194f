//! Lab init: the first process of the lab's pid namespace, holder of its network namespace, maker of its hosts.
//!
//! Input: the test's channel (stdin) and the keeper's link (stdout); trusted, both are root's.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

use super::{cgroup, network};
use crate::error::{Doing, LabError, Result};
use crate::wire::{Channel, Handshake, HostSpec, LabReply, LabRequest, MARK, SOURCES};

/// A host that is up, or was until its init died.
struct LiveHost {
    init: Child,
    /// Number of its link.
    number: u32,
}

struct Lab {
    id: String,
    hosts: BTreeMap<String, LiveHost>,
    /// Of links ever made: the kernel takes its time to remove one, so no name is used again.
    links: u32,
    own_pids: File,
}

pub(super) fn run() -> Result<()> {
    let test = Channel::from_stdin().doing("opening the channel to the test")?;
    let outcome = serve(&test);
    if let Err(error) = &outcome {
        let _ = test.send(&LabReply::Failed(error.to_string()), &[]);
    }
    outcome
}

fn serve(test: &Channel) -> Result<()> {
    let keeper = std::io::stdout().as_fd().try_clone_to_owned().doing("opening the link to the keeper")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .doing("asking to die with the keeper")?;
    let id = std::env::var(MARK).map_err(|_| LabError::setup("started without an identifier"))?;
    cgroup::enter(&cgroup::folder(&id))?;
    unshare(CloneFlags::CLONE_NEWNET).doing("making a network namespace")?;
    network::make_bridge()?;
    let own_pids = File::open("/proc/self/ns/pid").doing("opening the lab's pid namespace")?;
    let mut lab = Lab { id, hosts: BTreeMap::new(), links: 0, own_pids };
    test.send(&LabReply::Up(SOURCES.to_owned()), &[]).doing("answering the test")?;
    loop {
        let events = super::wait_for_any(&[(test, true), (&keeper, false)])?;
        if events.get(1).is_some_and(|events| !events.is_empty()) {
            return Ok(());
        }
        if events.first().is_some_and(|events| !events.is_empty()) {
            let Some((request, descriptors)) = test.receive().doing("reading the test's request")? else {
                return Ok(());
            };
            let (reply, root) = lab.answer(request, descriptors);
            let beside: Vec<_> = root.iter().map(AsFd::as_fd).collect();
            test.send(&reply, &beside).doing("answering the test")?;
        }
    }
}

impl Lab {
    fn answer(&mut self, request: LabRequest, descriptors: Vec<OwnedFd>) -> (LabReply, Option<OwnedFd>) {
        let outcome = match request {
            LabRequest::AddHost(spec) => self.add_host(&spec, descriptors).map(|root| (LabReply::HostUp, Some(root))),
            LabRequest::RemoveHost(name) => self.remove_host(&name).map(|()| (LabReply::HostRemoved, None)),
        };
        outcome.unwrap_or_else(|error| (LabReply::Failed(error.to_string()), None))
    }

    fn add_host(&mut self, spec: &HostSpec, descriptors: Vec<OwnedFd>) -> Result<OwnedFd> {
        if self.hosts.contains_key(&spec.name) {
            return Err(LabError::setup(format!("there is a host {} already", spec.name)));
        }
        self.links += 1;
        let number = self.links;
        cgroup::create_host(&self.id, &spec.name)?;
        let (near, far) = Channel::pair().doing("making a channel")?;
        let init = self.start_host_init(far)?;
        let pid = init.id();
        // Known from here on, so that a host that fails to come up is removed as any other.
        self.hosts.insert(spec.name.clone(), LiveHost { init, number });
        let made = Self::bring_up(&near, spec, descriptors, number, pid);
        if made.is_err() {
            // Why it failed is what the test should hear.
            let _ = self.remove_host(&spec.name);
        }
        made
    }

    /// As first process of a pid namespace of its own. This process goes back to its namespace for the next one.
    fn start_host_init(&self, channel: Channel) -> Result<Child> {
        unshare(CloneFlags::CLONE_NEWPID).doing("making a pid namespace")?;
        let started = super::helper("host-init")
            .stdin(Stdio::from(OwnedFd::from(channel)))
            .stdout(Stdio::null())
            .spawn()
            .doing("starting host init");
        setns(&self.own_pids, CloneFlags::CLONE_NEWPID).doing("returning to the lab's pid namespace")?;
        started
    }

    fn bring_up(host: &Channel, spec: &HostSpec, descriptors: Vec<OwnedFd>, number: u32, pid: u32) -> Result<OwnedFd> {
        let beside: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        host.send(&Handshake::Make(spec.clone()), &beside).doing("instructing host init")?;
        drop(descriptors);
        match next(host)? {
            (Handshake::Namespaced, _) => network::link_host(number, spec.address, pid)?,
            (other, _) => return Err(unexpected(&other)),
        }
        host.send(&Handshake::Linked, &[]).doing("instructing host init")?;
        match next(host)? {
            (Handshake::Up, mut descriptors) => descriptors.pop().ok_or_else(|| LabError::setup("host without a root")),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn remove_host(&mut self, name: &str) -> Result<()> {
        let mut host = self.hosts.remove(name).ok_or_else(|| LabError::setup(format!("there is no host {name}")))?;
        host.init.kill().doing("ending host init")?;
        host.init.wait().doing("waiting for host init")?;
        // Gone with the host's namespace, or about to be: then there is nothing to delete.
        let _ = network::unlink_host(host.number);
        cgroup::remove_host(&self.id, name).doing("removing the host's cgroup")
    }
}

fn next(host: &Channel) -> Result<(Handshake, Vec<OwnedFd>)> {
    match host.receive().doing("hearing from host init")? {
        Some((Handshake::Failed(why), _)) => Err(LabError::setup(why)),
        Some(message) => Ok(message),
        None => Err(LabError::setup("host init died")),
    }
}

fn unexpected(message: &Handshake) -> LabError {
    LabError::setup(format!("host init said {message:?} out of turn"))
}
