//! `usshca check`: whether `serve` would start, and what stands in its way.

use std::io::{self, Write};

use usshca_ipc::layout::Layout;

use crate::admin;
use crate::failure::Failure;
use crate::listen;
use crate::prepare::Base;
use crate::signer_process;

/// Looks at all that `serve` looks at, the policy too while the CA runs; if it does not, starts a signer for a moment, which reads keys and inventory, and tries the addresses.
/// Warnings do not change the exit status.
pub fn run(layout: &Layout) -> Result<(), Failure> {
    let base = Base::load(layout)?;
    println!("{}: good", layout.config.display());
    base.check_pam_service()?;
    println!("PAM service {}: there", base.config.pam_service);
    base.host_identity()?;
    println!("{}: good, with a certificate that is valid now", layout.host_key.display());
    for warning in base.warnings()? {
        // Nothing can be done about a closed stderr here.
        let _ = writeln!(io::stderr(), "usshca: warning: {warning}");
    }
    println!("{}: good", layout.policy.display());
    if ussh_os::seqpacket::connect(&layout.admin_socket).is_ok() {
        println!(
            "CA keys, inventory and addresses: the running CA has them (it reads the configuration when it starts, and the policy again on SIGHUP)"
        );
        return warn_of_inventory(&base);
    }
    signer_process::start_ready(|| signer_process::start(&base))?.finish();
    println!("CA keys and inventory: good");
    listen::bind(&base)?;
    println!("addresses to listen on: free");
    warn_of_inventory(&base)
}

fn warn_of_inventory(base: &Base) -> Result<(), Failure> {
    let layout = &base.layout;
    for warning in admin::lost_serials(layout)?.into_iter().chain(admin::outlook(layout, &base.config)?) {
        // Nothing can be done about a closed stderr here.
        let _ = writeln!(io::stderr(), "usshca: warning: {warning}");
    }
    Ok(())
}
