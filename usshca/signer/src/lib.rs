//! `usshca-signer`: holds the CA keys, the policy and the inventory, and alone signs.
//!
//! Process: one. uid: its own, no network, no capability, a seccomp filter.
//! Trusted: the supervisor (control channel) and the state folder. Untrusted: everything that a front says; a PAM worker is believed by its kernel-attested identity.
#![forbid(unsafe_code)]

mod admin;
mod ca;
mod ca_key;
mod ca_keys;
mod counts;
pub mod explain;
mod feed;
mod host_admin;
mod inventory;
mod log;
pub mod policy;
mod refused;
mod registered;
mod server;
mod side_job;
mod signing;
mod state;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::process::ExitCode;

use ussh_core::clock::{Clock, SystemClock};
use ussh_os::process;
use ussh_os::resident::{give_back_start_up, scrub_and_give_back_stack};
use ussh_os::sandbox::{self, Profile};
use ussh_os::seqpacket::{SeqPacket, SeqPacketListener};
use usshca_ipc::by_hand;
use usshca_ipc::channel::{Channel, ChannelError, decode};
use usshca_ipc::signer::{FromSignerControl, SideJob, SignerSetup, descriptors};
use zeroize::Zeroizing;

use crate::ca::Ca;
use crate::ca_key::CaKeyError;
use crate::ca_keys::CaKeys;
use crate::feed::FeedKeeper;
use crate::inventory::{Inventory, InventoryError};
use crate::policy::{Policy, PolicyError};
use crate::server::{ControlChannel, ServeError, Server};
use crate::state::{StateError, StateFolder};

/// Longest setup, in bytes (most of it is the policy).
const MAX_SETUP: u64 = 4 * 1024 * 1024;

/// Why the signer cannot serve.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{0}")]
    Keys(#[from] CaKeyError),
    #[error("{0}")]
    Policy(#[from] PolicyError),
    #[error("{0}")]
    Inventory(#[from] InventoryError),
    #[error("{0}")]
    Serve(#[from] ServeError),
    #[error("setup: {0}")]
    Setup(io::Error),
    #[error("setup {0}")]
    SetupMessage(ChannelError),
    #[error("cannot protect its memory: {0}")]
    Harden(io::Error),
    #[error("cannot enter the sandbox: {0}")]
    Sandbox(io::Error),
}

/// The program. It is a library too, so that the policy and the event loop can be fuzzed.
pub fn main() -> ExitCode {
    if let Some(complaint) = by_hand::complaint("usshca-signer") {
        // Nothing can be done about a closed stderr here.
        let _ = io::stderr().write_all(complaint.as_bytes());
        return ExitCode::from(by_hand::EX_USAGE);
    }
    let control = match control_channel() {
        Ok(control) => control,
        Err(e) => {
            log::warning(&format!("there is no supervisor: {e}; `usshca serve` starts this program"));
            return ExitCode::FAILURE;
        }
    };
    match start_and_serve(control) {
        Ok(code) => code,
        Err(e) => {
            log::warning(&format!("cannot serve: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn control_channel() -> io::Result<SeqPacket> {
    let socket = SeqPacket::from_fd(process::inherited_descriptor(descriptors::CONTROL)?)?;
    socket.attest_sender()?;
    Ok(socket)
}

fn start_and_serve(socket: SeqPacket) -> Result<ExitCode, StartError> {
    let control: ControlChannel = Channel::new(socket);
    let started = read_setup().and_then(|setup| {
        if !setup.listens {
            // Of one verb on somebody's terminal: what they need to know is in the answer.
            log::of_one_verb();
        }
        match setup.side_job {
            Some(SideJob::Backup) => return side_job::back_up(&setup, &control).map(|()| None),
            Some(SideJob::Judge) => return side_job::judge(&setup, &control).map(|()| None),
            Some(SideJob::Look) | None => {}
        }
        if setup.only_policy { tell_policy(&setup, &control).map(|()| None) } else { start(setup).map(Some) }
    });
    match started {
        Ok(None) => Ok(ExitCode::SUCCESS),
        Ok(Some((state, setup, ca, listener))) => {
            if listener.is_some() {
                // It stands and waits from here on.
                give_back_start_up();
            }
            let ready = control.send(&FromSignerControl::Ready);
            ready.map_err(ServeError::from)?;
            let served = Server::new(ca, &setup, control, listener)?.run();
            // Until here nobody else works on this state.
            drop(state);
            served?;
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => {
            let text = e.to_string();
            let is_busy = matches!(&e, StartError::State(StateError::InUse(_)));
            if let StartError::Keys(CaKeyError::Passphrase { name, wrong }) = &e {
                let needs = FromSignerControl::NeedsPassphrase { key: name.clone(), wrong: *wrong };
                control.send(&needs).map_err(|_| e)?;
                return Ok(ExitCode::FAILURE);
            }
            let why = if is_busy { FromSignerControl::Busy } else { FromSignerControl::Failed }(text.clone());
            control.send(&why).map_err(|_| e)?;
            log::told(&format!("cannot serve: {text}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The event loop in this process, on the new state in the setup's folder, until the other end of `control`, which must be attested, closes: for the fuzzer, which wants to see what its bytes reach. In no sandbox.
/// # Errors
/// Why it cannot serve, in words.
pub fn serve_here(setup: &SignerSetup, control: SeqPacket) -> Result<(), String> {
    let served = || -> Result<(), StartError> {
        let state = StateFolder::open(&setup.state)?;
        let keys = CaKeys::load(&state, &setup.keys.passphrases, &setup.keys.others)?;
        let feed = FeedKeeper::load(&state, &keys, &setup.keys)?;
        let inventory = Inventory::create(&state.file("inventory.db"))?;
        let ca = Ca::new(keys, Policy::of(&setup.policy)?, inventory, Box::new(SystemClock)).with_feed(feed);
        Ok(Server::new(ca, setup, Channel::new(control), None)?.run()?)
    };
    served().map_err(|e| e.to_string())
}

type Started = (StateFolder, SignerSetup, Ca, Option<SeqPacketListener>);

/// Says whether the policy is good, and which groups it names. No lock, no key and no inventory is touched.
fn tell_policy(setup: &SignerSetup, control: &ControlChannel) -> Result<(), StartError> {
    let policy = Policy::of(&setup.policy)?;
    for ((is_group, name), place) in policy.names() {
        let name = FromSignerControl::PolicyName { is_group, name: name.to_owned(), place };
        control.send(&name).map_err(ServeError::from)?;
    }
    for warning in policy.lint() {
        control.send(&FromSignerControl::PolicyWarning(warning)).map_err(ServeError::from)?;
    }
    Ok(control.send(&FromSignerControl::PolicyGood).map_err(ServeError::from)?)
}

fn start(mut setup: SignerSetup) -> Result<Started, StartError> {
    let listener = match setup.listens {
        true => Some(listening_socket().map_err(StartError::Setup)?),
        false => None,
    };
    process::harden_memory().map_err(StartError::Harden)?;
    let looks = setup.side_job == Some(SideJob::Look);
    let state = if looks { StateFolder::open_to_look(&setup.state)? } else { StateFolder::open(&setup.state)? };
    let keys = CaKeys::load(&state, &setup.keys.passphrases, &setup.keys.others)?;
    let feed = FeedKeeper::load(&state, &keys, &setup.keys)?;
    setup.keys.passphrases.clear();
    scrub_and_give_back_stack::<{ 512 * 1024 }>();
    let path = state.file("inventory.db");
    let inventory = match setup.creates {
        true => Inventory::create(&path)?,
        false if looks => Inventory::look(&path, SystemClock.now())?,
        false => Inventory::open(&path, SystemClock.now())?,
    };
    if setup.listens {
        // A verb may have been the first to see it: whoever starts the CA and reads its log shall find it there, each time until it is settled.
        for lost in inventory.lost_serials()?.iter().filter(|lost| !lost.revoked) {
            log::warning(&format!(
                "an older inventory was put back: certificates with the serials {first} to {last} may have been issued and are unknown here; revoke what nobody can account for: usshca revoke --serials {first}-{last}",
                first = lost.first,
                last = lost.last
            ));
        }
    }
    let policy = Policy::of(&setup.policy)?;
    sandbox::enter(Profile::Signer).map_err(StartError::Sandbox)?;
    let ca = Ca::new(keys, policy, inventory, Box::new(SystemClock)).with_feed(feed);
    Ok((state, setup, ca, listener))
}

fn read_setup() -> Result<SignerSetup, StartError> {
    let file = process::inherited_descriptor(descriptors::SETUP).map_err(StartError::Setup)?;
    let mut file = File::from(file);
    let size = file.metadata().map_err(StartError::Setup)?.len().min(MAX_SETUP);
    // Room for all of it at once: a vector that grows leaves copies behind, and there may be passphrases in it.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1)));
    (&mut file).take(MAX_SETUP).read_to_end(&mut bytes).map_err(StartError::Setup)?;
    let setup: SignerSetup = decode(&bytes).map_err(StartError::SetupMessage)?;
    // Nor shall they stay in the file in memory.
    if !setup.keys.passphrases.is_empty() {
        let wipe = file.rewind().and_then(|()| io::copy(&mut io::repeat(0).take(size), &mut file));
        wipe.map_err(StartError::Setup)?;
    }
    Ok(setup)
}

fn listening_socket() -> io::Result<SeqPacketListener> {
    SeqPacketListener::from_fd(process::inherited_descriptor(descriptors::ADMIN)?)
}
