//! Accounts and groups through NSS (so that LDAP, AD and SSSD count).

/// One account, from getpwnam_r or getpwuid_r.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The canonical name, `pw_name`.
    pub name: String,
    /// User ID.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: std::path::PathBuf,
    /// Login shell.
    pub shell: std::path::PathBuf,
}

impl Account {
    /// By name. `Ok(None)`: there is none.
    /// # Errors
    /// NSS failed: a check that could not be made.
    pub fn by_name(name: &str) -> std::io::Result<Option<Self>> {
        let _ = name;
        todo!()
    }
    /// By uid.
    /// # Errors
    /// NSS failed.
    pub fn by_uid(uid: u32) -> std::io::Result<Option<Self>> {
        let _ = uid;
        todo!()
    }
    /// All groups of this account (getgrouplist), primary one included.
    /// # Errors
    /// NSS failed.
    pub fn group_ids(&self) -> std::io::Result<Vec<u32>> {
        todo!()
    }
    /// Their names; a gid without a name is left out.
    /// # Errors
    /// NSS failed.
    pub fn group_names(&self) -> std::io::Result<Vec<String>> {
        todo!()
    }
}

/// gid of a group by name; `Ok(None)`: there is none.
/// # Errors
/// NSS failed.
pub fn group_id(name: &str) -> std::io::Result<Option<u32>> {
    let _ = name;
    todo!()
}
