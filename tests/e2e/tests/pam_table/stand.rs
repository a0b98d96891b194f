//! A CA of a row's own: all rows stand side by side on one host, so that one may wait while the others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use ussh_e2e::Row as Entry;
use ussh_e2e::lab::{LabError, Process};

use super::{SOON, TEMPLATE, WORLD};

/// First port.
const PORTS: u16 = 2201;
/// Whom everybody in the table trusts to have a good password.
const OTHER: &str = "alice";
/// PAM as it should be.
const PLAIN: &str = "@include common-auth\n@include common-account\n@include common-password\n";

/// A CA that serves.
pub struct Stand {
    /// Where.
    pub port: u16,
    /// Whose account the row is about: on the laptop with an agent, on the CA with the password `secret`.
    pub who: String,
    directory: String,
    service: String,
    process: Arc<Process>,
}

impl Stand {
    /// With this PAM stack, after this has run on the CA's host.
    pub fn start(stack: &str, prepare: &str, grace: u32) -> Result<Self, LabError> {
        static NUMBERS: AtomicU16 = AtomicU16::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (port, who) = (PORTS + number, WORLD.somebody()?);
        let (directory, service) = (format!("/var/lib/row-{number}"), format!("row-{number}"));
        let ca = WORLD.host("ca");
        // The same CA, with an inventory of its own.
        ca.script(&format!(
            "cp -a {TEMPLATE} {directory}; \
             sed -i -e 's/^listen = .*/listen = [\"0.0.0.0:{port}\"]/' {directory}/usshca.toml; \
             echo 'pam_service = \"{service}\"' >> {directory}/usshca.toml; \
             echo 'login_grace_seconds = {grace}' >> {directory}/usshca.toml"
        ))?;
        ca.write_file(&format!("/etc/pam.d/{service}"), 0o644, stack)?;
        if !prepare.is_empty() {
            ca.script(&format!("WHO={who} STAND={directory}\n{prepare}"))?;
        }
        let process = ca.command(["usshca", "--dir", &directory, "serve"]).service(&service)?;
        process.wait_for_output("listening on", SOON)?;
        Ok(Stand { port, who, directory, service, process })
    }

    /// Its inventory, newest first; without the certificate of the CA's own host key.
    pub fn rows(&self) -> Result<Vec<Entry>, LabError> {
        let mut rows = WORLD.inventory_in("root", &self.directory)?;
        rows.retain(|row| row.kind == "user");
        Ok(rows)
    }

    /// What it has said on its standard error.
    pub fn said(&self) -> String {
        self.process.stderr()
    }

    /// The very same daemon lets somebody else in once PAM is as it should be. What is wrong, if it does not.
    pub fn serves_on(&self) -> Option<String> {
        let good = || -> Result<(), LabError> {
            let ca = WORLD.host("ca");
            ca.write_file(&format!("/etc/pam.d/{}", self.service), 0o644, PLAIN)?;
            let script = format!("exec ssh -A -o NumberOfPasswordPrompts=1 -p {} -l {OTHER} ca", self.port);
            WORLD.unattended(&self.who, WORLD.password(OTHER), &script)?.wait(SOON)?.ok()?;
            Ok(())
        };
        if let Err(error) = good() {
            return Some(format!("afterwards nobody gets in: {error}\nthe CA: {}", self.said()));
        }
        let issued =
            self.rows().ok().and_then(|rows| rows.first().map(|row| (row.key_id.clone(), row.outcome.clone())));
        let expected = (OTHER.to_owned(), "delivered".to_owned());
        match self.process.status() {
            Ok(None) if issued.as_ref() == Some(&expected) => None,
            other => Some(format!("afterwards: {other:?}, {issued:?}")),
        }
    }
}
