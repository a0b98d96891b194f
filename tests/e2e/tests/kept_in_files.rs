//! `keep_in = "files"`: key and certificate on disk, for those whose agent takes none; and the agents that it is for, the real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{Output, trixie_root, wait_until};
use ussh_e2e::{World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(60);

/// web1 has Debian 12's OpenSSH 9.2, web13 Debian 13's 10.0.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("files").without_servers().server("web1").server_on("web13", trixie_root().unwrap());
    let world = plan.people(12, "admins").start().unwrap();
    let laptop = world.host("laptop");
    let config = laptop.read_file("/etc/ussh/ussh.toml").unwrap();
    laptop.write_file("/etc/ussh/ussh.toml", 0o644, format!("{config}\n[[host]]\nmatch = [\"web*\"]\n")).unwrap();
    laptop.run(["sed", "-i", "/ForwardAgent/d", "/etc/ssh/ssh_config.d/ussh.conf"]).unwrap().ok().unwrap();
    let sudoers = "Defaults timestamp_timeout=0, passwd_tries=1\n%admins ALL=(ALL) ALL\n";
    world.host("web13").write_file("/etc/sudoers.d/ussh", 0o440, sudoers).unwrap();
    world
});

/// The key, below the home folder.
const KEY: &str = ".local/state/ussh/keys/id.laptop";

/// A script on the laptop with a program that gives the password, and no agent.
fn run(user: &str, script: &str) -> Output {
    let all = format!("cd; unset SSH_AUTH_SOCK; {script}");
    WORLD.unattended(user, WORLD.password(user), &all).unwrap().wait(SOON).unwrap()
}

fn ok(user: &str, script: &str) -> String {
    let output = run(user, script);
    assert!(output.status.success(), "{script}: {output}");
    output.stdout
}

fn keeps_in_files(user: &str) {
    ok(user, "mkdir -p .config/ussh && echo 'keep_in = \"files\"' > .config/ussh/ussh.toml");
}

fn somebody() -> String {
    let user = WORLD.somebody().unwrap();
    keeps_in_files(&user);
    user
}

fn exists(user: &str, file: &str) -> bool {
    WORLD.host("laptop").exists(&format!("/home/{user}/{file}"))
}

#[test]
fn without_any_agent_logins_sudo_and_the_rest_work_from_files_that_are_the_users_alone() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    ok(&user, "mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519");
    assert_eq!(run(&user, "ussh --check").status.code(), 1);
    for server in ["web1", "web13"] {
        assert_eq!(ok(&user, &format!("ussh {server} id -un")), format!("{user}\n"));
        assert_eq!(ok(&user, &format!("ussh {server} sudo id -u")), "0\n", "{server}");
    }
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 1, "one login for all of it");
    assert_eq!(
        ok(&user, &format!("stat -c %a:%U {KEY} {KEY}-cert.pub .local/state/ussh/keys")),
        format!("600:{user}\n600:{user}\n700:{user}\n")
    );
    let agents = WORLD.host("laptop").run(["pgrep", "-c", "-u", &user, "ssh-agent"]).unwrap().stdout;
    assert_eq!(agents, "1\n", "no agent was started beside the lab's own");
    assert_eq!(run(&user, "ussh --check").status.code(), 0);
    let status = ok(&user, "ussh --status; ussh --status --json");
    for line in [format!("files        /home/{user}/{KEY}\n"), format!("\"files\": \"/home/{user}/{KEY}\"")] {
        assert!(status.contains(&line), "{line}: {status}");
    }
    let why = ok(&user, "ussh --why web1");
    for line in [
        format!("files          /home/{user}/{KEY}\n"),
        format!("web1 lets {user} in by the certificate"),
        "Nothing is wrong.".into(),
    ] {
        assert!(why.contains(&line), "{line}: {why}");
    }
    // What ssh tries by itself it still tries: a break-glass key, say.
    let tried = run(&user, "ussh -v -o PubkeyAcceptedAlgorithms=ssh-ed25519 -o BatchMode=yes web1 true").stderr;
    assert!(tried.contains(&format!("Offering public key: /home/{user}/.ssh/id_ed25519 ")), "{tried}");
    assert_eq!(ok(&user, "ussh --logout"), "1 certificate removed\n");
    assert!(!exists(&user, KEY) && !exists(&user, &format!("{KEY}-cert.pub")));
    assert_eq!(run(&user, "ussh --check").status.code(), 1);
}

#[test]
fn plain_ssh_gets_there_by_the_written_ssh_config() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    ok(&user, "mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519 && ussh --write-config");
    let written = ok(&user, "cat .config/ussh/ssh_config");
    assert!(
        written.contains("  IdentityFile ~/.local/state/ussh/keys/id.%L\n  IdentityFile ~/.ssh/id_ed25519\n"),
        "{written}"
    );
    for server in ["web1", "web13"] {
        let output = run(&user, &format!("ssh {server} sudo id -u"));
        assert_eq!((output.status.code(), output.stdout.as_str()), (0, "0\n"), "{server}: {output}");
        assert!(!output.stderr.contains("no such identity"), "{output}");
    }
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 1);
    ok(&user, "ussh --logout");
    assert_eq!(ok(&user, "scp -q web1:/etc/hostname here && cat here"), "web1\n");
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 2);
}

#[test]
fn files_go_with_their_certificate_by_the_next_ussh_or_by_the_guarded_agent() {
    let _watch = WORLD.lab().watch();
    // Contractors have theirs for 20 seconds.
    for (user, guarded) in [("bob", true), ("carol", false)] {
        keeps_in_files(user);
        ok(user, if guarded { "ussh web1 true" } else { "ussh --login" });
        assert!(exists(user, KEY));
        if guarded {
            let served = || WORLD.host("laptop").run(["pgrep", "-u", user, "-f", "agent --serve"]).unwrap().success();
            assert!(served());
            wait_until(SOON, "the guarded agent to remove them", || !exists(user, KEY)).unwrap();
            wait_until(SOON, "its end", || !served()).unwrap();
        } else {
            let end = || {
                run(
                    user,
                    "test $(date +%s) -ge $(date +%s -d \"$(ssh-keygen -Lf .local/state/ussh/keys/*-cert.pub | sed -n 's/.* to //p')\")",
                )
            };
            wait_until(SOON, "its end", || end().success()).unwrap();
            assert!(exists(user, KEY), "nothing has run that would remove it");
            assert_eq!(run(user, "ussh --check").status.code(), 1);
        }
        assert!(!exists(user, KEY) && !exists(user, &format!("{KEY}-cert.pub")), "{user}");
    }
}

#[test]
fn a_folder_that_others_can_enter_gets_no_key_and_nobody_is_told_less() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    ok(&user, "mkdir -p .local/state/ussh/keys && chmod 755 .local/state/ussh/keys");
    let output = run(&user, "ussh --login");
    assert_eq!(output.status.code(), 69, "{output}");
    for said in [
        "the certificate of the CA ca could not be kept: ",
        "/keys: not a folder of yours alone (mode 0700)",
        "ussh: mend that; or",
    ] {
        assert!(output.stderr.contains(said), "{said}: {output}");
    }
    assert_eq!(ok(&user, "ls .local/state/ussh/keys"), "");
    ok(&user, "chmod 700 .local/state/ussh/keys && ussh web1 true");
}

#[test]
fn the_real_gpg_agent_is_named_before_a_password_is_asked_and_files_do_without_it() {
    let _watch = WORLD.lab().watch();
    let user = WORLD.somebody().unwrap();
    let with_gpg = |script: &str| {
        let agent = "gpgconf --launch gpg-agent; export SSH_AUTH_SOCK=$(gpgconf --list-dirs agent-ssh-socket)";
        run(
            &user,
            &format!(
                "mkdir -p -m 700 .gnupg; echo enable-ssh-support > .gnupg/gpg-agent.conf; {agent}; {script}; code=$?; exit $code"
            ),
        )
    };
    let output = with_gpg("ussh --login");
    assert_eq!(output.status.code(), 69, "{output}");
    for said in [
        ".gnupg/S.gpg-agent.ssh is gpg-agent, which takes no certificates\n",
        "ussh: put `keep_in = \"files\"` into ~/.config/ussh/ussh.toml",
    ] {
        assert!(output.stderr.contains(said), "{said}: {output}");
    }
    assert!(!output.stderr.contains("logging in"), "{output}");
    assert_eq!(WORLD.rows_of(&user).unwrap(), [], "the CA was not asked");
    keeps_in_files(&user);
    let output = with_gpg("ussh web1 sudo id -u");
    assert_eq!((output.status.code(), output.stdout.as_str()), (0, "0\n"), "{output}");
    let output = with_gpg("ussh --write-config >/dev/null && ssh web13 sudo id -u");
    assert_eq!((output.status.code(), output.stdout.as_str()), (0, "0\n"), "{output}");
    assert_eq!(with_gpg("ls .gnupg/private-keys-v1.d").stdout, "", "it was given nothing");
    run(&user, "gpgconf --kill gpg-agent");
}

#[test]
fn the_real_gnome_keyring_takes_certificates_with_a_lifetime() {
    let _watch = WORLD.lab().watch();
    let user = WORLD.somebody().unwrap();
    let script = "mkdir -m 700 run; export XDG_RUNTIME_DIR=$HOME/run; exec dbus-run-session -- bash -c '\
        printf \"\\n\" | gnome-keyring-daemon --unlock --components=ssh,secrets >/dev/null; export SSH_AUTH_SOCK=$XDG_RUNTIME_DIR/keyring/ssh; \
        until test -S $SSH_AUTH_SOCK; do sleep 0.1; done; \
        ussh --login && ssh-add -l && ussh web1 sudo id -u && ussh web13 sudo id -u && ussh --logout && ssh-add -l; \
        kill $(pgrep -u $(id -u) gnome-keyring-d)'";
    let output = run(&user, script);
    let said = "(ED25519-CERT)\n0\n0\n1 certificate removed\nThe agent has no identities.";
    assert!(output.stdout.contains(said), "{output}");
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 1);
}
