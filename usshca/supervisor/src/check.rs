//! `usshca check`: whether `serve` would start, and what stands in its way.

use std::io::{self, Write};

use serde_json::json;
use usshca_admin::json;
use usshca_ipc::layout::Layout;

use crate::admin;
use crate::cli::CheckArgs;
use crate::failure::Failure;
use crate::listen;
use crate::prepare::Base;
use crate::status;

/// What was found.
struct Findings {
    /// Whether it is all written down at the end, instead of now.
    json: bool,
    good: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn good(&mut self, text: String) {
        if !self.json {
            // Nothing can be done about a closed stdout here.
            let _ = writeln!(io::stdout(), "{text}");
        }
        self.good.push(text);
    }

    fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            if !self.json {
                let _ = writeln!(io::stderr(), "usshca: warning: {warning}");
            }
            self.warnings.push(warning);
        }
    }
}

/// Looks at all that `serve` looks at, the policy too while the CA runs; if it does not, starts a signer for a moment, which reads keys and inventory, and tries the addresses. Nothing on disk is changed, not even what the next start of the CA will mend there.
/// Warnings change the exit status (1) where `--strict` asks for that.
pub fn run(layout: &Layout, args: &CheckArgs) -> Result<(), Failure> {
    let mut findings = Findings { json: args.json, good: Vec::new(), warnings: Vec::new() };
    let looked = look(layout, &mut findings);
    if args.json {
        let error = looked.as_ref().err().map(|failure| &failure.message);
        let found = json!({ "good": findings.good, "warnings": findings.warnings, "error": error });
        let _ = io::stdout().write_all(json::line(&found).as_bytes());
    }
    looked?;
    match findings.warnings.len() {
        1.. if args.strict => Err(Failure::refused(format!("warnings: {}", findings.warnings.len()))),
        _ => Ok(()),
    }
}

fn look(layout: &Layout, findings: &mut Findings) -> Result<(), Failure> {
    let base = Base::load(layout)?;
    findings.good(format!("{}: good", layout.config.display()));
    base.check_pam_service()?;
    findings.good(format!("PAM service {}: there", base.config.pam_service));
    base.host_identity()?;
    findings.good(format!("{}: good, with a certificate that is valid now", layout.host_key.display()));
    findings.warn(base.warnings()?);
    findings.good(format!("{}: good", layout.policy.display()));
    let link = admin::Link::look(&base)?;
    if link.is_running() {
        findings.good(
            "CA keys, inventory and addresses: the running CA has them (it reads the configuration when it starts, and the policy and its own host certificate again on SIGHUP)"
                .to_owned(),
        );
        let report = status::report(layout)?;
        findings.warn(report.inventory_trouble.as_deref().map(status::inventory_complaint));
        findings.warn(report.key_troubles);
    } else {
        findings.warn(link.key_troubles()?);
        findings.good("CA keys and inventory: good".to_owned());
        listen::bind(&base)?;
        findings.good("addresses to listen on: free".to_owned());
    }
    findings.warn(admin::lost_serials(layout, &link)?);
    findings.warn(admin::outlook(layout, &link, &base.config)?);
    Ok(())
}
