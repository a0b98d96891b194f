//! Starting a signer: `serve` keeps one, the admin verbs and `check` start one for the moment when none is running.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Child;

use usshca_ipc::channel::Channel;
use usshca_ipc::layout::Layout;
use usshca_ipc::signer::{Control, FromSignerControl};

use crate::config::Config;
use crate::failure::Failure;

/// A signer that was started; not yet ready.
pub struct SignerProcess {
    /// The process. It dies with its parent.
    pub child: Child,
    /// Where it is told of fronts, workers and admins, and says that it is ready.
    pub control: Channel<Control, FromSignerControl>,
}

/// Starts a signer. `listener`: the listening admin socket, if it shall have one.
pub fn start(_layout: &Layout, _config: &Config, _listener: Option<OwnedFd>) -> Result<SignerProcess, Failure> {
    let _ = PathBuf::new();
    Err(Failure::internal("not there yet"))
}
