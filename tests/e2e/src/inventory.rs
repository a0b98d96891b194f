//! What `usshca list` says of every certificate.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use ussh_lab::LabError;

use crate::world::{CA_DIR, World};

/// One row of the CA's inventory, as `usshca list --json` shows it; what no test asks for is left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// 0 for a refusal.
    #[serde(deserialize_with = "from_text")]
    pub serial: u64,
    /// `user` or `host`.
    pub kind: String,
    /// Whom it names.
    pub key_id: String,
    /// Principals.
    pub principals: Vec<String>,
    /// Address it was asked from.
    pub from: String,
    /// By what: `pam`, `admin uid 0`.
    pub authenticated: String,
    /// The rule that decided.
    pub rule: String,
    /// `reserved`, `signed`, `delivered`, `undelivered: why`, `refused: why`.
    pub outcome: String,
    /// Seconds since the epoch, if revoked.
    pub revoked: Option<u64>,
    /// How often the same login was refused; 1 for all other rows.
    pub count: u64,
}

impl Row {
    /// Whether PAM or a key refused the login, so that policy was never asked.
    pub fn is_refused_login(&self) -> bool {
        self.serial == 0 && self.authenticated.contains("(tried ")
    }
}

/// JSON's numbers lose digits of a serial in many readers, so that it is text.
fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

impl World {
    /// All rows of the inventory, newest first.
    ///
    /// # Errors
    /// `usshca list` failed, or shows what is no row.
    pub fn inventory(&self) -> Result<Vec<Row>, LabError> {
        self.inventory_in("root", CA_DIR)
    }

    /// The same of another CA on `ca`: `user` runs it, in this folder.
    ///
    /// # Errors
    /// As [`World::inventory`].
    pub fn inventory_in(&self, user: &str, directory: &str) -> Result<Vec<Row>, LabError> {
        let listed = self.host("ca").run_as(user, ["/usr/sbin/usshca", "--dir", directory, "list", "--json"])?.ok()?;
        let row = |line: &str| {
            serde_json::from_str(line)
                .map_err(|error| LabError::Setup { what: format!("usshca list: {error}"), log: line.to_owned() })
        };
        listed.stdout.lines().map(row).collect()
    }

    /// The rows of one person's user certificates, newest first.
    ///
    /// # Errors
    /// As [`World::inventory`].
    pub fn rows_of(&self, user: &str) -> Result<Vec<Row>, LabError> {
        let mut rows = self.inventory()?;
        rows.retain(|row| row.kind == "user" && row.key_id == user);
        Ok(rows)
    }
}
