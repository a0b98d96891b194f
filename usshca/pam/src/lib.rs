//! `usshca-pam`: one login attempt through PAM.
//!
//! Process: one per attempt, made by the supervisor. uid: root (or the CA's own, when an ordinary user runs it for an account of his own).
//! Trusted: its setup, PAM and its modules, NSS. Untrusted: everything that the front says: it can answer prompts, and nothing else.
//!
//! A module that crashes, calls exit() or hangs takes this process along and nothing more: the front sees the end of the channel, the signer never sees a statement.
#![forbid(unsafe_code)]

pub mod conversation;
mod login;

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use ussh_os::seqpacket::SeqPacket;
use ussh_os::{process, sandbox};
use usshca_ipc::by_hand;
use usshca_ipc::channel::{Channel, decode};
use usshca_ipc::worker::{FromWorker, Spoken, StatementReply, ToWorker, WorkerSetup, descriptors};
use zeroize::Zeroizing;

use crate::login::Outcome;

/// Writable memory, in bytes: modules hash passwords with tens of megabytes at most.
const MEMORY: u64 = 512 << 20;
/// Processor time of one attempt, in seconds: the slowest password hashes take some.
const CPU_SECONDS: u64 = 30;
/// Open files.
const OPEN_FILES: u64 = 256;
/// Most bytes of a setup.
const MAX_SETUP: u64 = 64 * 1024;

/// Channels and setup of this attempt.
pub struct Worker {
    /// The conversation.
    pub front: Channel<FromWorker, ToWorker>,
    /// The statement, or the refusal.
    pub signer: Channel<Spoken, StatementReply>,
    /// Who, and how.
    pub setup: WorkerSetup,
}

/// The program. It is a library too, so that the conversation can be fuzzed.
pub fn main() -> ExitCode {
    if let Some(complaint) = by_hand::complaint("usshca-pam") {
        // Nothing can be done about a closed stderr here.
        let _ = io::stderr().write_all(complaint.as_bytes());
        return ExitCode::from(by_hand::EX_USAGE);
    }
    // Under Rust's own handlers a module that crashes would "return".
    process::reset_fault_handlers();
    let worker = match start() {
        Ok(worker) => worker,
        Err(e) => {
            eprintln!("cannot start: {e}");
            return ExitCode::from(70);
        }
    };
    match login::run(worker) {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::Refused => ExitCode::from(1),
        Outcome::Left => ExitCode::from(2),
        Outcome::Unavailable => ExitCode::from(69),
    }
}

fn start() -> io::Result<Worker> {
    let front = SeqPacket::from_fd(process::inherited_descriptor(descriptors::FRONT)?)?;
    let signer = SeqPacket::from_fd(process::inherited_descriptor(descriptors::SIGNER)?)?;
    let setup = process::inherited_descriptor(descriptors::SETUP)?;
    let log = process::inherited_descriptor(descriptors::LOG)?;
    process::redirect_output(log)?;
    process::harden_memory()?;
    sandbox::limit_foreign(MEMORY, CPU_SECONDS, OPEN_FILES)?;
    // What a module's helper leaves behind is ours then, and is found beneath us by whoever kills us.
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut bytes = Zeroizing::new(Vec::new());
    File::from(setup).take(MAX_SETUP).read_to_end(&mut bytes)?;
    let setup: WorkerSetup = decode(&bytes).map_err(io::Error::other)?;
    // Whatever a module does from here on, the process ends: SIGALRM's default action. The supervisor's deadline comes before this one, since it alone ends what a module has started.
    nix::unistd::alarm::set(setup.deadline_seconds.max(1));
    Ok(Worker { front: Channel::new(front), signer: Channel::new(signer), setup })
}
