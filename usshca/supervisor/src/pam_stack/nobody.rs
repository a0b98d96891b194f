//! What a stack does with somebody who proves nothing: its `auth` lines are gone through as libpam does (pam_dispatch.c, `_pam_dispatch_aux`), with every module that asks for a proof saying no.

use std::path::Path;

use super::{MAX_DEPTH, lines, module_name, read, words};

/// Modules that say yes to everybody who asks at a usual time: they set something up, wait, or look at other things than who it is.
const ASK_NOTHING: [&str; 8] =
    ["pam_permit", "pam_env", "pam_faildelay", "pam_nologin", "pam_warn", "pam_echo", "pam_group", "pam_faillock"];

/// A line, or the lines of a substack, in which `die` and `done` end no more than it.
enum Item {
    Call { control: String, passes: bool },
    Substack(Vec<Item>),
}

/// As libpam calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Impression {
    Undefined,
    Positive,
    Negative,
}

#[derive(Clone, Copy)]
enum Action {
    Ignore,
    Bad,
    Die,
    Ok,
    Done,
    Reset,
    Jump(usize),
}

/// A warning if whoever proves nothing is let in.
pub fn complaint(folders: &[&Path], service: &str) -> Option<String> {
    let mut items = Vec::new();
    collect(folders, service, MAX_DEPTH, &mut items);
    let mut impression = Impression::Undefined;
    run(&items, &mut impression);
    let everybody = || {
        format!(
            "the PAM service {service} lets everybody in: no auth line that must pass asks for a proof of who it is"
        )
    };
    (impression == Impression::Positive).then(everybody)
}

fn collect(folders: &[&Path], name: &str, depth: usize, items: &mut Vec<Item>) {
    let Some((_, text)) = read(folders, name).filter(|_| depth > 0) else { return };
    for (_, line) in lines(&text) {
        let words = words(&line);
        let mut words = words.iter().map(String::as_str);
        match words.next().map(|kind| kind.trim_start_matches('-').to_ascii_lowercase()).as_deref() {
            Some("@include") => words.next().into_iter().for_each(|file| collect(folders, file, depth - 1, items)),
            Some("auth") => match (words.next(), words.next()) {
                (Some("include"), Some(file)) => collect(folders, file, depth - 1, items),
                (Some("substack"), Some(file)) => {
                    let mut inner = Vec::new();
                    collect(folders, file, depth - 1, &mut inner);
                    items.push(Item::Substack(inner));
                }
                (Some(control), Some(module)) => items.push(Item::Call {
                    control: control.to_ascii_lowercase(),
                    passes: ASK_NOTHING.contains(&module_name(module)),
                }),
                _ => {}
            },
            _ => {}
        }
    }
}

/// False: it has ended before its last line.
fn run(items: &[Item], impression: &mut Impression) -> bool {
    let mut skip = 0;
    for item in items {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let (control, passes) = match item {
            Item::Substack(inner) => {
                run(inner, impression);
                continue;
            }
            Item::Call { control, passes } => (control, *passes),
        };
        let positive = if *impression == Impression::Negative { Impression::Negative } else { Impression::Positive };
        match action(control, passes) {
            Action::Ignore => {}
            Action::Reset => *impression = Impression::Undefined,
            Action::Bad => *impression = Impression::Negative,
            Action::Die => {
                *impression = Impression::Negative;
                return false;
            }
            // A failure that is `ok` becomes the answer of the stack unless there was one before.
            Action::Ok | Action::Done if !passes => {
                if *impression == Impression::Undefined {
                    *impression = Impression::Negative;
                }
            }
            Action::Ok => *impression = positive,
            Action::Done => {
                *impression = positive;
                if positive == Impression::Positive {
                    return false;
                }
            }
            Action::Jump(lines) => {
                skip = lines;
                if passes {
                    *impression = positive;
                }
            }
        }
    }
    true
}

/// pam.conf(5): the four words are short for lists. A failure is PAM_AUTH_ERR.
fn action(control: &str, passes: bool) -> Action {
    let list = match control {
        "required" => "success=ok default=bad",
        "requisite" => "success=ok default=die",
        "sufficient" => "success=done default=ignore",
        "optional" => "success=ok default=ignore",
        list => list.trim_matches(['[', ']']),
    };
    let pairs = || list.split_whitespace().filter_map(|pair| pair.split_once('='));
    let value = if passes { "success" } else { "auth_err" };
    let find = |name: &str| pairs().rfind(|(key, _)| *key == name).map(|(_, action)| action);
    match find(value).or_else(|| find("default")) {
        Some("ignore") => Action::Ignore,
        Some("ok") => Action::Ok,
        Some("done") => Action::Done,
        Some("die") => Action::Die,
        Some("reset") => Action::Reset,
        Some(other) => other.parse().map_or(Action::Bad, Action::Jump),
        None => Action::Bad,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn lets_everybody_in(stack: &str, common: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("usshca"), stack).unwrap();
        std::fs::write(folder.path().join("common"), common).unwrap();
        complaint(&[folder.path()], "usshca").is_some()
    }

    #[test]
    fn a_stack_in_which_nothing_that_must_pass_asks_for_a_proof_is_found() {
        for stack in [
            "auth sufficient pam_permit.so\nauth required pam_unix.so",
            "auth required pam_permit.so",
            "auth optional pam_unix.so\nauth required pam_permit.so",
            "auth [success=done default=ignore] pam_permit.so\nauth requisite pam_deny.so",
            "auth [success=1 default=ignore] pam_unix.so\nauth optional pam_deny.so\nauth required pam_permit.so",
            "auth required pam_env.so\nauth sufficient pam_unix.so\n",
            "@include common\nauth required pam_unix.so",
            "auth include common\nauth required pam_unix.so",
            "auth required pam_env.so\nauth substack common\n",
        ] {
            assert!(lets_everybody_in(stack, "auth sufficient pam_permit.so"), "{stack}");
        }
    }

    #[test]
    fn a_stack_that_asks_somewhere_is_not() {
        for stack in [
            "auth required pam_unix.so",
            "auth sufficient pam_unix.so\nauth required pam_deny.so",
            "auth sufficient pam_unix.so\n",
            "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\nauth optional pam_cap.so",
            "auth [success=2 default=ignore] pam_unix.so\nauth [success=1 default=ignore] pam_ldap.so\nauth requisite pam_deny.so\nauth required pam_permit.so",
            "auth required pam_faillock.so preauth\nauth [success=1 default=bad] pam_unix.so\nauth [default=die] pam_faillock.so authfail\nauth sufficient pam_faillock.so authsucc",
            "auth required pam_unix.so\nauth sufficient pam_permit.so",
            "auth substack common\nauth required pam_unix.so",
            "account sufficient pam_permit.so",
            "auth required pam_unix.so\nauth [success=reset default=ignore] pam_unix.so",
            "",
        ] {
            assert!(!lets_everybody_in(stack, "auth sufficient pam_permit.so"), "{stack}");
        }
    }
}
