//! `usshca check`: whether `serve` would start, and what stands in its way.

use usshca_ipc::layout::Layout;

use crate::failure::Failure;
use crate::prepare::Base;
use crate::signer_process;

/// Looks at all that `serve` looks at, in the same order; starts a signer for a moment, which reads policy, keys and inventory.
pub fn run(layout: &Layout) -> Result<(), Failure> {
    let base = Base::load(layout)?;
    println!("{}: good", layout.config.display());
    base.check_pam_service()?;
    println!("PAM service {}: there", base.config.pam_service);
    base.host_identity()?;
    println!("{}: good, with a certificate that is valid now", layout.host_key.display());
    if ussh_os::seqpacket::connect(&layout.admin_socket).is_ok() {
        println!(
            "CA keys, policy and inventory: a signer is at work on them (a changed policy is read at the next start)"
        );
        return Ok(());
    }
    let signer = signer_process::start(&base, None)?;
    let ready = signer.wait_ready();
    signer.finish();
    ready?;
    println!("{}: good; CA keys and inventory: good", layout.policy.display());
    Ok(())
}
