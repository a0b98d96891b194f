//! What a configuration names that is not there, or that does nothing: each is found out else when it is needed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ussh_core::record::SPOOL;
use ussh_os::account::Account;

use crate::config::{BreakGlassConfig, Config};

/// Sentences; empty: nothing.
pub fn problems(config: &Config) -> Vec<String> {
    let hook = (!config.break_glass.hook.is_empty()).then(|| of_hook(&config.break_glass));
    of_spool(&config.spool).into_iter().chain(hook.into_iter().flatten()).collect()
}

fn of_spool(spool: &Path) -> Option<String> {
    (spool != Path::new(SPOOL)).then(|| {
        format!(
            "spool: pam_ussh writes its records to {SPOOL} only: with {} no session is watched, and none ends",
            spool.display()
        )
    })
}

fn of_hook(config: &BreakGlassConfig) -> Vec<String> {
    let program = config.hook.first().and_then(|path| Some(format!("break_glass_hook: {path}: {}", of_program(path)?)));
    let user = match Account::by_name(&config.hook_user) {
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("break_glass_hook_user: there is no account {:?}", config.hook_user)),
        Err(e) => Some(format!("break_glass_hook_user: {:?}: {e}", config.hook_user)),
    };
    program.into_iter().chain(user).collect()
}

fn of_program(path: &str) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some("cannot be run: not a program, or not executable".into()),
        Err(e) => Some(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn what_is_not_there_or_does_nothing_is_named() {
        for (text, named) in [
            ("", vec![]),
            ("break_glass_hook_user = 'nosuch'", vec![]),
            ("break_glass_hook = ['/bin/true', 'x']", vec![]),
            ("break_glass_hook = ['/nope']", vec!["break_glass_hook: /nope: No such file"]),
            ("break_glass_hook = ['/etc/passwd']", vec!["break_glass_hook: /etc/passwd: cannot be run"]),
            ("break_glass_hook = ['/etc']", vec!["break_glass_hook: /etc: cannot be run"]),
            (
                "break_glass_hook = ['/bin/true']\nbreak_glass_hook_user = 'nosuch'",
                vec!["break_glass_hook_user: there is no account \"nosuch\""],
            ),
            ("spool = '/srv/x'", vec!["spool: pam_ussh writes its records to /run/ussh-hostd/sessions only"]),
        ] {
            let told = problems(&Config::parse(text, Path::new("t")).unwrap());
            assert_eq!(told.len(), named.len(), "{text}: {told:?}");
            assert!(told.iter().zip(named).all(|(told, named)| told.starts_with(named)), "{text}: {told:?}");
        }
    }
}
