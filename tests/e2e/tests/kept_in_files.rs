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
    let world = plan.people(20, "admins").start().unwrap();
    let laptop = world.host("laptop");
    let config = laptop.read_file("/etc/ussh/ussh.toml").unwrap();
    laptop.write_file("/etc/ussh/ussh.toml", 0o644, format!("{config}\n[[host]]\nmatch = [\"web*\"]\n")).unwrap();
    laptop.run(["sed", "-i", "/ForwardAgent/d", "/etc/ssh/ssh_config.d/ussh.conf"]).unwrap().ok().unwrap();
    let sudoers = "Defaults timestamp_timeout=0, passwd_tries=1\n%admins ALL=(ALL) ALL\n";
    world.host("web13").write_file("/etc/sudoers.d/ussh", 0o440, sudoers).unwrap();
    // More than ten who have not logged in yet are turned away at random by default.
    let web1 = world.host("web1");
    let sshd_config = web1.read_file("/etc/ssh/sshd_config").unwrap();
    web1.stop_service("sshd").unwrap();
    web1.start_sshd(&format!("{sshd_config}MaxStartups 200\n")).unwrap();
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
    ok(&user, "ussh -o IdentitiesOnly=yes -o BatchMode=yes web1 true");
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
        written.contains(
            "  IdentityFile ~/.local/state/ussh/keys/id.%L\n  IdentityFile ~/.local/state/ussh/keys/id2.%L\n  IdentityFile ~/.ssh/id_ed25519\n  AddKeysToAgent no\n"
        ),
        "{written}"
    );
    for server in ["web1", "web13"] {
        let output = run(&user, &format!("ssh {server} sudo id -u"));
        assert_eq!((output.status.code(), output.stdout.as_str()), (0, "0\n"), "{server}: {output}");
        assert!(!output.stderr.contains("no such identity"), "{output}");
    }
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 1);
    // The second pair alone, as when the first has ended.
    let output = run(
        &user,
        &format!("ussh --login 2>/dev/null && rm {KEY} {KEY}-cert.pub && ssh -v -o BatchMode=yes web1 true"),
    );
    assert!(output.success() && !output.stderr.contains("no such identity"), "{output}");
    let offered: Vec<_> = output.stderr.lines().filter(|line| line.contains("Offering public key")).collect();
    assert!(offered.len() == 1 && offered[0].contains("id2.laptop-cert.pub ED25519-CERT"), "{offered:?}");
    ok(&user, "ussh --logout");
    assert_eq!(ok(&user, "scp -q web1:/etc/hostname here && cat here"), "web1\n");
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 3);
}

#[test]
fn the_system_wide_form_names_all_keys_that_ssh_tries_by_itself_and_no_word_is_said_of_those_that_are_not_there() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    ok(&user, "mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519");
    let laptop = WORLD.host("laptop");
    // For this one alone: the other people of this world go on as they were.
    let write = "sed '1i keep_in = \"files\"' /etc/ussh/ussh.toml > /etc/ussh/in_files; \
        unshare -m sh -c 'mount --bind /etc/ussh/in_files /etc/ussh/ussh.toml && ussh --write-config --system'; \
        cat /etc/ussh/ssh_config; sed -i 's/^Match /Match localuser USER /' /etc/ussh/ssh_config";
    let written = laptop.script(&write.replace("USER", &user)).unwrap().ok().unwrap().stdout;
    let output = run(&user, "ssh web1 sudo id -u");
    let tried = run(&user, "ssh -v -o PubkeyAcceptedAlgorithms=ssh-ed25519 -o BatchMode=yes web1 true").stderr;
    laptop.run(["ussh", "--remove-config", "--system"]).unwrap().ok().unwrap();
    assert_eq!(written.matches("  IdentityFile ~/.ssh/id_").count(), 7, "{written}");
    assert_eq!((output.status.code(), output.stdout.as_str()), (0, "0\n"), "{output}");
    assert!(!output.stderr.contains("no such identity"), "{output}");
    assert!(tried.contains(&format!("Offering public key: /home/{user}/.ssh/id_ed25519 ")), "{tried}");
}

#[test]
fn a_renewal_fails_no_login_that_is_on_its_way() {
    let _watch = WORLD.lab().watch();
    for (ssh, before) in [("ussh", "true"), ("ssh", "ussh --write-config")] {
        let user = somebody();
        ok(&user, &format!("{before} && ussh --login"));
        // As of a playbook. What was the newest when a login began lies there until the second renewal after that.
        let logins =
            "for n in $(seq 20); do (SSH -o BatchMode=yes web1 echo in >> in 2>> err) & sleep 0.03; done; wait";
        let script = "(sleep 0.2; ussh --login) > renewed 2>&1 & (LOGINS); wait; cat err; wc -l < in; rm in err";
        let script = script.replace("LOGINS", logins).replace("SSH", ssh);
        for which in ["first", "second"] {
            assert_eq!(ok(&user, &script), "20\n", "{ssh}, {which} renewal");
            // Later the older one has gone: plain ssh, which is told of both, is about to use none that the next renewal takes away.
            let later = "touch -d '7 minutes ago' id.*; touch -d '6 minutes ago' id2.*; ussh --check; ls | wc -l";
            if which == "first" {
                assert_eq!(ok(&user, &format!("cd .local/state/ussh/keys; {later}")), "2\n", "{ssh}");
            }
        }
        assert_eq!(WORLD.rows_of(&user).unwrap().len(), 3, "{ssh}: it was renewed twice");
        assert_eq!(ok(&user, "ls .local/state/ussh/keys | wc -l"), "4\n", "{ssh}: two pairs, and nothing else");
        assert_eq!(ok(&user, &format!("{ssh} web13 sudo id -u")), "0\n", "{ssh}");
    }
}

#[test]
fn half_a_pair_is_none_and_the_next_login_mends_it() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    for damage in ["chmod 644 KEY", ": > KEY", "ssh-keygen -q -t ed25519 -N '' -f other; cat other > KEY; rm other*"] {
        ok(&user, "ussh --login");
        let damage = damage.replace("KEY", "$(ls -t .local/state/ussh/keys/*-cert.pub | head -1 | sed s/-cert.pub//)");
        // The one before it is no reason to do without: it is the newest one that counts, of those that are whole.
        ok(&user, &format!("{damage}; rm -f $(ls -t .local/state/ussh/keys/*-cert.pub | sed 1d)"));
        assert_eq!(run(&user, "ussh --check").status.code(), 1, "{damage}");
        ok(&user, "ussh web1 true && ussh --check");
    }
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 6);
}

#[test]
fn ssh_gives_our_key_to_no_agent_and_copies_that_it_gave_it_go_with_the_next_login() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    ok(&user, "mkdir -m 700 .ssh && printf 'Host *\\n AddKeysToAgent yes\\n' > .ssh/config && chmod 600 .ssh/config");
    // The lab's own agent.
    let ok = |script: &str| ok(&user, &format!("export SSH_AUTH_SOCK=$HOME/.agent.sock; {script}"));
    ok("ussh web1 true");
    assert_eq!(ok("ssh-add -L || true"), "The agent has no identities.\n");
    // Plain ssh goes by what stands first.
    assert!(ok("ussh --write-config 2>&1").contains("/.ssh/config line 2: AddKeysToAgent "));
    ok(
        "for n in 1 2 3 4 5 6; do ssh-keygen -q -t ed25519 -N '' -C \"ussh $USER serial $n\" -f key; ssh-add -q key; rm key*; done; \
        ssh-keygen -q -t ed25519 -N '' -C mine -f key; ssh-add -q key; ssh web1 true",
    );
    assert_eq!(ok("ssh-add -L | grep -c ' ussh .* serial '"), "7\n", "six of former logins, and the one of now");
    ok("ussh --login");
    let listed = ok("ssh-add -L");
    assert_eq!((listed.matches(" serial ").count(), listed.matches(" mine").count()), (1, 1), "{listed}");
    ok("ssh -o BatchMode=yes web1 true && ssh -o BatchMode=yes web13 true");
    let listed = ok("ussh --logout >/dev/null; ssh-add -L");
    assert_eq!((listed.matches(" serial ").count(), listed.matches(" mine").count()), (0, 1), "{listed}");
}

#[test]
fn what_has_no_place_is_found_before_a_password_is_asked() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    ok(&user, "mkdir -p -m 700 .local/state/ussh/keys");
    // A key has room there, and no certificate beside it.
    let mount =
        "mount -t tmpfs -o size=4k,mode=700,uid=$(id -u USER),gid=$(id -g USER) none /home/USER/.local/state/ussh/keys";
    WORLD.host("laptop").script(&mount.replace("USER", &user)).unwrap().ok().unwrap();
    let output = run(&user, "ussh --login");
    assert_eq!(output.status.code(), 69, "{output}");
    assert!(output.stderr.contains(".local/state/ussh/keys/id.laptop: No space left on device"), "{output}");
    assert!(output.stderr.contains("ussh: see to it that ~/.local/state/ussh/keys is yours alone"), "{output}");
    assert!(!output.stderr.contains("logging in"), "{output}");
    assert_eq!(WORLD.rows_of(&user).unwrap(), [], "the CA was not asked");
    assert_eq!(ok(&user, "ls -A .local/state/ussh/keys"), "");
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
    for said in ["/keys: not a folder of yours alone (mode 0700)\n", "ussh: see to it that ~/.local/state/ussh/keys is"]
    {
        assert!(output.stderr.contains(said), "{said}: {output}");
    }
    assert!(!output.stderr.contains("logging in"), "{output}");
    assert_eq!(WORLD.rows_of(&user).unwrap(), [], "the CA was not asked");
    let status = run(&user, "ussh --status");
    assert!(status.stdout.contains("/keys: not a folder of yours alone"), "{status}");
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
