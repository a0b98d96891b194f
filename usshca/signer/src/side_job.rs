//! What this program does beside the signer that serves: it takes no lock, reads no key, and ends when it is done.

use std::fs::File;

use ussh_core::clock::{Clock, SystemClock};
use ussh_os::process;
use ussh_os::sandbox::{self, Profile};
use usshca_ipc::channel::ChannelError;
use usshca_ipc::signer::{Control, FromSignerControl, SignerSetup, descriptors};

use crate::StartError;
use crate::explain::explain;
use crate::inventory::backup::{self, Copied};
use crate::policy::Policy;
use crate::server::{ControlChannel, ServeError};

/// Copies the inventory.
pub fn back_up(setup: &SignerSetup, control: &ControlChannel) -> Result<(), StartError> {
    let pipe = File::from(process::inherited_descriptor(descriptors::ADMIN).map_err(StartError::Setup)?);
    process::harden_memory().map_err(StartError::Harden)?;
    sandbox::enter(Profile::Signer).map_err(StartError::Sandbox)?;
    // Its end is the copy's end.
    let Copied { bytes, rows } = backup::copy(&setup.state.join("inventory.db"), pipe)?;
    Ok(control.send(&FromSignerControl::Copied { bytes, rows }).map_err(ServeError::from)?)
}

/// Judges by a policy until it is asked no more.
pub fn judge(setup: &SignerSetup, control: &ControlChannel) -> Result<(), StartError> {
    let policy = Policy::of(&setup.policy)?;
    sandbox::enter(Profile::Signer).map_err(StartError::Sandbox)?;
    control.send(&FromSignerControl::PolicyGood).map_err(ServeError::from)?;
    loop {
        match control.receive(None).map(|received| received.message) {
            Ok(Control::Judge(supposed)) => {
                let judged = explain(&policy, &supposed, SystemClock.now()).map(Box::new);
                control.send(&FromSignerControl::Judged(judged)).map_err(ServeError::from)?;
            }
            Ok(_) => return Err(ServeError::Control(ChannelError::Malformed).into()),
            Err(ChannelError::Closed) => return Ok(()),
            Err(e) => return Err(ServeError::from(e).into()),
        }
    }
}
