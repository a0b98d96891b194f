//! Admin verbs.

use usshca_ipc::layout::Layout;

use crate::cli::AdminCommand;
use crate::failure::Failure;

/// Runs one verb.
pub fn run(_layout: &Layout, _verb: AdminCommand) -> Result<(), Failure> {
    Err(Failure::internal("not there yet"))
}
