//! `usshca serve`.

use usshca_ipc::layout::Layout;

use crate::cli::ServeArgs;
use crate::failure::Failure;

/// Runs the CA.
pub fn run(_layout: &Layout, _args: &ServeArgs) -> Result<(), Failure> {
    Err(Failure::internal("not there yet"))
}
