//! The accounts without privilege, made when they are missing.

use std::path::Path;
use std::process::{Command, Stdio};

use ussh_os::account::Account;
use ussh_os::process;

use crate::config::Config;
use crate::failure::Failure;

/// Where nobody logs in.
const NOLOGIN: &str = "/usr/sbin/nologin";

/// Whom files are given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
}

/// The signer's account; `None` when an ordinary user runs the CA, who is all of it himself. Root makes both accounts if they are missing.
pub fn ensure(config: &Config) -> Result<Option<Owner>, Failure> {
    if process::effective_uid() != 0 {
        return Ok(None);
    }
    let signer = ensure_one(&config.signer_user)?;
    ensure_one(&config.front_user)?;
    Ok(Some(signer))
}

fn ensure_one(name: &str) -> Result<Owner, Failure> {
    if let Some(owner) = find(name)? {
        return Ok(owner);
    }
    make(name)?;
    find(name)?.ok_or_else(|| Failure::internal(format!("the account {name} was made, and is not there")))
}

fn find(name: &str) -> Result<Option<Owner>, Failure> {
    let found = Account::by_name(name).map_err(|e| Failure::internal(format!("looking up the account {name}: {e}")))?;
    Ok(found.map(|account| Owner { uid: account.uid, gid: account.gid }))
}

fn make(name: &str) -> Result<(), Failure> {
    let arguments =
        ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", NOLOGIN, name];
    let program = ["/usr/sbin/useradd", "/sbin/useradd"].into_iter().find(|p| Path::new(p).exists());
    let by_hand = || format!("make the account yourself: useradd {}", arguments.join(" "));
    let Some(program) = program else {
        return Err(Failure::config(format!("there is no account {name}, and no useradd; {}", by_hand())));
    };
    let made = Command::new(program).args(arguments).env_clear().stdin(Stdio::null()).output();
    match made {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = ussh_core::escape::escape(said.trim().as_bytes(), ussh_core::escape::MAX_FIELD);
            Err(Failure::internal(format!("useradd could not make the account {name}: {said}; {}", by_hand())))
        }
        Err(e) => Err(Failure::internal(format!("{program}: {e}; {}", by_hand()))),
    }
}
