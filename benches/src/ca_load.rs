//! How many certificates the CA makes: the real signer process with many fronts that ask at once, as the supervisor would start them, and signing alone.
//!
//! Process: the bench's own, outside of the lab; the signer works on a folder on this machine's disk. It plays the supervisor, the fronts and the workers, whose part in a login is
//! measured elsewhere.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Seek, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::issue::CertificateTemplate;
use ussh_core::keys::{PrivateKey, PublicKey};
use ussh_e2e::build_folder;
use ussh_os::process::{self, ChildSetup};
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::channel::{Channel, encode};
use usshca_ipc::front::{Delivery, FromSigner, ToSigner, Wish};
use usshca_ipc::signer::{Control, FromSignerControl, PolicyText, SignerSetup};
use usshca_ipc::worker::{Spoken, Statement, StatementReply};

use crate::comparisons::Result;
use crate::row::Fact;

/// How many ask at once.
const FRONTS: u32 = 32;
/// For how long.
const WINDOW: Duration = Duration::from_secs(5);
/// Before that, uncounted.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long the disk and the key are tried alone.
const PROBE: Duration = Duration::from_secs(1);
/// As much as SQLite writes for a small transaction.
const PROBE_BYTES: usize = 8192;
/// The file that the probe writes over, as SQLite does with its log.
const PROBE_FILE: u64 = 4 << 20;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
const POLICY: &str =
    "[[rule]]\nname = \"staff\"\ngroups = [\"staff\"]\nvalidity_seconds = 28800\nprincipals = [\"%u\"]\n";

/// How often all of it is measured: the round in which the processor was fastest counts, by what it signs alone. A virtual machine has slow minutes.
const ROUNDS: usize = 3;

/// The figures.
///
/// # Errors
/// The signer did not do as it was asked.
pub fn facts() -> Result<Vec<Fact>> {
    let rounds = (0..ROUNDS).map(|_| Round::measure()).collect::<Result<Vec<_>>>()?;
    let Round { alone, recorded, flushes, flushes_alone } =
        rounds.into_iter().max_by(|a, b| a.alone.total_cmp(&b.alone)).ok_or("no round")?;
    let fact = |title, value, unit, at_least| Fact { title, value, unit, at_most: None, at_least };
    Ok(vec![
        fact("CA: certificates, signed alone", alone, "/s", Some(15_000.0)),
        fact("CA: recorded, 32 asking", recorded, "/s", Some(5_000.0)),
        fact("   disk flushes meanwhile", flushes, "/s", None),
        fact("   disk flushes, fsync alone", flushes_alone, "/s", None),
        fact("   share of the disk's", 100.0 * flushes / flushes_alone, "%", None),
    ])
}

/// What was measured one after the other on the same disk, each a second.
struct Round {
    /// Certificates signed, and nothing else done.
    alone: f64,
    /// Certificates signed and recorded, with [`FRONTS`] asking.
    recorded: f64,
    /// Flushes of the disk meanwhile.
    flushes: f64,
    /// Flushes, and nothing else done.
    flushes_alone: f64,
}

impl Round {
    fn measure() -> Result<Self> {
        let alone = signatures_a_second()?;
        // Not in /tmp, which may be memory.
        let folder = tempfile::Builder::new().prefix("ussh-bench-").tempdir_in(build_folder())?;
        let disk = Disk::of(folder.path())?;
        let before = disk.flushes_alone(folder.path())?;
        let load = Load::start(folder.path(), disk.clone())?;
        let (recorded, flushes) = load.measure()?;
        let after = disk.flushes_alone(folder.path())?;
        Ok(Round { alone, recorded, flushes, flushes_alone: f64::midpoint(before, after) })
    }
}

/// On as many threads as there are cores: what the processor gives.
fn signatures_a_second() -> Result<f64> {
    let ca = PrivateKey::generate_ed25519()?;
    let subject = PrivateKey::generate_ed25519()?.public_key();
    let threads = std::thread::available_parallelism()?.get();
    let start = Instant::now();
    let sign = || -> std::result::Result<u32, ussh_core::issue::IssueError> {
        let mut count = 0;
        while start.elapsed() < PROBE {
            template(&subject).sign(&ca)?;
            count += 1;
        }
        Ok(count)
    };
    let counts = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(sign)).collect();
        running.into_iter().map(|one| one.join().map_err(|_| "a signing thread broke down")).collect::<Vec<_>>()
    });
    let mut total = 0;
    for count in counts {
        total += count??;
    }
    Ok(f64::from(total) / start.elapsed().as_secs_f64())
}

fn template(subject: &PublicKey) -> CertificateTemplate {
    let now = SystemClock.now();
    CertificateTemplate {
        public_key: subject.clone(),
        serial: 1,
        kind: CertificateKind::User,
        key_id: "alice".to_owned(),
        principals: vec!["alice".to_owned()],
        valid_after: now,
        valid_before: UnixTime(now.0.saturating_add(28_800)),
        critical_options: Vec::new(),
        extensions: Vec::new(),
    }
}

/// The disk on which a folder lies.
#[derive(Clone, Debug)]
struct Disk {
    /// In /sys.
    stat: PathBuf,
}

impl Disk {
    fn of(folder: &Path) -> Result<Self> {
        let device = folder.metadata()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(Disk { stat: PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat")) })
    }

    /// Flushes that it has completed since the machine started: the 16th number (Linux: Documentation/block/stat.rst).
    fn flushes(&self) -> Result<f64> {
        let text = fs::read_to_string(&self.stat).map_err(|e| format!("{}: {e}", self.stat.display()))?;
        Ok(text.split_ascii_whitespace().nth(15).ok_or("the disk does not count its flushes")?.parse()?)
    }

    /// A second, while a file is written over and the disk is waited for each time.
    fn flushes_alone(&self, folder: &Path) -> Result<f64> {
        let path = folder.join("probe");
        let file = File::create(&path)?;
        let block = [0x5a; PROBE_BYTES];
        for offset in (0..PROBE_FILE).step_by(PROBE_BYTES) {
            file.write_all_at(&block, offset)?;
        }
        file.sync_all()?;
        let (start, before) = (Instant::now(), self.flushes()?);
        for offset in (0..PROBE_FILE).step_by(PROBE_BYTES).cycle().take_while(|_| start.elapsed() < PROBE) {
            file.write_all_at(&block, offset)?;
            file.sync_data()?;
        }
        let rate = (self.flushes()? - before) / start.elapsed().as_secs_f64();
        fs::remove_file(path)?;
        Ok(rate)
    }
}

/// The signer and those who ask.
struct Load {
    signer: Child,
    control: Channel<Control, FromSignerControl>,
    fronts: Vec<Front>,
    own_pid: i32,
    disk: Disk,
    inventory: PathBuf,
    /// All that came: serial and wire form.
    came: Vec<(u64, Vec<u8>)>,
}

/// One front, which asks again and again, each time after another login.
struct Front {
    channel: Channel<ToSigner, FromSigner>,
    connection: u64,
    attempt: u32,
    public_key: Vec<u8>,
    waits: Waits,
}

/// For what a front waits.
enum Waits {
    /// Its worker, for the statement to be kept.
    Statement(Channel<Spoken, StatementReply>),
    /// The certificate.
    Certificate,
    /// The outcome to be noted.
    Outcome,
}

impl Load {
    fn start(folder: &Path, disk: Disk) -> Result<Self> {
        let state = folder.join("state");
        fs::create_dir(&state)?;
        fs::set_permissions(&state, Permissions::from_mode(0o700))?;
        for name in ["user_ca", "host_ca"] {
            let path = state.join(name);
            fs::write(&path, PrivateKey::generate_ed25519()?.to_openssh(name)?.as_bytes())?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        }
        let (ours, theirs) = SeqPacket::pair()?;
        let signer = spawn(&state, theirs, &folder.join("log"))?;
        let control = Channel::<Control, FromSignerControl>::new(ours);
        let said = control.receive(Some(PATIENCE))?.message;
        if said != FromSignerControl::Ready {
            return Err(format!("the signer: {said:?}").into());
        }
        let own_pid = i32::try_from(std::process::id())?;
        let inventory = state.join("inventory.db");
        let mut load = Load { signer, control, fronts: Vec::new(), own_pid, disk, inventory, came: Vec::new() };
        for number in 1..=FRONTS {
            let front = load.connect(u64::from(number))?;
            load.fronts.push(front);
        }
        Ok(load)
    }

    fn connect(&self, connection: u64) -> Result<Front> {
        let (ours, theirs) = SeqPacket::pair()?;
        let peer: SocketAddr = "192.0.2.1:22".parse()?;
        self.control.send_with(&Control::NewFront { connection, peer }, &[theirs.as_fd()])?;
        let waits = Waits::Statement(self.log_in(connection, 1)?);
        let public_key = PrivateKey::generate_ed25519()?.public_key().to_blob();
        Ok(Front { channel: Channel::new(ours), connection, attempt: 1, public_key, waits })
    }

    /// A worker whose identity the kernel attests says that somebody has passed.
    fn log_in(&self, connection: u64, attempt: u32) -> Result<Channel<Spoken, StatementReply>> {
        let (ours, theirs) = SeqPacket::pair()?;
        theirs.attest_sender()?;
        let news = Control::NewWorker {
            connection,
            attempt,
            worker_pid: self.own_pid,
            user: String::new(),
            patience_seconds: 60,
        };
        self.control.send_with(&news, &[theirs.as_fd()])?;
        let worker = Channel::<Spoken, StatementReply>::new(ours);
        let user = format!("user{connection}");
        worker.send(&Spoken::Passed(Statement { user, uid: 1000, groups: vec!["staff".to_owned()] }))?;
        Ok(worker)
    }

    /// Certificates a second that came, and how often a second the disk was flushed meanwhile. Each of them stands in the inventory at the end.
    fn measure(mut self) -> Result<(f64, f64)> {
        self.run_until(Instant::now() + WARM_UP)?;
        let (start, flushes) = (Instant::now(), self.disk.flushes()?);
        let count = self.run_until(start + WINDOW)?;
        let seconds = start.elapsed().as_secs_f64();
        let rates = (f64::from(count) / seconds, (self.disk.flushes()? - flushes) / seconds);
        let Load { mut signer, control, fronts, inventory, came, .. } = self;
        drop((control, fronts));
        let status = signer.wait()?;
        if !status.success() {
            return Err(format!("the signer ended with {status}").into());
        }
        all_recorded(&inventory, came)?;
        Ok(rates)
    }

    fn run_until(&mut self, end: Instant) -> Result<u32> {
        let mut count = 0;
        while Instant::now() < end {
            let mut fds: Vec<PollFd<'_>> =
                self.fronts.iter().map(|front| PollFd::from_borrowed_fd(front.as_fd(), PollFlags::IN)).collect();
            poll(&mut fds, None)?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut fronts = std::mem::take(&mut self.fronts);
            for (front, _) in fronts.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
                let came = self.go_on(front)?;
                count += u32::from(came.is_some());
                self.came.extend(came);
            }
            self.fronts = fronts;
        }
        Ok(count)
    }

    /// Takes a front's next step; the certificate with its serial, if it got one.
    fn go_on(&self, front: &mut Front) -> Result<Option<(u64, Vec<u8>)>> {
        match &front.waits {
            Waits::Statement(worker) => {
                if worker.receive(Some(PATIENCE))?.message != StatementReply::Kept {
                    return Err("a statement was not taken".into());
                }
                let (attempt, public_key) = (front.attempt, front.public_key.clone());
                front.channel.send(&ToSigner::Issue { attempt, public_key, wish: Wish::default() })?;
                front.waits = Waits::Certificate;
                Ok(None)
            }
            Waits::Certificate => {
                let said = front.channel.receive(Some(PATIENCE))?.message;
                let FromSigner::Issued { certificate, .. } = said else {
                    return Err(format!("no certificate: {said:?}").into());
                };
                let serial = Certificate::parse(&certificate)?.serial();
                front.channel.send(&ToSigner::Outcome { serial, delivery: Delivery::Delivered })?;
                front.waits = Waits::Outcome;
                Ok(Some((serial, certificate)))
            }
            Waits::Outcome => {
                if front.channel.receive(Some(PATIENCE))?.message != FromSigner::Noted {
                    return Err("an outcome was not noted".into());
                }
                front.attempt += 1;
                front.waits = Waits::Statement(self.log_in(front.connection, front.attempt)?);
                Ok(None)
            }
        }
    }
}

impl Front {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match &self.waits {
            Waits::Statement(worker) => worker.socket().as_fd(),
            Waits::Certificate | Waits::Outcome => self.channel.socket().as_fd(),
        }
    }
}

/// Each certificate that left the signer stands in the inventory under its serial, as it left, and what became of it with it; and no serial came twice.
fn all_recorded(inventory: &Path, came: Vec<(u64, Vec<u8>)>) -> Result<()> {
    let database = rusqlite::Connection::open_with_flags(inventory, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT serial, certificate FROM certificate WHERE state IN ('delivered', 'undelivered')";
    let mut statement = database.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))?;
    let mut recorded: BTreeMap<u64, Vec<u8>> = rows.collect::<rusqlite::Result<_>>()?;
    for (serial, certificate) in came {
        if recorded.remove(&serial).as_ref() != Some(&certificate) {
            return Err(format!("serial {serial} came twice, or does not stand in the inventory as it came").into());
        }
    }
    Ok(())
}

fn spawn(state: &Path, control: SeqPacket, log: &Path) -> Result<Child> {
    let uid = process::effective_uid();
    let setup = SignerSetup {
        state: state.to_owned(),
        policy: vec![PolicyText { name: "policy.toml".into(), folder: String::new(), text: POLICY.into() }],
        admin_uids: vec![uid],
        worker_uid: uid,
        listens: false,
        creates: true,
        only_policy: false,
        side_job: None,
        keys: usshca_ipc::signer::KeySetup::default(),
    };
    let mut file = tempfile::tempfile()?;
    file.write_all(&encode(&setup)?)?;
    file.rewind()?;
    let descriptors = vec![control.into_fd(), file.into()];
    let setup = ChildSetup { descriptors, die_with_parent: true, ..ChildSetup::default() };
    let (signer, log) =
        (build_folder().join("usshca-signer"), log.to_str().ok_or("a path that is no text")?.to_owned());
    let signer = signer.to_str().ok_or("a path that is no text")?;
    // A shell for the log's sake: one line a certificate.
    Ok(process::spawn(Path::new("/bin/sh"), &["-c", "exec \"$0\" 2>>\"$1\"", signer, &log], &[], setup)?)
}
