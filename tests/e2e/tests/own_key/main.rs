//! `client_key`: the CA certifies a key of the user's own, which stays where it is: in ssh-agent, on a security key, in another's agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{Output, trixie_root, wait_until};
use ussh_e2e::{World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(60);

const POLICY: &str = r#"
[[rule]]
name = "own keys"
groups = ["admins"]
modes = ["client-key"]
key_types = ["ed25519", "ecdsa", "rsa", "ed25519-sk"]
validity_seconds = 3600
principals = ["%u"]

[[rule]]
name = "either"
modes = ["inject", "client-key"]
groups = ["either"]
validity_seconds = 3600
principals = ["%u"]

[[rule]]
name = "made"
groups = ["made"]
modes = ["inject"]
validity_seconds = 3600
principals = ["%u"]
"#;

/// Where ssh-agent and ssh-sk-helper may load it from (ssh-agent.c `DEFAULT_ALLOWED_PROVIDERS`).
const PROVIDER: &str = "/usr/lib/sk-software.so";

/// web1 has Debian 12's OpenSSH 9.2, web13 Debian 13's 10.0.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let built = std::env::temp_dir().join(format!("ussh-sk-{}.so", std::process::id()));
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&built);
    cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/own_key/sk_provider.c")).arg("-l:libcrypto.so.3");
    assert!(cc.status().unwrap().success());
    let plan = WorldPlan::new("ownkey").policy(POLICY).without_servers();
    let plan = plan.server("web1").server_on("web13", trixie_root().unwrap());
    let plan = plan.person("eve", "secret", &["either"]).person("mona", "secret", &["made"]);
    let world = plan.people(14, "admins").start().unwrap();
    let laptop = world.host("laptop");
    laptop.write_file(PROVIDER, 0o755, std::fs::read(&built).unwrap()).unwrap();
    std::fs::remove_file(built).unwrap();
    let config = laptop.read_file("/etc/ussh/ussh.toml").unwrap();
    laptop.write_file("/etc/ussh/ussh.toml", 0o644, format!("{config}\n[[host]]\nmatch = [\"web*\"]\n")).unwrap();
    laptop.run(["sed", "-i", "/ForwardAgent/d", "/etc/ssh/ssh_config.d/ussh.conf"]).unwrap().ok().unwrap();
    let sudoers = "Defaults timestamp_timeout=0, passwd_tries=1\n%admins ALL=(ALL) ALL\n";
    world.host("web13").write_file("/etc/sudoers.d/ussh", 0o440, sudoers).unwrap();
    world
});

/// A script on the laptop, with a program that gives the password.
fn run(user: &str, script: &str) -> Output {
    WORLD.unattended(user, WORLD.password(user), &format!("cd; {script}")).unwrap().wait(SOON).unwrap()
}

fn ok(user: &str, script: &str) -> String {
    let output = run(user, script);
    assert!(output.status.success(), "{script}: {output}");
    output.stdout
}

/// Somebody whose key, of this kind, is to be certified. It is made by `keygen`, and added by nobody yet.
fn somebody(keygen: &str) -> String {
    let user = WORLD.somebody().unwrap();
    ok(
        &user,
        &format!(
            "mkdir -p -m 700 .ssh .config/ussh && ssh-keygen -q -N '' -f .ssh/mine {keygen} && echo 'client_key = \"~/.ssh/mine.pub\"' > .config/ussh/ussh.toml"
        ),
    );
    user
}

const CERTIFICATE: &str = ".local/state/ussh/keys/own.laptop-cert.pub";

#[test]
fn a_key_in_the_agent_is_certified_logs_in_and_answers_sudo() {
    let _watch = WORLD.lab().watch();
    for keygen in ["-t ed25519", "-t ecdsa", "-t rsa -b 2048"] {
        let user = somebody(keygen);
        ok(&user, "ssh-add -q .ssh/mine && rm .ssh/mine");
        let before = ok(&user, "ssh-add -L");
        for server in ["web1", "web13"] {
            assert_eq!(ok(&user, &format!("ussh {server} sudo id -u")), "0\n", "{keygen} {server}");
        }
        assert_eq!(WORLD.rows_of(&user).unwrap().len(), 1, "{keygen}");
        assert_eq!(ok(&user, "ssh-add -L"), before, "the agent holds what it held");
        let shown = ok(&user, &format!("ssh-keygen -Lf {CERTIFICATE}; ssh-keygen -lf .ssh/mine.pub"));
        let fingerprint = shown.lines().last().unwrap().split(' ').nth(1).unwrap();
        assert!(
            shown.contains(&format!(
                "Public key: {}-CERT {fingerprint}",
                if keygen.contains("rsa") {
                    "RSA"
                } else if keygen.contains("ecdsa") {
                    "ECDSA"
                } else {
                    "ED25519"
                }
            )),
            "{shown}"
        );
        assert!(ok(&user, "ussh --why web1").contains("Nothing is wrong."));
        assert_eq!(ok(&user, "ussh --logout"), "1 certificate removed\n");
        assert_eq!(run(&user, "ussh --check").status.code(), 1);
        assert_eq!(ok(&user, "ssh-add -L"), before, "the key is the user's to remove");
        let told = run(&user, "ussh --login --reason 'own key' --for 1h").stderr;
        assert!(told.contains(&format!(" for {user} is kept by `ussh`, for your own key.\n")), "{told}");
        assert!(told.contains(" (1h)\n"), "{told}");
    }
}

#[test]
fn plain_ssh_gets_there_by_the_written_ssh_config_and_default_keys_stay() {
    let _watch = WORLD.lab().watch();
    let user = somebody("-t ed25519");
    ok(&user, "ssh-add -q .ssh/mine && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519 && ussh --write-config");
    for server in ["web1", "web13"] {
        assert_eq!(ok(&user, &format!("ssh {server} sudo id -u")), "0\n", "{server}");
    }
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 1);
    assert!(ok(&user, "ssh -G web1").contains("identityfile ~/.ssh/id_ed25519\n"));
    // So is what the documentation says of it.
    let only = "-o BatchMode=yes -o IdentitiesOnly=yes";
    assert_eq!(run(&user, &format!("ssh {only} web1 true")).status.code(), 255);
    ok(&user, &format!("ssh {only} -o IdentityFile=~/.ssh/mine.pub web1 true"));
}

#[test]
fn a_security_key_is_touched_for_each_use_and_the_prompt_names_it() {
    let _watch = WORLD.lab().watch();
    let user = somebody(&format!("-t ed25519-sk -w {PROVIDER}"));
    let touches = || ok(&user, "cat /tmp/touches.$(id -u) 2>/dev/null | wc -l; true").trim().parse::<u32>().unwrap();
    ok(&user, &format!("ssh-add -q -S {PROVIDER} .ssh/mine"));
    assert_eq!(touches(), 0);
    let output = run(&user, "ussh --login");
    assert!(
        output.status.success() && output.stderr.contains("Touch your security key: the CA's signer asks it."),
        "{output}"
    );
    assert_eq!(touches(), 1);
    assert_eq!(ok(&user, "ussh web1 id -un"), format!("{user}\n"));
    assert_eq!(touches(), 2);
    assert_eq!(ok(&user, "ussh web13 sudo id -u"), "0\n");
    assert_eq!(touches(), 4, "one for the login, one for sudo");
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 1);
}

#[test]
fn a_key_that_asks_first_is_asked_and_a_no_is_no_certificate() {
    let _watch = WORLD.lab().watch();
    let user = somebody("-t ed25519");
    let laptop = WORLD.host("laptop");
    for (name, code) in [("yes", 0), ("no", 1)] {
        let program = format!("#!/bin/sh\necho \"$1\" >> /tmp/asked.$(id -u)\nexit {code}\n");
        laptop.write_file(&format!("/usr/local/bin/says-{name}"), 0o755, program).unwrap();
    }
    // It is the agent that asks, by the program that it was started with.
    let with = |answer: &str, script: &str| {
        let agent =
            format!("eval $(SSH_ASKPASS_REQUIRE=force SSH_ASKPASS=/usr/local/bin/says-{answer} ssh-agent) >/dev/null");
        run(&user, &format!("{agent}; ssh-add -qc .ssh/mine; {script}; code=$?; kill $SSH_AGENT_PID; exit $code"))
    };
    let output = with("no", "ussh --login");
    assert_eq!(output.status.code(), 69, "{output}");
    for said in ["did not sign with your key", "ussh: the CA ca let "] {
        assert!(output.stderr.contains(said), "{said}: {output}");
    }
    assert!(!laptop.exists(&format!("/home/{user}/{CERTIFICATE}")));
    let output = with("yes", "ussh web1 id -un");
    assert_eq!((output.status.code(), output.stdout), (0, format!("{user}\n")), "{}", output.stderr);
    let asked = ok(&user, "cat /tmp/asked.$(id -u)");
    assert!(asked.lines().filter(|line| line.contains("Allow use of key")).count() >= 3, "{asked}");
}

#[test]
fn a_key_that_gpg_agent_holds_is_certified_there() {
    let _watch = WORLD.lab().watch();
    let user = somebody("-t ed25519");
    let setup = "mkdir -p -m 700 .gnupg; printf 'enable-ssh-support\\nallow-loopback-pinentry\\n' > .gnupg/gpg-agent.conf; gpgconf --launch gpg-agent; \
        export SSH_AUTH_SOCK=$(gpgconf --list-dirs agent-ssh-socket)";
    let make = "gpg --batch -q --pinentry-mode loopback --passphrase '' --quick-gen-key me ed25519 auth never && \
        gpg --with-keygrip -K | sed -n 's/.*Keygrip = //p' > .gnupg/sshcontrol && ssh-add -L > .ssh/mine.pub && cat .ssh/mine.pub";
    let key = ok(&user, &format!("{setup}; {make}"));
    assert!(key.starts_with("ssh-ed25519 "), "{key}");
    for server in ["web1", "web13"] {
        assert_eq!(ok(&user, &format!("{setup}; ussh {server} sudo id -u")), "0\n", "{server}");
    }
    assert_eq!(WORLD.rows_of(&user).unwrap().len(), 1);
    ok(&user, "gpgconf --kill gpg-agent");
}

#[test]
fn what_is_wrong_with_the_key_is_said_before_a_password_is_asked() {
    let _watch = WORLD.lab().watch();
    let user = somebody("-t ed25519");
    for (script, code, said) in [
        (
            "ussh --login",
            69,
            vec![
                "ussh: the key of `client_key` (SHA256:",
                "is not in the agent at SSH_AUTH_SOCK=",
                "ussh: add it (ssh-add), and try again",
            ],
        ),
        (
            "ussh --why web1",
            1,
            vec!["Wrong: the key of `client_key` (SHA256:", "Do:    add it (ssh-add), and try again"],
        ),
        (
            "echo 'client_key = \"~/.ssh/mine\"' > .config/ussh/ussh.toml; ussh --login",
            78,
            vec!["ussh: `client_key`: ", "ussh: name the file that ends in .pub there"],
        ),
        (
            "echo 'client_key = \"~/.ssh/none.pub\"' > .config/ussh/ussh.toml; ussh --login",
            78,
            vec!["none.pub", "ussh: name the file"],
        ),
        (
            "echo 'client_key = \"~/.ssh/mine.pub\"' > .config/ussh/ussh.toml; ssh-add -q .ssh/mine; mkdir -p .local/state/ussh/keys; \
                chmod 755 .local/state/ussh/keys; ussh --login",
            69,
            vec![
                "/keys: not a folder of yours alone (mode 0700)\n",
                "ussh: see to it that ~/.local/state/ussh/keys is",
            ],
        ),
        (
            "printf 'client_key = \"~/.ssh/mine.pub\"\\nkeep_in = \"files\"\\n' > .config/ussh/ussh.toml; ussh --login",
            78,
            vec!["ussh: `client_key` leaves the key in your agent", "ussh: take one of the two out of ussh.toml"],
        ),
    ] {
        let output = run(&user, script);
        assert_eq!(output.status.code(), code, "{script}: {output}");
        let all = output.stdout.clone() + &output.stderr;
        for said in said {
            assert!(all.contains(said), "{said}: {output}");
        }
    }
    assert_eq!(WORLD.rows_of(&user).unwrap(), [], "the CA was not asked");
}

#[test]
fn a_guarded_agent_that_runs_takes_the_key_up_when_it_is_named() {
    let _watch = WORLD.lab().watch();
    let user = "eve";
    ok(
        user,
        "mkdir -p -m 700 .ssh .config/ussh; for key in one two; do ssh-keygen -q -t ed25519 -N '' -f .ssh/$key; done; ssh-add -q .ssh/one .ssh/two",
    );
    let shown = || ok(user, "ussh web1 ssh-add -l 2>&1; true");
    assert!(shown().contains("(ED25519-CERT)"), "it runs, in front of the agent");
    for key in ["one", "two"] {
        ok(user, &format!("echo 'client_key = \"~/.ssh/{key}.pub\"' > .config/ussh/ussh.toml; ussh --login"));
        let fingerprint = ok(user, &format!("ssh-keygen -lf .ssh/{key}.pub | cut -d' ' -f2"));
        // It looks every five seconds.
        wait_until(Duration::from_secs(12), key, || shown().contains(fingerprint.trim())).unwrap();
    }
    ok(user, "rm .config/ussh/ussh.toml; ussh --login");
    let own = ok(user, "ssh-keygen -lf .ssh/two.pub | cut -d' ' -f2");
    wait_until(Duration::from_secs(12), "the agent again", || !shown().contains(own.trim())).unwrap();
    assert!(shown().contains("(ED25519-CERT)"), "{}", shown());
}

#[test]
fn what_the_ca_refuses_it_explains_in_the_words_of_ussh() {
    let _watch = WORLD.lab().watch();
    let (mine, none) = (somebody("-t ed25519"), WORLD.somebody().unwrap());
    ok(&mine, "ssh-add -q .ssh/mine");
    ok(
        "mona",
        "mkdir -p -m 700 .ssh .config/ussh; ssh-keygen -q -t ed25519 -N '' -f .ssh/mine; ssh-add -q .ssh/mine; echo 'client_key = \"~/.ssh/mine.pub\"' > .config/ussh/ussh.toml",
    );
    for (user, script, said) in [
        (
            none.as_str(),
            "ussh --login",
            "wants a key of your own. Try: ssh-add KEY, and `client_key = \"~/.ssh/KEY.pub\"` in ~/.config/ussh/ussh.toml\n",
        ),
        (
            "mona",
            "ussh --login",
            "certifies no key of your own: the CA makes one for you. Try: without `client_key` in ussh.toml\n",
        ),
        (&mine, "ussh --login --for 30h", "Ask for less: --for …\n"),
        (&mine, "ussh --login --principals root", "Ask for fewer, or leave --principals out.\n"),
    ] {
        let output = run(user, script);
        assert!(output.status.code() == 69 && output.stderr.contains(said), "{said}: {output}");
    }
}

#[test]
fn a_locked_agent_is_named_and_not_the_key_in_it() {
    let _watch = WORLD.lab().watch();
    let user = somebody("-t ed25519");
    ok(&user, "ssh-add -q .ssh/mine; ssh-add -x");
    for (script, code) in [("ussh --login", 69), ("ussh --why web1", 1), ("ussh --status", 1)] {
        let output = run(&user, script);
        let said = output.stdout.clone() + &output.stderr;
        assert!(output.status.code() == code && !said.contains("not in the agent"), "{script}: {output}");
        assert!(
            said.contains("/.agent.sock is locked: what is in it can be neither seen nor removed"),
            "{script}: {output}"
        );
    }
}
