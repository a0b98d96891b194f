//! When nothing is asked, and when nothing can be.

use super::{UNAVAILABLE, WORLD, answer, assert_nothing_issued, end, log_in, terminal};

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
    assert_nothing_issued("theo");
}
