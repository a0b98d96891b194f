//! `ssh ca admin …` with the stock client: the verbs of the CA's machine for those whom policy names, by a login through PAM, and for nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::Output;
use ussh_e2e::{CA_DIR, World, WorldPlan};

/// Longest wait for anything. PAM takes up to 3 s for each wrong password.
const SOON: Duration = Duration::from_secs(30);
/// EX_USAGE of sysexits.h.
const USAGE: i32 = 64;

/// The administrators' accounts may get certificates by a key as well: that is no way to administer.
const POLICY: &str = r#"
admins = { groups = ["caadmins"], users = ["else1"], from = ["FROM"] }

[[rule]]
name = "administrators"
groups = ["caadmins"]
authentication = ["pam", "publickey"]
validity_seconds = 300
principals = ["%u"]

[[rule]]
name = "people"
validity_seconds = 300
principals = ["%u"]
"#;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut plan = WorldPlan::new("admin-ssh").policy(&POLICY.replace("FROM", "10.77.0.0/16"));
    for (name, group) in [
        ("root1", "caadmins"),
        ("root2", "caadmins"),
        ("root3", "caadmins"),
        ("root4", "caadmins"),
        ("root5", "caadmins"),
        ("peop1", "people"),
        ("peop2", "people"),
        ("peop3", "people"),
    ] {
        plan = plan.person(name, &format!("password of {name}"), &[group]);
    }
    plan.start().unwrap()
});

/// Held by those who revoke, and by those who look whether anybody has.
static REVOCATIONS: Mutex<()> = Mutex::new(());

/// What `ssh ca admin WORDS` gives: exit code, standard output, and what the terminal showed.
fn admin(user: &str, words: &str) -> (i32, String, String) {
    let script =
        format!("ssh -o PubkeyAuthentication=no ca \"admin {words}\" > ~/out 2> ~/err; code=$?; cat ~/err; exit $code");
    let terminal = WORLD.terminal("laptop", user, &script).unwrap();
    terminal.expect("assword:", SOON).unwrap();
    terminal.send(&format!("{}\n", WORLD.password(user))).unwrap();
    let status = terminal.expect_exit(SOON).unwrap();
    terminal.expect_close(SOON).unwrap();
    let out = WORLD.sh("laptop", user, "cat ~/out").unwrap().ok().unwrap().stdout;
    (status.code(), out, terminal.transcript())
}

#[track_caller]
fn good(user: &str, words: &str) -> String {
    let (code, out, seen) = admin(user, words);
    assert_eq!(code, 0, "{words}: {seen}");
    out
}

fn here(arguments: &str) -> Output {
    WORLD.usshca(arguments).unwrap().ok().unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Serial of a new certificate of this person's.
fn serial_of(user: &str) -> String {
    assert_eq!(WORLD.log_in(user, "--login").unwrap().0, 0);
    let listed = here("list --json").stdout;
    let row = listed.lines().map(json).find(|row| row["key_id"] == user).unwrap();
    row["serial"].as_str().unwrap().to_owned()
}

#[test]
fn an_administrator_sees_over_ssh_what_is_seen_at_the_machine() {
    let _watch = WORLD.lab().watch();
    let serial = serial_of("peop1");
    for words in [
        format!("show {serial}"),
        format!("show {serial} --json"),
        "explain peop1 --group people --from 192.0.2.1 --at 2026-01-31T12:00:00Z --json".to_owned(),
        "key list --json".to_owned(),
        format!("find --serial {serial}"),
        format!("find --serial {serial} --json"),
        format!("find --serial {serial} --csv"),
        "host list --json".to_owned(),
        "host show web1".to_owned(),
        "host tokens".to_owned(),
    ] {
        // Other tests write to the same inventory: what changed in between says nothing.
        let seen = (0..10).find_map(|_| {
            let (before, over_ssh) = (here(&words).stdout, good("root1", &words));
            (here(&words).stdout == before).then_some((over_ssh, before))
        });
        let (over_ssh, here) = seen.unwrap_or_else(|| panic!("{words}: never the same twice"));
        assert_eq!(over_ssh, here, "{words}");
    }
    let listed = good("root1", "list --json");
    assert!(listed.lines().map(json).any(|row| row["serial"] == serial.as_str()), "{listed}");
    assert_eq!(good("root1", "list -n 1").lines().count(), 2);
    // No shell has a look at the words.
    let (code, out, seen) = admin("root1", "krl | base64");
    assert_eq!((code, out.as_str()), (USAGE, ""), "{seen}");
}

#[test]
fn an_administrator_revokes_and_undoes_and_the_inventory_says_who_and_from_where() {
    let _watch = WORLD.lab().watch();
    let _alone = REVOCATIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let serial = serial_of("peop2");
    let done = json(&good("root2", &format!("revoke {serial} --reason 'laptop lost' --json")));
    assert_eq!((&done["serial"], &done["already"]), (&serial.as_str().into(), &false.into()));
    let act = done["revocation"].as_str().unwrap();
    let shown = json(&here(&format!("show {serial} --json")).stdout);
    let laptop = WORLD.host("laptop").address();
    assert_eq!(shown["revoked_by"], format!("admin root2 from {laptop}"));
    assert_eq!(shown["revocation_reason"], "laptop lost");
    assert!(good("root2", "revocations").contains("laptop lost"));
    // The KRL as it comes over ssh, by ssh-keygen's judgement.
    let (code, _, seen) = admin("root2", "krl");
    assert_eq!(code, 0, "{seen}");
    let certificate = shown["certificate"].as_str().unwrap();
    let query = format!("echo '{certificate}' > ~/c-cert.pub; ssh-keygen -Qf ~/out ~/c-cert.pub");
    let out = WORLD.sh("laptop", "root2", &query).unwrap();
    assert!(out.status.code() != 0 && out.stdout.contains("REVOKED"), "{out}");
    let said = good("root2", &format!("revoke --undo {act}"));
    assert!(
        said.contains("1 certificate is good again; hosts take again what it was about once they have the next KRL\n"),
        "{said}"
    );
    assert!(json(&here(&format!("show {serial} --json")).stdout)["revoked"].is_null());
}

#[test]
fn a_host_key_and_a_users_key_come_on_standard_input() {
    let _watch = WORLD.lab().watch();
    let make = "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/host && ssh-keygen -q -t ed25519 -N '' -C of-peop3 -f ~/.ssh/user";
    WORLD.sh("laptop", "root3", make).unwrap().ok().unwrap();
    let with_input = |words: &str, file: &str| {
        let script = format!("ssh -o PubkeyAuthentication=no ca \"admin {words}\" < {file} > ~/out; exit $?");
        let terminal = WORLD.terminal("laptop", "root3", &script).unwrap();
        terminal.expect("assword:", SOON).unwrap();
        terminal.send(&format!("{}\n", WORLD.password("root3"))).unwrap();
        let status = terminal.expect_exit(SOON).unwrap();
        terminal.expect_close(SOON).unwrap();
        (status.code(), WORLD.sh("laptop", "root3", "cat ~/out").unwrap().stdout, terminal.transcript())
    };
    let (code, out, seen) = with_input("host sign - --name Web9 --for 1d", "~/.ssh/host.pub");
    // (There is no --for: the words are the machine's own, and so is what is said of them.)
    assert_eq!((code, out.as_str()), (USAGE, ""), "{seen}");
    let (code, out, seen) = with_input("host sign - --name Web9 --validity 1d", "~/.ssh/host.pub");
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("Web9 becomes web9"), "{seen}");
    assert!(out.starts_with("ssh-ed25519-cert-v01@openssh.com "), "{out}");
    let shown = WORLD.sh("laptop", "root3", "ssh-keygen -Lf ~/out").unwrap().ok().unwrap().stdout;
    assert!(shown.contains("host certificate") && shown.contains("web9"), "{shown}");
    let row = here("list --json").stdout.lines().map(json).find(|row| row["key_id"] == "web9").unwrap();
    assert_eq!(row["authenticated"], format!("admin root3 from {}", WORLD.host("laptop").address()));

    let (code, out, seen) = with_input("key register peop3", "~/.ssh/user.pub");
    assert_eq!(code, 0, "{seen}");
    assert!(out.contains("registered for peop3"), "{out}");
    let (code, _, seen) = with_input("key register peop3", "/dev/null");
    assert_eq!(code, USAGE, "{seen}");
    let (code, _, seen) = with_input("key register peop3", "~/.ssh/user");
    assert!(code == USAGE && seen.contains("a private key"), "{seen}");
    let (code, _, seen) = with_input("key register peop3", "/etc/services");
    assert_eq!(code, USAGE, "{seen}");
    let (code, out, seen) = with_input("key remove -", "~/.ssh/user.pub");
    assert_eq!(code, 0, "{seen}");
    assert!(out.contains("is no key of peop3 any more"), "{out}");
}

#[test]
fn statuses_and_words_are_those_of_the_machine_and_what_is_about_it_is_refused() {
    let _watch = WORLD.lab().watch();
    for (words, status, says) in [
        ("--help", 0, "Usage: ssh CA admin"),
        ("list --help", 0, "Usage: ssh CA admin list"),
        ("", USAGE, "Usage: ssh CA admin"),
        ("lost", USAGE, "unrecognized subcommand"),
        ("show 7", 1, "there is no certificate with serial 7"),
        ("revoke", USAGE, "required"),
        ("init", USAGE, "works at the CA's machine alone"),
        ("serve", USAGE, "works at the CA's machine alone"),
        ("check", USAGE, "works at the CA's machine alone"),
        ("status", USAGE, "works at the CA's machine alone"),
        ("backup /tmp", USAGE, "works at the CA's machine alone"),
        ("replay --policy /etc/passwd", USAGE, "works at the CA's machine alone"),
        ("publish /tmp", USAGE, "works at the CA's machine alone"),
        ("feed key rotate", USAGE, "works at the CA's machine alone"),
        ("find --key /etc/shadow", USAGE, "no key file to read"),
        ("find --user nobody-of-that-name", 1, "nothing of that kind"),
        ("--dir /srv list", USAGE, "over ssh there is no --dir"),
        ("krl --out /etc/passwd", USAGE, "no file of the CA's to write"),
        ("host sign /etc/ssh/ssh_host_ed25519_key.pub --name x", USAGE, "no key file to read"),
        ("revoke --key /etc/shadow", USAGE, "no key file to read"),
        ("explain root", USAGE, "no looking up of groups"),
    ] {
        let (code, out, seen) = admin("root4", words);
        assert_eq!(code, status, "{words}: {seen}");
        assert!(out.contains(says) || seen.contains(says), "{words}: {out}{seen}");
        if status != 0 {
            assert_eq!(out, "", "{words}");
        }
    }
}

#[test]
fn nobody_else_administers_and_nobody_by_a_key_or_a_borrowed_agent() {
    let _watch = WORLD.lab().watch();
    let _alone = REVOCATIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let position = WORLD.log_position("ca");
    let before = here("revocations --json").stdout;
    let (code, out, seen) = admin("peop3", "revoke --user root5");
    assert_eq!((code, out.as_str()), (1, ""), "{seen}");
    assert!(seen.contains("You are none of this CA's administrators."), "{seen}");

    // A registered key of an administrator's: in by it, and no further; nor is root on a hop to which the agent is forwarded.
    let own = "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id && ssh-add -q ~/.ssh/id && cat ~/.ssh/id.pub";
    let public = WORLD.sh("laptop", "root5", own).unwrap().ok().unwrap().stdout_bytes;
    let register = ["usshca", "--dir", CA_DIR, "key", "register", "root5"];
    WORLD.host("ca").command(register).stdin(public.clone()).run().unwrap().ok().unwrap();
    let web1 = WORLD.host("web1");
    web1.write_file("/root/id.pub", 0o600, &public).unwrap();
    let known = WORLD.host("ca").read_bytes(&format!("{CA_DIR}/public/known_hosts")).unwrap();
    web1.write_file("/etc/ssh/ssh_known_hosts", 0o644, known).unwrap();
    WORLD.sh("laptop", "root5", "ssh -A -o BatchMode=yes ca").unwrap().ok().unwrap();
    let session = WORLD.terminal("laptop", "root5", "exec ssh -A web1 'echo on $(hostname); exec sleep 1000'").unwrap();
    session.expect("on web1", SOON).unwrap();
    for words in [
        "list",
        "list --json",
        "show 1",
        "revocations",
        "find --user root5",
        "host list",
        "host token web9",
        "host remove web1",
        "krl",
        "explain root5 --group caadmins",
        "revoke --user peop3",
        "revoke --undo 1",
        "key list",
        "key remove SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "key register peop3 < /root/id.pub",
        "host sign - --name web1 < /root/id.pub",
    ] {
        let (words, input) = words.split_once(" < ").unwrap_or((words, "/dev/null"));
        let own =
            WORLD.sh("laptop", "root5", &format!("ssh -A -o BatchMode=yes ca admin {words} < ~/.ssh/id.pub")).unwrap();
        let socket = "$(for s in /tmp/ssh-*/agent.*; do [ $(stat -c %U $s) = root5 ] && echo $s; done | head -1)";
        let script = format!(
            "export SSH_AUTH_SOCK={socket}; [ -S \"$SSH_AUTH_SOCK\" ] || exit 99; timeout 20 ssh -A -o BatchMode=yes root5@ca admin {words} < {input}"
        );
        let borrowed = web1.run(["bash", "-c", &script]).unwrap();
        for out in [own, borrowed] {
            assert_eq!((out.status.code(), out.stdout.as_str()), (1, ""), "{words}: {out}");
            assert!(out.stderr.contains("Administration takes a login by PAM"), "{words}: {out}");
        }
    }
    drop(session);
    assert_eq!(here("revocations --json").stdout, before);
    let logged = WORLD.logged_since("ca", position).unwrap();
    let address = WORLD.host("laptop").address();
    assert!(
        logged.contains(&format!("peop3 from {address} is not to administer: the policy names others")),
        "{logged}"
    );
    // The front's word that a key has logged in is none to the signer.
    assert!(
        logged.contains("root5 from") && logged.contains("authenticated by none, and administration takes PAM"),
        "{logged}"
    );
}
