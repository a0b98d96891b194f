//! Whether the policy is good. The signer's program reads it, which is the only one that understands it.

use ussh_os::account::group_id;

use crate::failure::Failure;
use crate::prepare::Base;
use crate::signer_process;

/// What an administrator should look at; a failure if the policy is no good. Works beside a CA that runs.
pub fn check(base: &Base) -> Result<Vec<String>, Failure> {
    let groups = signer_process::policy_groups(base)?;
    Ok(groups.iter().filter_map(|group| warning(base, group)).collect())
}

fn warning(base: &Base, group: &str) -> Option<String> {
    let policy = base.layout.policy.display();
    match group_id(group) {
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("{policy}: this machine knows no group {group:?}: nobody is in it")),
        Err(e) => Some(format!("{policy}: the group {group:?} could not be looked up: {e}")),
    }
}
