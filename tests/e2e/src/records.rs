//! What a server holds and has logged of its logins.

use serde_json::Value;
use ussh_lab::LabError;

use crate::world::World;

/// Where the module writes the records of connections.
pub const SPOOL: &str = "/run/ussh-hostd/sessions";

impl World {
    /// The records on a server that are of this user's connections.
    ///
    /// # Errors
    /// The spool cannot be listed.
    pub fn session_records(&self, server: &str, user: &str) -> Result<Vec<Value>, LabError> {
        let host = self.host(server);
        let names = host.list_folder(SPOOL)?;
        let names = names.into_iter().filter(|name| !name.starts_with('.') && name.ends_with(".json"));
        // One that is gone again is none.
        let texts = names.filter_map(|name| host.read_file(&format!("{SPOOL}/{name}")).ok());
        let records = texts.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
        Ok(records.filter(|record| record["user"] == user).collect())
    }

    /// The lines that pam_ussh has logged of this user's logins since that position, without what syslog puts in front.
    ///
    /// # Errors
    /// The server's syslog takes nothing any more.
    pub fn said_of_logins(&self, server: &str, user: &str, since: usize) -> Result<Vec<String>, LabError> {
        let by = format!(" for {user} via sshd ");
        let log = self.logged_since(server, since)?;
        let ours = log.lines().filter_map(|line| Some(line.split_once("pam_ussh[")?.1.split_once("]: ")?.1));
        Ok(ours.filter(|line| line.contains(&by)).map(str::to_owned).collect())
    }
}
