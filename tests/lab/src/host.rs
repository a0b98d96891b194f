//! A host of a lab.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::accounts::number_of;
use crate::command::{Command, Output, content};
use crate::error::{Doing, LabError, Result, section};
use crate::files::{Files, Owner};
use crate::journal::Journal;
use crate::process::Process;
use crate::pty::Pty;
use crate::wait::locked;
use crate::wire::{Channel, RunRequest};

/// How long a service may take to end by itself.
const STOP: Duration = Duration::from_secs(10);

/// A host that is up. A handle: copies of it mean the same host.
#[derive(Clone, Debug)]
pub struct Host {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    name: String,
    address: Ipv4Addr,
    requests: Channel,
    pub(crate) files: Files,
    syslog: File,
    pub(crate) journal: Arc<Journal>,
    pub(crate) services: Mutex<BTreeMap<String, Arc<Process>>>,
    /// Files of the host that the report shows.
    logs: Mutex<Vec<String>>,
}

impl Host {
    pub(crate) fn new(
        name: String,
        address: Ipv4Addr,
        requests: Channel,
        root: OwnedFd,
        syslog: File,
        journal: Arc<Journal>,
    ) -> Self {
        let (files, services, logs) = (Files::new(root), Mutex::default(), Mutex::default());
        Host { inner: Arc::new(Inner { name, address, requests, files, syslog, journal, services, logs }) }
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its address in the lab's network.
    pub fn address(&self) -> Ipv4Addr {
        self.inner.address
    }

    /// A command to be set up further.
    pub fn command(&self, argv: impl IntoIterator<Item = impl AsRef<str>>) -> Command<'_> {
        Command::new(self, argv)
    }

    /// Runs a command as root, to its end.
    ///
    /// # Errors
    /// See [`Command::run`].
    pub fn run(&self, argv: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Output> {
        self.command(argv).run()
    }

    /// Runs a command as `user`, to its end.
    ///
    /// # Errors
    /// See [`Command::run`].
    pub fn run_as(&self, user: &str, argv: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Output> {
        self.command(argv).user(user).run()
    }

    /// Runs a shell script as root, to its end; its first failing command ends it.
    ///
    /// # Errors
    /// If it could not be run, or did not succeed.
    pub fn script(&self, script: &str) -> Result<Output> {
        self.command(["bash", "-euo", "pipefail", "-c", script]).run()?.ok()
    }

    /// Starts a command as `user` in the background.
    ///
    /// # Errors
    /// See [`Command::spawn`].
    pub fn spawn_as(&self, user: &str, argv: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Process> {
        self.command(argv).user(user).spawn()
    }

    /// Starts a command as `user` on a terminal.
    ///
    /// # Errors
    /// See [`Command::terminal`].
    pub fn pty_as(&self, user: &str, argv: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Pty> {
        self.command(argv).user(user).terminal()
    }

    /// The service that was started under this name.
    pub fn service(&self, name: &str) -> Option<Arc<Process>> {
        locked(&self.inner.services).get(name).cloned()
    }

    /// Ends a service with SIGTERM, or after some time with SIGKILL.
    ///
    /// # Errors
    /// If there is none of this name, or it does not end.
    pub fn stop_service(&self, name: &str) -> Result<Output> {
        let service = locked(&self.inner.services).remove(name);
        let service = service.ok_or_else(|| LabError::setup(format!("{} runs no service {name}", self.name())))?;
        service.signal(Signal::SIGTERM)?;
        service.wait(STOP)
    }

    /// Kills a service, if there is one of this name, and takes it out of the logs.
    ///
    /// # Errors
    /// If it does not end.
    pub fn forget_service(&self, name: &str) -> Result<()> {
        let service = locked(&self.inner.services).remove(name);
        service.map_or(Ok(()), |service| service.kill().map(drop))
    }

    /// Writes a file of root's; folders above it are made.
    ///
    /// # Errors
    /// If the host's files do not allow it.
    pub fn write_file(&self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
        self.inner.files.write(path, mode, Owner::ROOT, content.as_ref())
    }

    /// Writes a file of `user`'s; folders above it are made, and are root's.
    ///
    /// # Errors
    /// If there is no such user, or the host's files do not allow it.
    pub fn write_file_as(&self, user: &str, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
        self.inner.files.write(path, mode, self.owner(user)?, content.as_ref())
    }

    /// Makes a folder of `user`'s; those above it are made too, and are root's.
    ///
    /// # Errors
    /// If there is no such user, or the host's files do not allow it.
    pub fn make_folder_as(&self, user: &str, path: &str, mode: u32) -> Result<()> {
        self.inner.files.make_folder(path, mode, self.owner(user)?)
    }

    /// What a file holds; text that is not UTF-8 with replacement characters.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_file(&self, path: &str) -> Result<String> {
        self.read_bytes(path).map(|content| String::from_utf8_lossy(&content).into_owned())
    }

    /// What a file holds.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_bytes(&self, path: &str) -> Result<Vec<u8>> {
        self.inner.files.read(path)
    }

    /// Whether there is a file or folder at `path`.
    pub fn exists(&self, path: &str) -> bool {
        self.inner.files.exists(path)
    }

    /// Names in a folder, sorted; none if there is no such folder.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn list_folder(&self, path: &str) -> Result<Vec<String>> {
        self.inner.files.list(path)
    }

    /// Removes a file, or an empty folder; one that is not there is fine.
    ///
    /// # Errors
    /// If the host's files do not allow it.
    pub fn remove_file(&self, path: &str) -> Result<()> {
        self.inner.files.remove(path)
    }

    /// What its programs have sent to syslog: sshd, sudo, PAM modules. Also there when the host is gone.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&content(&self.inner.syslog)).into_owned()
    }

    /// Makes a file of the host part of [`Host::logs`].
    pub fn add_log(&self, path: &str) {
        locked(&self.inner.logs).push(path.to_owned());
    }

    /// All logs: syslog, what services print, files that were added.
    pub fn logs(&self) -> String {
        self.logs_since(0)
    }

    /// As [`Host::logs`], with syslog from this byte on.
    pub(crate) fn logs_since(&self, position: usize) -> String {
        let syslog = content(&self.inner.syslog);
        let syslog = String::from_utf8_lossy(syslog.get(position..).unwrap_or_default()).into_owned();
        let mut text = section(&format!("{}: syslog", self.name()), &syslog);
        for (name, service) in locked(&self.inner.services).iter() {
            let state = match service.status() {
                Ok(None) => String::new(),
                Ok(Some(status)) => format!(" ({status})"),
                Err(error) => format!(" ({error})"),
            };
            let printed = service.stdout() + &service.stderr();
            text += &section(&format!("{}: {name}{state}", self.name()), &printed);
        }
        for path in locked(&self.inner.logs).iter() {
            if let Ok(content) = self.read_file(path) {
                text += &section(&format!("{}: {path}", self.name()), &content);
            }
        }
        text
    }

    pub(crate) fn log_position(&self) -> usize {
        content(&self.inner.syslog).len()
    }

    pub(crate) fn ask(&self, request: &RunRequest, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.inner.requests.send(request, descriptors).doing(format!("asking {} to run a command", self.name()))
    }

    fn owner(&self, user: &str) -> Result<Owner> {
        let passwd = self.read_file("/etc/passwd")?;
        let unknown = || LabError::setup(format!("{} has no user {user}", self.name()));
        let line = passwd.lines().find(|line| line.split(':').next() == Some(user)).ok_or_else(unknown)?;
        let uid = number_of(user, &passwd).ok_or_else(unknown)?;
        let gid = line.split(':').nth(3).and_then(|gid| gid.parse().ok()).ok_or_else(unknown)?;
        Ok(Owner { uid, gid })
    }
}
