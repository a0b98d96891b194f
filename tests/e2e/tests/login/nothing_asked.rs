//! When nothing is asked, and when nothing can be.

use ussh_e2e::lab::wait_until;

use super::{SOON, UNAVAILABLE, WORLD, answer, end, log_in, terminal};

#[test]
fn with_a_good_certificate_nothing_is_asked_and_nothing_is_issued() {
    let _watch = WORLD.lab().watch();
    log_in("jane");
    let before = WORLD.sh("laptop", "jane", "ssh-add -L").unwrap().stdout;
    // Without a terminal: a question would be an error.
    let ussh = WORLD.sh("laptop", "jane", "ussh web1 id -un").unwrap().ok().unwrap();
    assert_eq!((ussh.stdout.as_str(), ussh.stderr.as_str()), ("jane\n", ""));
    WORLD.sh("laptop", "jane", "ussh").unwrap().ok().unwrap();
    assert_eq!(WORLD.sh("laptop", "jane", "ssh-add -L").unwrap().stdout, before);
    assert_eq!(WORLD.rows_of("jane").unwrap().len(), 1);
}

#[test]
fn with_an_agent_out_of_reach_ussh_says_so_before_anybody_types_a_password() {
    let _watch = WORLD.lab().watch();
    let words = "no ssh-agent answers at SSH_AUTH_SOCK=/home/alice/.agent.sock";
    for arguments in ["web1 true", "--login", ""] {
        let (code, seen) =
            end(&terminal("theo", &format!("env SSH_AUTH_SOCK=/home/alice/.agent.sock ussh {arguments}")));
        assert_eq!(code, UNAVAILABLE, "{seen}");
        assert!(seen.contains(words) && seen.contains("eval \"$(ssh-agent)\""), "{seen}");
        assert!(!seen.contains("assword"), "{seen}");
    }
}

#[test]
fn without_forwarding_a_stock_client_is_told_what_to_do_and_nothing_is_issued() {
    let _watch = WORLD.lab().watch();
    let stock = terminal("theo", "exec ssh -a ca");
    answer(&stock, "assword:", WORLD.password("theo"));
    let (code, seen) = end(&stock);
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("No agent was forwarded") && seen.contains("ssh -A"), "{seen}");
    // PAM let theo in, and the inventory says why nothing came of it.
    let rows = WORLD.rows_of("theo").unwrap();
    let row = rows.first().unwrap();
    assert_eq!((rows.len(), row.authenticated.as_str()), (1, "pam (tried pam)"), "{rows:?}");
    assert_eq!((row.outcome.as_str(), row.serial), ("refused: no agent was forwarded", 0));
    assert_eq!(WORLD.sh("laptop", "theo", "ssh-add -l").unwrap().stdout, "The agent has no identities.\n");
}

#[test]
fn what_a_login_asked_for_is_known_when_nothing_came_of_it() {
    let _watch = WORLD.lab().watch();
    let position = WORLD.log_position("ca");
    for (command, code, outcome) in [
        ("ca for=ever", 64, Some("no such command: \"for=ever\"")),
        ("ca admin serve", 64, Some("only at the CA's machine: \"admin serve\"")),
        ("ca admin revoke --before noon", 64, Some("no such command: \"admin revoke --before noon\"")),
        ("-A ca sign </dev/null", 64, Some("no public key was given")),
        ("-A ca sign < ~/own.pub", 1, Some("the key is not in the agent")),
        ("-N ca", 255, Some("nothing was asked for")),
        ("ca help", 0, None),
        ("ca whoami", 0, None),
    ] {
        let before = WORLD.rows_of("nils").unwrap().len();
        let stock =
            terminal("nils", &format!("[ -e own ] || ssh-keygen -q -t ed25519 -N '' -f own; exec ssh {command}"));
        answer(&stock, "assword:", WORLD.password("nils"));
        let (status, seen) = end(&stock);
        assert_eq!(status, code, "{command}: {seen}");
        let expected = outcome.map(|outcome| format!("refused: {outcome}"));
        if expected.is_some() {
            wait_until(SOON, command, || WORLD.rows_of("nils").is_ok_and(|rows| rows.len() > before)).unwrap();
        }
        let rows = WORLD.rows_of("nils").unwrap();
        assert_eq!(rows.len() - before, usize::from(expected.is_some()), "{command}: {rows:?}");
        let newest = rows.first().filter(|_| expected.is_some()).map(|row| row.outcome.clone());
        assert_eq!(newest, expected, "{command}");
    }
    let log = WORLD.logged_since("ca", position).unwrap();
    assert!(log.contains("No certificate for nils from ") && log.contains(" by pam: no such command"), "{log}");
}

/// OpenSSH's own client refuses most of them; too long a one it sends.
#[test]
fn a_name_that_no_account_has_is_a_row() {
    let _watch = WORLD.lab().watch();
    let name = "n".repeat(300);
    let out = WORLD.sh("laptop", "theo", &format!("ssh -o NumberOfPasswordPrompts=1 -l {name} ca")).unwrap();
    assert_eq!(out.status.code(), 255, "{out}");
    let rows = WORLD.rows_of(&format!("{}...", &name[..61])).unwrap();
    assert_eq!((rows.len(), rows[0].outcome.as_str()), (1, "refused: impossible name"), "{rows:?}");
}
