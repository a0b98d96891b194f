//! A CA is made: whole or not at all.
use super::*;

#[test]
fn init_makes_a_ca_that_ssh_keygen_understands() {
    let world = World::init();
    let ca = world.ca();
    for (name, expected) in [
        ("", 0o755),
        ("usshca.toml", 0o644),
        ("policy.toml", 0o644),
        ("state", 0o700),
        ("state/user_ca", 0o600),
        ("state/host_ca", 0o600),
        ("state/inventory.db", 0o600),
        ("ssh_host_ed25519_key", 0o600),
        ("ssh_host_ed25519_key-cert.pub", 0o644),
        ("public", 0o755),
        ("public/user_ca.pub", 0o644),
        ("public/known_hosts", 0o644),
        ("state/feed_key", 0o600),
        ("public/feed_key.pub", 0o644),
    ] {
        assert_eq!(mode(&ca.join(name)), expected, "{name}");
    }
    let text = world.ssh_keygen_l(Path::new("ca/ssh_host_ed25519_key-cert.pub"));
    assert!(text.contains("host certificate") && text.contains("ca.example.com"), "{text}");
    let host_ca = world.read("public/host_ca.pub");
    assert_eq!(world.read("public/known_hosts"), format!("@cert-authority * {host_ca}"));
    assert_ne!(world.read("public/user_ca.pub"), host_ca);
    assert_eq!(world.read("public/user_ca.pub"), world.read("state/user_ca.pub"));
    // The CA's own host certificate stands in the inventory.
    let serials = world.serials();
    assert_eq!(serials.len(), 1);
    assert!(text.contains(&format!("Serial: {}", serials[0])), "{text}");
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 1);
}

#[test]
fn init_touches_nothing_that_is_there() {
    let world = World::init();
    let before = world.read("public/user_ca.pub");
    let (code, said) = world.bad(&["init"]);
    assert_eq!(code, 1);
    assert!(said.contains("there is a CA already"), "{said}");
    assert_eq!(world.read("public/user_ca.pub"), before);
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 1);
}

#[test]
fn init_that_cannot_finish_leaves_nothing() {
    let world = world();
    let (code, said) = world.bad(&["init", "--name", "*.example.com"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no wildcards"), "{said}");
    let (code, _) = world.bad(&["init", "--name", "ca", "--ca-name", "\u{1b}[2J"]);
    assert_eq!(code, 64);
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 0);
}

/// Killed at moments that differ from round to round: there is a whole CA in the end, or none.
#[test]
fn a_killed_init_leaves_a_whole_ca_or_none() {
    for milliseconds in [1, 3, 6, 10, 15, 20, 30, 40, 60, 90] {
        let world = world();
        let mut child =
            world.command(&["init", "--name", "ca"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The time itself is what is tried here.
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        if world.ca().exists() {
            assert_eq!(world.serials().len(), 1);
        } else {
            world.good(&["init", "--name", "ca"]);
        }
    }
}

#[test]
fn the_first_policy_is_good_and_denies_root() {
    let world = World::init();
    let policy = world.read("policy.toml");
    assert!(policy.contains("users = [\"root\"]\ndeny = true"), "{policy}");
    // With its example in force as well.
    let example = policy.replace("# [[rule]]", "[[rule]]").replace("# name", "name").replace("# groups", "groups");
    let example = example.replace("# validity", "validity").replace("# principals", "principals");
    let example = example.replace("# confirm", "confirm").replace("# source", "source");
    let example = example.replace("# backdate", "backdate").replace("# extensions", "extensions");
    let example = example.replace("# force", "force");
    assert_ne!(example, policy);
    fs::write(world.ca().join("policy.toml"), &example).unwrap();
    world.good(&["list"]);
    fs::write(world.ca().join("policy.toml"), policy.replace("deny", "denie")).unwrap();
    let (code, said) = world.bad(&["list"]);
    assert_eq!(code, 78);
    // Once, on one line.
    assert!(said.lines().count() == 1 && said.contains("denie") && said.contains("line"), "{said}");
}

#[test]
fn without_a_ca_every_verb_says_what_to_do() {
    let world = world();
    for verb in [&["list"][..], &["revoke", "1"], &["krl", "--out", "krl"]] {
        let (code, said) = world.bad(verb);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("usshca init"), "{said}");
    }
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 0);
}

#[test]
fn no_certificate_is_made_that_cannot_be_put_in_its_place() {
    let world = World::init();
    let key = world.host_key("web1");
    for out in ["/dev/null", "none/x"] {
        for arguments in [&["host", "sign", key.as_str(), "--name", "web1", "--out", out][..], &["krl", "--out", out]] {
            let (code, said) = world.bad(arguments);
            assert_eq!(code, 73, "{said}");
            assert!(said.contains(out) && !said.contains(".tmp"), "{said}");
        }
    }
    assert_eq!(world.serials().len(), 1);
}

#[test]
fn keys_that_are_encrypted_ask_for_their_passphrase() {
    let world = world();
    fs::write(world.dir.path().join("right"), "open sesame\n").unwrap();
    fs::write(world.dir.path().join("wrong"), "close sesame\n").unwrap();
    // No terminal of its own: nobody is asked.
    let with = |file: &str, arguments: &str| {
        let dir = world.ca();
        let usshca = world.programs.path().join("usshca");
        let (usshca, dir) = (usshca.display(), dir.display());
        let fd = if file.is_empty() { String::new() } else { format!("--passphrase-fd 3 3<{file}") };
        let script = format!("exec setsid -w {usshca} --dir {dir} {arguments} {fd}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(world.dir.path()).stdin(Stdio::null());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let out = command.output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    fs::write(world.dir.path().join("short"), "123456789\n").unwrap();
    let (code, why) = with("short", "init --name ca --encrypt");
    assert!(code == 64 && why.contains("must have 10 characters or more"), "{code} {why}");
    let (code, why) = with("", "init --name ca --encrypt");
    assert!(code == 64 && why.contains("no terminal to ask at"), "{why}");
    assert_eq!(with("right", "init --name ca --encrypt"), (0, String::new()));
    for name in ["user_ca", "host_ca", "feed_key"] {
        let out = Command::new("ssh-keygen")
            .args(["-y", "-P", "open sesame", "-f"])
            .arg(world.ca().join("state").join(name))
            .output();
        assert!(out.unwrap().status.success(), "{name}");
        let out =
            Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(world.ca().join("state").join(name)).output();
        assert!(!out.unwrap().status.success(), "{name}");
    }
    let (code, why) = with("", "list");
    assert!(
        code == 78 && why.contains("user_ca is encrypted, and there is no passphrase; there is no terminal"),
        "{why}"
    );
    let (code, why) = with("wrong", "list");
    assert!(
        code == 78 && why.contains("user_ca is encrypted, and the passphrase is wrong: it is none of those"),
        "{why}"
    );
    assert_eq!(with("right", "publish feed"), (0, String::new()));
    assert_eq!(with("", "list --passphrase-fd 0 <right"), (0, String::new()));
    let (code, why) = with("", "list --passphrase-fd 0 <wrong");
    assert!(code == 78 && why.contains("the passphrase is wrong"), "{why}");
    for number in ["1", "2", "64"] {
        let (code, why) = with("", &format!("list --passphrase-fd {number} <right"));
        assert!(code == 64 && why.contains("must be 0 (standard input), or 3 to 63"), "{number}: {why}");
    }
    // As a systemd credential.
    fs::create_dir(world.dir.path().join("credentials")).unwrap();
    fs::copy(world.dir.path().join("right"), world.dir.path().join("credentials/usshca-passphrase")).unwrap();
    let mut command = world.command(&["list"]);
    command.env("CREDENTIALS_DIRECTORY", world.dir.path().join("credentials"));
    assert!(command.stdin(Stdio::null()).output().unwrap().status.success());
    let (code, why) = with("right", "feed key rotate");
    assert!(code == 1 && why.contains("it is encrypted, and a new one would not be"), "{why}");
}
