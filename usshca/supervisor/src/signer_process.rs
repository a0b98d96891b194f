//! Starting a signer: `serve` keeps one, the admin verbs and `check` start one for the moment when none is running.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ussh_os::process::{self, ChildSetup};
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::admin::{Explained, Supposed};
use usshca_ipc::channel::{Channel, ChannelError};
use usshca_ipc::log::LOG_FORMAT;
use usshca_ipc::signer::{Control, FromSignerControl, KeySetup, PolicyText, SideJob, SignerSetup, Started};

use crate::child::{Child, setup_file};
use crate::failure::Failure;
use crate::log;
use crate::prepare::Base;
use crate::unlock;

/// How long a signer may take to be ready.
pub const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long a signer may take to end by itself, after its control channel has closed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// A signer that was started; not yet ready.
pub struct SignerProcess {
    /// The process. It dies with its parent.
    pub child: Child,
    /// Where it is told of fronts, workers and admins, and says that it is ready.
    pub control: Channel<Control, FromSignerControl>,
}

/// Starts a signer with the policy as it is now.
pub fn start(base: &Base) -> Result<SignerProcess, Failure> {
    start_with(base, None, Purpose::Serve, base.policy()?)
}

/// Starts the signer of a CA that serves, with the listening admin socket and a policy.
pub fn start_serving(base: &Base, listener: OwnedFd, policy: Vec<PolicyText>) -> Result<SignerProcess, Failure> {
    start_with(base, Some(listener), Purpose::Serve, policy)
}

/// Starts the first signer of a new CA, which makes the inventory. Of `usshca init` only: a lost inventory must never become an empty one.
pub fn start_first(base: &Base) -> Result<SignerProcess, Failure> {
    start_with(base, None, Purpose::Create, base.policy()?)
}

/// Starts one and waits until it is ready; asks for a passphrase where a key needs one, and starts another.
pub fn start_ready(start: impl Fn() -> Result<SignerProcess, Failure>) -> Result<SignerProcess, Failure> {
    loop {
        let signer = start()?;
        let needs = match signer.wait_ready() {
            Ok(None) => return Ok(signer),
            Ok(Some(needs)) => Ok(needs),
            Err(failure) => Err(failure),
        };
        signer.finish();
        let (key, wrong) = needs?;
        unlock::ask_for(&key, wrong)?;
    }
}

/// A user or a group that a policy names.
#[derive(Debug)]
pub struct PolicyName {
    /// A group, else a user.
    pub is_group: bool,
    /// Its name.
    pub name: String,
    /// Where it stands first: file, line and rule.
    pub place: String,
}

/// What the signer's program says of a policy that is good.
#[derive(Debug, Default)]
pub struct PolicyReport {
    /// Every user and group that it names.
    pub names: Vec<PolicyName>,
    /// What an administrator should look at.
    pub warnings: Vec<String>,
}

/// Only the policy is read, so that this works beside a signer.
/// A failure says what is wrong with the policy.
pub fn read_policy(base: &Base) -> Result<PolicyReport, Failure> {
    let reader = start_with(base, None, Purpose::ReadPolicy, base.policy()?)?;
    let report = reader.receive_report();
    reader.finish();
    report
}

/// What a signer is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Serve,
    Create,
    ReadPolicy,
    Aside(SideJob),
}

/// A signer's program that copies the inventory into a pipe. Works beside a signer.
pub fn start_backup(base: &Base, pipe: OwnedFd) -> Result<SignerProcess, Failure> {
    start_with(base, Some(pipe), Purpose::Aside(SideJob::Backup), Vec::new())
}

/// A signer that changes nothing on disk, with the policy as it is now.
pub fn start_looking(base: &Base) -> Result<SignerProcess, Failure> {
    start_with(base, None, Purpose::Aside(SideJob::Look), base.policy()?)
}

/// A signer's program that judges by a policy. Works beside a signer.
/// A failure says what is wrong with the policy.
pub fn start_judge(base: &Base, policy: Vec<PolicyText>) -> Result<SignerProcess, Failure> {
    let judge = start_with(base, None, Purpose::Aside(SideJob::Judge), policy)?;
    let said = judge.receive_unless_failed()?;
    if said == FromSignerControl::PolicyGood { Ok(judge) } else { Err(out_of_turn()) }
}

fn start_with(
    base: &Base,
    listener: Option<OwnedFd>,
    purpose: Purpose,
    policy: Vec<PolicyText>,
) -> Result<SignerProcess, Failure> {
    let setup = SignerSetup {
        state: base.layout.state.clone(),
        policy,
        admin_uids: vec![base.owner_uid()],
        worker_uid: base.owner_uid(),
        listens: listener.is_some() && purpose == Purpose::Serve,
        creates: purpose == Purpose::Create,
        only_policy: purpose == Purpose::ReadPolicy,
        keys: match purpose {
            Purpose::ReadPolicy | Purpose::Aside(SideJob::Backup | SideJob::Judge) => KeySetup::default(),
            Purpose::Serve | Purpose::Create | Purpose::Aside(SideJob::Look) => base.key_setup(),
        },
        side_job: if let Purpose::Aside(job) = purpose { Some(job) } else { None },
    };
    spawn(base, &setup, listener).map_err(|e| Failure::internal(format!("the signer could not be started: {e}")))
}

fn spawn(base: &Base, setup: &SignerSetup, listener: Option<OwnedFd>) -> std::io::Result<SignerProcess> {
    let (ours, theirs) = SeqPacket::pair()?;
    let mut descriptors = vec![theirs.into_fd(), setup_file(setup)?];
    descriptors.extend(listener);
    let child = process::spawn(
        &base.programs.signer,
        &[],
        &[(LOG_FORMAT, log::format().name())],
        ChildSetup {
            identity: base.accounts.map(|a| a.signer),
            descriptors,
            die_with_parent: true,
            no_network: base.accounts.is_some(),
        },
    )?;
    Ok(SignerProcess { child: Child::new(child)?, control: Channel::new(ours) })
}

impl SignerProcess {
    /// Waits until it is ready; or gives the key that needs a passphrase, and whether those that it was given are wrong.
    fn wait_ready(&self) -> Result<Option<(String, bool)>, Failure> {
        match Started::from(self.receive()?) {
            Started::Ready => Ok(None),
            Started::NeedsPassphrase { key, wrong } => Ok(Some((key, wrong))),
            Started::Failed(why) => Err(Failure::config(format!("the signer cannot serve: {why}"))),
            Started::Busy(why) => Err(Failure::unavailable(why)),
            Started::OutOfTurn => Err(out_of_turn()),
        }
    }

    /// Why CA keys sign nothing, a sentence each.
    pub fn key_troubles(&self) -> Result<Vec<String>, Failure> {
        let failed = |e: ChannelError| Failure::internal(format!("the signer: {e}"));
        self.control.send(&Control::Hears).map_err(failed)?;
        let mut troubles = Vec::new();
        loop {
            let said = self.receive()?;
            if let FromSignerControl::KeyTroubles(found) = said {
                troubles = found;
            } else if said == FromSignerControl::Hears {
                return Ok(troubles);
            } else if !matches!(said, FromSignerControl::Counts(_) | FromSignerControl::InventoryTrouble(_)) {
                return Err(out_of_turn());
            }
        }
    }

    /// Bytes and rows of the copy, once all of it was written.
    pub fn wait_copied(&self) -> Result<(u64, u64), Failure> {
        let said = self.receive_unless_failed()?;
        if let FromSignerControl::Copied { bytes, rows } = said { Ok((bytes, rows)) } else { Err(out_of_turn()) }
    }

    /// What a judge says.
    pub fn judge(&self, supposed: Supposed) -> Result<Explained, Failure> {
        let failed = |e: ChannelError| Failure::internal(format!("the judge of the policy: {e}"));
        self.control.send(&Control::Judge(Box::new(supposed))).map_err(failed)?;
        let FromSignerControl::Judged(judged) = self.receive_unless_failed()? else {
            return Err(out_of_turn());
        };
        judged.map(|explained| *explained).map_err(Failure::internal)
    }

    fn receive_report(&self) -> Result<PolicyReport, Failure> {
        let mut report = PolicyReport::default();
        loop {
            match self.receive()? {
                FromSignerControl::PolicyName { is_group, name, place } => {
                    report.names.push(PolicyName { is_group, name, place });
                }
                FromSignerControl::PolicyWarning(warning) => report.warnings.push(warning),
                FromSignerControl::PolicyGood => return Ok(report),
                FromSignerControl::Failed(why) => return Err(Failure::config(why)),
                FromSignerControl::Ready
                | FromSignerControl::Hears
                | FromSignerControl::Busy(_)
                | FromSignerControl::PolicyTaken
                | FromSignerControl::PolicyKept(_)
                | FromSignerControl::Copied { .. }
                | FromSignerControl::Judged(_)
                | FromSignerControl::LoggedIn { .. }
                | FromSignerControl::Served { .. }
                | FromSignerControl::Counts(_)
                | FromSignerControl::KeyTroubles(_)
                | FromSignerControl::InventoryTrouble(_)
                | FromSignerControl::NeedsPassphrase { .. }
                | FromSignerControl::Changed => return Err(out_of_turn()),
            }
        }
    }

    fn receive_unless_failed(&self) -> Result<FromSignerControl, Failure> {
        let said = self.receive()?;
        if let FromSignerControl::Failed(why) = said { Err(Failure::config(why)) } else { Ok(said) }
    }

    fn receive(&self) -> Result<FromSignerControl, Failure> {
        match self.control.receive(Some(START_PATIENCE)) {
            Ok(received) => Ok(received.message),
            Err(ChannelError::Closed) => Err(Failure::internal("the signer ended before it was ready")),
            Err(e) => Err(Failure::internal(format!("the signer did not become ready: {e}"))),
        }
    }

    /// Lets it end: its control channel closes; killed if that is not enough.
    pub fn finish(self) {
        let SignerProcess { mut child, control } = self;
        drop(control);
        child.end_by(Instant::now() + END_PATIENCE);
    }
}

fn out_of_turn() -> Failure {
    Failure::internal("the signer gave an answer to another question")
}
