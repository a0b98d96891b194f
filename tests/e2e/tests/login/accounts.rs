//! Whom PAM lets in, and what the others get to read.

use std::time::{Duration, Instant};

use ussh_e2e::WorldPlan;
use ussh_e2e::lab::Pty;

use super::{SOON, UNAVAILABLE, WORLD, answer, assert_refused_by_pam, end, terminal};

/// PAM asks for 2 s after a failure, and libpam makes that anything from half to one and a half of it (pam_delay.c).
const SHORTEST_DELAY: Duration = Duration::from_millis(900);

#[test]
fn a_wrong_password_gets_no_certificate_and_the_user_is_told_so() {
    let _watch = WORLD.lab().watch();
    let ussh = terminal("walt", "ussh web1 true");
    for _ in 0..3 {
        answer(&ussh, "assword:", "not the password");
    }
    let (code, seen) = end(&ussh);
    assert_eq!(code, UNAVAILABLE, "{seen}");
    assert!(seen.contains("Permission denied"), "{seen}");
    assert!(seen.contains("ussh: the login at the CA ca as walt failed"), "{seen}");
    assert!(!seen.contains("not the password"), "it was echoed: {seen}");
    assert_refused_by_pam("walt");
}

#[test]
fn a_refusal_does_not_say_whether_name_password_or_account_was_wrong() {
    let _watch = WORLD.lab().watch();
    let cases = [
        ("walt", "not the password", "wrong password"),
        ("nobody-of-that-name", "password of walt", "unknown user"),
        ("lena", "password of lena", "right password of a locked account"),
        ("erik", "not the password", "wrong password of an expired account"),
        ("nora", "not the password", "wrong password of somebody to whom policy gives nothing"),
    ];
    let begin = |(name, password, why)| {
        let stock = terminal("walt", &format!("exec ssh -A -o NumberOfPasswordPrompts=1 -l {name} ca"));
        answer(&stock, "assword:", password);
        (stock, Instant::now(), name, why)
    };
    let read: Vec<(i32, String)> = cases.map(begin).iter().map(|(s, t, name, why)| seen_by(s, *t, name, why)).collect();
    assert_eq!(read[0].0, 255, "{read:?}");
    for ((_, _, why), read_here) in cases.iter().zip(&read) {
        assert_eq!(read_here, &read[0], "{why} reads otherwise");
    }
}

/// Exit code and text with the name taken out, once PAM's delay is over.
fn seen_by(stock: &Pty, answered: Instant, name: &str, why: &str) -> (i32, String) {
    let (code, seen) = end(stock);
    assert!(answered.elapsed() >= SHORTEST_DELAY, "{why}: refused after {:?}", answered.elapsed());
    (code, seen.replace(name, "NAME"))
}

#[test]
fn an_account_without_a_password_is_kept_out_although_pam_unix_says_nullok() {
    let _watch = WORLD.lab().watch();
    let ca = WORLD.host("ca");
    assert!(ca.script("cat /etc/pam.d/common-auth").unwrap().stdout.contains("pam_unix.so nullok"));
    // Whoever asks PAM without PAM_DISALLOW_NULL_AUTHTOK lets anybody be her.
    let su = ca.command(["su", "-c", "id -un", "nina"]).user("walt").run().unwrap().ok().unwrap();
    assert_eq!(su.stdout, "nina\n");
    let ussh = terminal("nina", "ussh --login");
    for _ in 0..3 {
        answer(&ussh, "assword:", "");
    }
    let (code, seen) = end(&ussh);
    assert_eq!(code, UNAVAILABLE, "{seen}");
    assert!(seen.contains("Permission denied"), "{seen}");
    assert_refused_by_pam("nina");
}

#[test]
fn pam_rootok_lets_everybody_in_and_check_says_so() {
    let world = WorldPlan::new("rootok").without_servers().start().unwrap();
    let _watch = world.lab().watch();
    let check = || world.usshca("check").unwrap().ok().unwrap().stderr;
    assert_eq!(check(), "");
    world.host("ca").script("sed -i '1i auth sufficient pam_rootok.so' /etc/pam.d/usshca").unwrap();
    let said = check();
    assert!(said.contains("warning: /etc/pam.d/usshca:1: pam_rootok lets everybody in"), "{said}");
    // Nothing is asked of whoever calls himself bob.
    world.sh("laptop", "alice", "ssh -A -o BatchMode=no -l bob ca </dev/null").unwrap().ok().unwrap();
    assert_eq!(world.rows_of("bob").unwrap().len(), 1);
}

#[test]
fn an_expired_account_is_told_so_and_gets_nothing() {
    let _watch = WORLD.lab().watch();
    let ussh = terminal("erik", "ussh --login");
    answer(&ussh, "assword:", WORLD.password("erik"));
    ussh.expect("account has expired", SOON).unwrap();
    // The same password again would bring the same answer.
    ussh.send("\x03").unwrap();
    let (code, seen) = end(&ussh);
    assert_ne!(code, 0, "{seen}");
    assert_refused_by_pam("erik");
}

#[test]
fn an_expired_password_is_changed_in_the_conversation_and_then_there_is_a_certificate() {
    let _watch = WORLD.lab().watch();
    let ussh = terminal("paul", "ussh web1 id -un");
    answer(&ussh, "assword:", WORLD.password("paul"));
    ussh.expect("required to change your password", SOON).unwrap();
    answer(&ussh, "urrent password:", WORLD.password("paul"));
    for _ in 0..2 {
        answer(&ussh, "ew password:", "a fresh parrot, 42");
    }
    let (code, seen) = end(&ussh);
    assert_eq!(code, 0, "{seen}");
    assert!(seen.trim_end().ends_with("paul"), "{seen}");
    let rows = WORLD.rows_of("paul").unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(WORLD.certificates("paul").unwrap()[0].serial, rows[0].serial);

    let again = terminal("paul", "ussh --login");
    answer(&again, "assword:", "a fresh parrot, 42");
    assert_eq!(end(&again).0, 0);
    let old = terminal("paul", "exec ssh -A -o NumberOfPasswordPrompts=1 ca");
    answer(&old, "assword:", WORLD.password("paul"));
    assert_eq!(end(&old).0, 255, "the old password still works");
}

#[test]
fn somebody_without_a_rule_passes_pam_is_told_and_stands_in_the_inventory() {
    let _watch = WORLD.lab().watch();
    for (user, rule) in [("nora", ""), ("dora", "dismissed")] {
        let (code, seen) = WORLD.log_in(user, "web1 true").unwrap();
        assert_eq!(code, UNAVAILABLE, "{seen}");
        assert!(seen.contains("The CA's policy gives your account no certificate"), "{seen}");
        assert!(!seen.contains("dismissed"), "the rule is not the user's business: {seen}");
        let mut rows = WORLD.rows_of(user).unwrap();
        rows.retain(|row| !row.is_refused_login());
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!((rows[0].serial, rows[0].rule.as_str()), (0, rule));
        assert!(rows[0].outcome.starts_with("refused"), "{rows:?}");
        assert_eq!(WORLD.certificates(user).unwrap(), []);
    }
}
