//! A lab that is up.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::net::Shutdown;

use crate::accounts::Person;
use crate::builder::{HostPlan, LabBuilder, check_name};
use crate::command::{content, memory_file};
use crate::error::{Doing, LabError, Result, section};
use crate::host::Host;
use crate::journal::Journal;
use crate::seed;
use crate::wait::{locked, wait_for};
use crate::wire::{Channel, HostSpec, LabReply, LabRequest, MARK, SOURCES};

/// How long the lab's processes may take for one step of theirs, on a machine that is busy with many labs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Scratch hosts and their network, until this goes, or the process that made it.
#[derive(Debug)]
pub struct Lab {
    id: String,
    keeper: Mutex<Child>,
    control: Mutex<Channel>,
    /// What the lab's own processes print.
    log: File,
    people: Vec<Person>,
    hosts: Mutex<BTreeMap<String, Host>>,
    /// Of every host that ever was: a host made anew has its old address.
    addresses: Mutex<BTreeMap<String, Ipv4Addr>>,
    journal: Arc<Journal>,
}

impl Lab {
    /// A lab of this name, to be furnished and started.
    #[expect(clippy::new_ret_no_self, reason = "reads as what it is: a new lab")]
    pub fn new(name: &str) -> LabBuilder {
        LabBuilder::new(name)
    }

    pub(crate) fn start(plan: LabBuilder) -> Result<Lab> {
        if !rustix::process::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let helper = helper()?;
        let id = identifier(&plan.name);
        let (control, far) = Channel::pair().doing("making a channel")?;
        let log = memory_file()?;
        // env(1): a test that was started in the background of a script has signals ignored, and would hand that on.
        let keeper = Command::new("env")
            .arg("--default-signal")
            .arg(&helper)
            .arg("keeper")
            .env_clear()
            .env(MARK, &id)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::from(OwnedFd::from(far)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log.try_clone().doing("copying a descriptor")?))
            .spawn()
            .doing(format!("starting {}", helper.display()))?;
        let lab = Lab {
            id,
            keeper: Mutex::new(keeper),
            control: Mutex::new(control),
            log,
            people: plan.people,
            hosts: Mutex::default(),
            addresses: Mutex::default(),
            journal: Arc::new(Journal::new()),
        };
        match lab.reply(&locked(&lab.control)) {
            Ok((LabReply::Up(sources), _)) if sources == SOURCES => {}
            Ok((LabReply::Failed(why), _)) => return Err(lab.failure(why)),
            Err(error @ LabError::Setup { .. }) => return Err(error),
            // Another digest, or a message of another version.
            Ok(_) | Err(_) => return Err(LabError::OtherHelper(helper.display().to_string())),
        }
        for host in plan.hosts {
            lab.add_host(host)?;
        }
        Ok(lab)
    }

    /// What marks its processes (environment variable [`MARK`]) and its cgroup folder (`ussh-lab.` and this).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The host of this name.
    ///
    /// # Panics
    /// If there is none: the test has forgotten to name it.
    #[expect(
        clippy::panic,
        reason = "a mistake in the test itself; a Result here would clutter each line of every test"
    )]
    pub fn host(&self, name: &str) -> Host {
        match locked(&self.hosts).get(name) {
            Some(host) => host.clone(),
            None => panic!("lab {} has no host {name}", self.id),
        }
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> Vec<Host> {
        locked(&self.hosts).values().cloned().collect()
    }

    /// Makes one more host.
    ///
    /// # Errors
    /// If there is one of this name, or the system refuses a step.
    pub fn add_host(&self, plan: HostPlan) -> Result<Host> {
        check_name(&plan.name)?;
        let address = self.address_for(&plan.name)?;
        let (requests, far) = Channel::pair().doing("making a channel")?;
        let syslog = memory_file()?;
        let root = {
            let control = locked(&self.control);
            let spec = HostSpec { name: plan.name.clone(), base: plan.base, address, binds: plan.binds };
            let asked = control.send(&LabRequest::AddHost(spec), &[far.as_fd(), syslog.as_fd()]);
            drop(far);
            asked.map_err(|_| self.failure("the lab is gone".to_owned()))?;
            match self.reply(&control)? {
                (LabReply::HostUp, mut descriptors) => descriptors.pop(),
                (LabReply::Failed(why), _) => return Err(self.failure(format!("making host {}: {why}", plan.name))),
                (LabReply::Up(_) | LabReply::HostRemoved, _) => None,
            }
        };
        let root = root.ok_or_else(|| self.failure("unexpected answer".to_owned()))?;
        let host = Host::new(plan.name.clone(), address, requests, root, syslog, Arc::clone(&self.journal));
        seed::seed(&host.inner.files, &plan.name, &self.people)?;
        locked(&self.hosts).insert(plan.name, host.clone());
        let addresses = locked(&self.addresses).clone();
        for host in self.hosts() {
            seed::neighbours(&host.inner.files, &addresses)?;
        }
        Ok(host)
    }

    /// Pulls the plug of a host. Nothing of it is left; a new one may have its name, and then has its address.
    ///
    /// # Errors
    /// If there is none, or the system refuses a step.
    pub fn remove_host(&self, name: &str) -> Result<()> {
        locked(&self.hosts).remove(name);
        let control = locked(&self.control);
        let asked = control.send(&LabRequest::RemoveHost(name.to_owned()), &[]);
        asked.map_err(|_| self.failure("the lab is gone".to_owned()))?;
        match self.reply(&control)? {
            (LabReply::HostRemoved, _) => Ok(()),
            (LabReply::Failed(why), _) => Err(self.failure(format!("removing host {name}: {why}"))),
            (LabReply::Up(_) | LabReply::HostUp, _) => Err(self.failure("unexpected answer".to_owned())),
        }
    }

    /// Watches over one test: if it fails, prints what was done and logged since now.
    /// A lab that is dropped in a failing test does that by itself; one that many tests share is never dropped.
    pub fn watch(&self) -> Watch<'_> {
        let logs = self.hosts().iter().map(|host| (host.name().to_owned(), host.log_position())).collect();
        Watch { lab: self, journal: self.journal.position(), logs }
    }

    /// What was done in the lab, and all its logs.
    pub fn report(&self) -> String {
        self.report_since(0, &BTreeMap::new())
    }

    fn report_since(&self, journal: u64, logs: &BTreeMap<String, usize>) -> String {
        let mut text = format!("==== lab {}: where it stood ====\n{}", self.id, self.journal.tell(journal));
        for host in self.hosts() {
            text += &host.logs_since(logs.get(host.name()).copied().unwrap_or(0));
        }
        text += &section("lab log", &String::from_utf8_lossy(&content(&self.log)));
        text + "\n==== end of report ===="
    }

    fn address_for(&self, name: &str) -> Result<Ipv4Addr> {
        let mut addresses = locked(&self.addresses);
        if let Some(address) = addresses.get(name) {
            return Ok(*address);
        }
        let number = u8::try_from(addresses.len() + 1).ok().filter(|number| *number < 255);
        let number = number.ok_or_else(|| LabError::setup("more than 254 hosts"))?;
        let address = Ipv4Addr::new(10, 77, 0, number);
        addresses.insert(name.to_owned(), address);
        Ok(address)
    }

    fn reply(&self, control: &Channel) -> Result<(LabReply, Vec<OwnedFd>)> {
        let reply = control.receive_within(PATIENCE).doing("waiting for the lab")?;
        reply.ok_or_else(|| self.failure("the lab's processes died".to_owned()))
    }

    fn failure(&self, what: String) -> LabError {
        LabError::Setup { what, log: String::from_utf8_lossy(&content(&self.log)).into_owned() }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
        // The keeper sees the end, and goes when nothing is left.
        let _ = rustix::net::shutdown(locked(&self.control).as_fd(), Shutdown::Both);
        let mut keeper = locked(&self.keeper);
        if wait_for(PATIENCE, "the keeper", || keeper.try_wait().transpose()).is_err() {
            eprintln!("lab {}: the keeper (pid {}) does not end", self.id, keeper.id());
        }
    }
}

/// Prints a report if the test that holds it fails. Made by [`Lab::watch`].
#[derive(Debug)]
pub struct Watch<'lab> {
    lab: &'lab Lab,
    journal: u64,
    logs: BTreeMap<String, usize>,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.lab.report_since(self.journal, &self.logs));
        }
    }
}

/// The helper program: named by USSH_LAB_BIN, or where cargo puts it beside the tests.
fn helper() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("USSH_LAB_BIN") {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { Err(LabError::NoHelper(path.display().to_string())) };
    }
    let folder = target_folder()?;
    let path = folder.join("ussh-lab");
    if path.is_file() { Ok(path) } else { Err(LabError::NoHelper(path.display().to_string())) }
}

/// Where cargo puts what it builds: the folder of this program, or the one above if this is a test.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().doing("asking for this program's path")?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_path_buf())
}

/// Unlike that of any other lab of this machine that is alive.
fn identifier(name: &str) -> String {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let number = LABS.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{name}.{}.{number}.{:x}", std::process::id(), now.subsec_nanos())
}
