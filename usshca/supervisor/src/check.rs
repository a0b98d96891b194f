//! `usshca check`.

use usshca_ipc::layout::Layout;

use crate::failure::Failure;

/// Says whether `serve` would start.
pub fn run(_layout: &Layout) -> Result<(), Failure> {
    Err(Failure::internal("not there yet"))
}
