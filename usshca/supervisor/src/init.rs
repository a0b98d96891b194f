//! `usshca init`.

use usshca_ipc::layout::Layout;

use crate::cli::InitArgs;
use crate::failure::Failure;

/// Makes a working CA.
pub fn run(_layout: &Layout, _args: &InitArgs) -> Result<(), Failure> {
    Err(Failure::internal("not there yet"))
}
