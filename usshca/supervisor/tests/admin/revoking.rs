//! What is revoked, by which words, and what is left to do.
use super::*;

#[test]
fn revoke_and_krl_are_understood_by_ssh_keygen() {
    let world = World::init();
    let serial = world.serials().remove(0);
    let certificate = world.ca().join("ssh_host_ed25519_key-cert.pub");
    let is_revoked = |krl: &str| {
        let out = Command::new("ssh-keygen").arg("-Qf").arg(world.dir.path().join(krl)).arg(&certificate).output();
        String::from_utf8(out.unwrap().stdout).unwrap().contains("REVOKED")
    };
    world.good(&["krl", "--out", "krl"]);
    assert_eq!(mode(&world.dir.path().join("krl")), 0o644);
    assert!(!is_revoked("krl"));
    let said = world.good(&["revoke", &serial, "--reason", "machine lost"]);
    assert!(said.contains("revoked serial") && said.contains("ussh-hostd sync"), "{said}");
    assert!(world.good(&["revoke", &serial]).contains("before"));
    // The advice is a command that works as it stands.
    let advice = said.lines().find_map(|line| line.trim().strip_prefix("usshca --dir ")).unwrap();
    let words: Vec<&str> = advice.split(' ').collect();
    assert_eq!(words[0], world.ca().to_str().unwrap(), "{said}");
    world.good(&words[1..]);
    assert_eq!(words.last().copied(), world.ca().join("public/krl").to_str(), "{said}");
    fs::copy(world.ca().join("public/krl"), world.dir.path().join("krl")).unwrap();
    assert!(is_revoked("krl"));
    fs::write(world.dir.path().join("piped"), world.run(&["krl"]).stdout).unwrap();
    assert!(is_revoked("piped"));

    let (code, said) = world.bad(&["revoke", "12345"]);
    assert_eq!(code, 1);
    assert!(said.contains("no certificate with serial 12345"), "{said}");
    assert_eq!(world.bad(&["revoke", "alice"]).0, 64);

    let shown = world.good(&["show", &serial]);
    assert!(shown.contains("machine lost") && shown.contains("ssh-ed25519-cert-v01@openssh.com AAAA"), "{shown}");
    assert_eq!(world.bad(&["show", "12345"]).0, 1);
    let table = world.good(&["list"]);
    assert!(table.starts_with("ID ") && table.lines().count() == 2, "{table}");
    assert!(table.contains(&serial) && table.contains("ca,ca.example.com"), "{table}");
}

#[test]
fn a_revocation_is_of_one_thing_and_can_be_undone() {
    let world = World::init();
    let serial = world.serials().remove(0);
    for wrong in [&["revoke"][..], &["revoke", &serial, "--user", "alice"], &["revoke", "--undo", "1", "--reason", "x"]]
    {
        assert_eq!(world.bad(wrong).0, 64, "{wrong:?}");
    }
    let (code, said) = world.bad(&["revoke", "--user", "alice"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no certificate that is not over"), "{said}");
    let said = world.good(&["revoke", "--host", "CA.EXAMPLE.COM", "--reason", "stolen"]);
    assert!(said.contains("revoked what host ca.example.com was given so far (revocation 1, 1 certificate "), "{said}");
    assert!(world.good(&["show", &serial]).contains("stolen"));
    let listed = world.good(&["revocations"]);
    assert!(listed.contains("host ca.example.com") && listed.contains("stolen"), "{listed}");
    let said = world.good(&["revoke", &serial]);
    assert!(said.contains(" (revocation 2, which another revocation holds too); hosts refuse it"), "{said}");
    let said = world.good(&["revoke", "--undo", "2"]);
    let stays = "revocation 2 undone, 0 certificates are good again, 1 stays revoked by another revocation; hosts take again what no other one is about";
    assert!(said.contains(stays), "{said}");
    let said = world.good(&["revoke", "--undo", "1"]);
    assert!(said.contains("1 certificate is good again; hosts take again what"), "{said}");
    assert!(!said.contains("refuse"), "{said}");
    assert!(world.good(&["revoke", "--undo", "1"]).contains("undone before"));
    assert!(!world.good(&["show", &serial]).contains("stolen"));
    let listed = world.good(&["revocations", "--json"]);
    let act: serde_json::Value = serde_json::from_str(listed.lines().last().unwrap()).unwrap();
    assert_eq!((act["scope"].as_str(), act["undone_by"].as_str()), (Some("host"), act["by"].as_str()));
}

#[test]
fn who_revokes_the_cas_own_host_certificate_is_told_and_check_says_so_until_there_is_another() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config.replace("127.0.0.1:2022", "127.0.0.1:0")).unwrap();
    let noted = |arguments: &[&str]| {
        let out = world.run(arguments);
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    let key = world.host_key("web1");
    assert_eq!(noted(&["host", "sign", &key, "--name", "web1", "--out", "web1-cert.pub"]), "");
    assert_eq!(noted(&["revoke", "--host", "web1"]), "", "another's");
    let check = || String::from_utf8(world.run(&["check"]).stderr).unwrap();
    assert!(!check().contains("own host certificate"), "{}", check());
    let serial = world.serials().pop().unwrap();
    for (arguments, act) in [(&["revoke", "--host", "CA.example.com"][..], "2"), (&["revoke", &serial], "3")] {
        let said = noted(arguments);
        assert!(said.contains("the CA machine's own host certificate is revoked by this: sign its host key"), "{said}");
        let said = check();
        assert!(
            said.contains(&format!("warning: the CA's own host certificate (serial {serial}) was revoked")),
            "{said}"
        );
        world.good(&["revoke", "--undo", act]);
        assert!(!check().contains("own host certificate"));
    }
    noted(&["revoke", "--host", "ca"]);
    world.good(&["host", "sign", "ca/ssh_host_ed25519_key.pub", "--name", "ca"]);
    assert!(!check().contains("own host certificate"), "{}", check());
}

#[test]
fn check_and_status_see_a_ca_key_that_is_revoked_itself() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config.replace("127.0.0.1:2022", "127.0.0.1:0")).unwrap();
    let check = || String::from_utf8(world.run(&["check"]).stderr).unwrap();
    assert!(!check().contains("revoked"), "{}", check());
    world.good(&["revoke", "--ca", "user"]);
    let said = check();
    assert!(said.contains("warning: user_ca: the key itself is revoked, so that nobody gets a certificate"), "{said}");
    assert!(said.contains("usshca revoke --undo 1"), "{said}");
    world.good(&["revoke", "--undo", "1"]);
    world.good(&["revoke", "--ca", "host"]);
    assert!(
        check().contains("warning: host_ca: the key itself is revoked, so that whoever has the KRL"),
        "{}",
        check()
    );
    let own = check();
    let own = own.lines().find(|line| line.contains("the CA's own host certificate")).unwrap().to_owned();
    assert!(own.contains("with the host CA's key") && own.contains("revoke --undo 2"), "{own}");
    let key = world.host_key("web1");
    let (code, said) = world.bad(&["host", "sign", &key, "--name", "web1"]);
    let why = "no host certificate: the host CA's key itself is revoked";
    assert!(code == 1 && said.contains(why) && said.contains("usshca revoke --undo 2"), "{said}");
    world.good(&["revoke", "--undo", "2"]);
    assert!(!check().contains("the key itself"), "{}", check());
    world.good(&["host", "sign", &key, "--name", "web1"]);
}

#[test]
fn revoke_says_what_is_left_to_do_by_hand_and_nothing_if_the_ca_publishes() {
    let world = World::init();
    let by_hand = "krl --out";
    let said = world.good(&["revoke", "--host", "ca.example.com"]);
    assert!(said.contains("hosts refuse it once they have the next KRL:\n") && said.contains(by_hand), "{said}");
    let config = world.read("usshca.toml").replace("# publish =", "publish =");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    for arguments in [&["revoke", "--undo", "1"][..], &["revoke", "--host", "ca.example.com"]] {
        let said = world.good(arguments);
        assert!(said.ends_with("KRL, which the CA publishes to /var/lib/usshca/feed as soon as it runs\n"), "{said}");
        assert!(!said.contains(by_hand), "{said}");
    }
    let said = world.good(&["feed", "key", "rotate"]);
    assert!(said.contains("hear of it: the CA publishes to /var/lib/usshca/feed as soon as it runs\n"), "{said}");
    assert!(said.ends_with("they trust the key before it, whose file was replaced.\n"), "{said}");
    // Where nobody here can sign it, nothing is done by itself.
    let elsewhere = world.host_key("elsewhere");
    world.good(&["feed", "key", "rotate", "--to", &elsewhere]);
    let said = world.good(&["revoke", "--undo", "2"]);
    assert!(
        said.contains("the CA puts it to /var/lib/usshca/feed/feed.unsigned as soon as it runs, and there"),
        "{said}"
    );
    assert!(said.ends_with("\n  usshca feed sign /var/lib/usshca/feed --key FILE\n"), "{said}");
}
