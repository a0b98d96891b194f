//! Accounts and groups through NSS (so that LDAP, AD and SSSD count).
//!
//! Trusted: what NSS answers. A name that is no UTF-8 is an error, never a name with replacement characters.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

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
    pub fn by_name(name: &str) -> io::Result<Option<Self>> {
        User::from_name(name)?.map(Self::from_passwd).transpose()
    }

    /// By uid.
    /// # Errors
    /// NSS failed.
    pub fn by_uid(uid: u32) -> io::Result<Option<Self>> {
        User::from_uid(Uid::from_raw(uid))?.map(Self::from_passwd).transpose()
    }

    /// All groups of this account (getgrouplist), primary one included.
    /// # Errors
    /// NSS failed.
    pub fn group_ids(&self) -> io::Result<Vec<u32>> {
        let name = CString::new(self.name.as_str())?;
        let groups = getgrouplist(&name, Gid::from_raw(self.gid))?;
        Ok(groups.into_iter().map(Gid::as_raw).collect())
    }

    /// Their names; a gid without a name is left out.
    /// # Errors
    /// NSS failed, or a name is no UTF-8.
    pub fn group_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for gid in self.group_ids()? {
            if let Some(group) = Group::from_gid(Gid::from_raw(gid))? {
                names.push(whole(group.name)?);
            }
        }
        Ok(names)
    }

    fn from_passwd(user: User) -> io::Result<Self> {
        Ok(Account {
            name: whole(user.name)?,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            shell: user.shell,
        })
    }
}

/// gid of a group by name; `Ok(None)`: there is none.
/// # Errors
/// NSS failed.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// nix turns names lossily into strings: one with a replacement character may stand for several, and an empty one for none.
fn whole(name: String) -> io::Result<String> {
    if name.is_empty() || name.contains(char::REPLACEMENT_CHARACTER) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a name in the account database is empty or not UTF-8"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn finds_root_by_name_and_uid() {
        let root = Account::by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(Account::by_uid(0).unwrap().unwrap(), root);
        assert!(root.group_ids().unwrap().contains(&0));
        assert!(root.group_names().unwrap().contains(&"root".to_owned()));
    }

    #[test]
    fn unknown_names_are_none_not_errors() {
        assert_eq!(Account::by_name("no-such-account").unwrap(), None);
        assert_eq!(Account::by_name("").unwrap(), None);
        assert_eq!(Account::by_name("ro\0ot").unwrap(), None);
        assert_eq!(group_id("no-such-group").unwrap(), None);
    }

    #[test]
    fn group_by_name() {
        assert_eq!(group_id("root").unwrap(), Some(0));
    }

    #[test]
    fn refuses_a_name_that_was_not_utf8() {
        assert!(whole("ali\u{fffd}ce".to_owned()).is_err());
        assert!(whole(String::new()).is_err());
        assert_eq!(whole("alice".to_owned()).unwrap(), "alice");
    }
}
