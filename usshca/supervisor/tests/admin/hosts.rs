//! Hosts and registered keys.
use super::*;

#[test]
fn host_sign_writes_the_certificate_beside_the_key() {
    let world = World::init();
    let key = world.host_key("web1");
    if is_root() {
        chown(world.dir.path().join(&key), Some(NOBODY), None).unwrap();
    }
    let said = world.good(&["host", "sign", &key, "--name", "Web1", "--name", "web1.example.com", "--validity", "2d"]);
    let text = world.ssh_keygen_l(Path::new("web1-cert.pub"));
    assert!(text.contains("Key ID: \"web1\"") && text.contains("web1.example.com"), "{text}");
    assert_eq!(mode(&world.dir.path().join("web1-cert.pub")), 0o644);
    let serial = world.serials().remove(0);
    assert!(said.contains(&serial) && text.contains(&serial), "{said}");

    // Standard input to standard output, and nothing else there.
    let mut child = world
        .command(&["host", "sign", "-", "--name", "web1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let public = fs::read(world.dir.path().join(&key)).unwrap();
    child.stdin.take().unwrap().write_all(&public).unwrap();
    let out = child.wait_with_output().unwrap();
    let line = String::from_utf8(out.stdout).unwrap();
    assert!(line.starts_with("ssh-ed25519-cert-v01@openssh.com ") && line.lines().count() == 1, "{line}");

    for (names, problem) in [(&["*"][..], "no wildcards"), (&["web1", "a,b"][..], "no host name")] {
        let mut arguments = vec!["host", "sign", key.as_str()];
        arguments.extend(names.iter().flat_map(|name| ["--name", name]));
        let (code, said) = world.bad(&arguments);
        assert_eq!(code, 1);
        assert!(said.contains(problem), "{said}");
    }
    let (code, said) = world.bad(&["host", "sign", "web1", "--name", "web1"]);
    assert_eq!(code, 64);
    assert!(said.contains("ermission") || said.contains("private key"), "{said}");
}

#[test]
fn a_host_token_is_one_word_on_standard_output_and_nowhere_else() {
    let world = World::init();
    let out = world.run(&["host", "token", "Web1", "web1.example.com", "--for", "2h"]);
    assert!(out.status.success(), "{out:?}");
    let token = String::from_utf8(out.stdout).unwrap();
    assert!(token.starts_with("ussh-host-") && token.ends_with('\n') && token.lines().count() == 1, "{token}");
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("Web1 becomes web1") && said.contains("token 1 for web1, web1.example.com, once"), "{said}");
    assert!(!said.contains(token.trim()), "{said}");
    let json = world.good(&["host", "token", "web2", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(made["expires"].as_u64().unwrap() - made["made"].as_u64().unwrap(), 3600);
    let secret = made["token"].as_str().unwrap().to_owned();
    let listed = world.good(&["host", "tokens"]) + &world.good(&["host", "tokens", "--json"]);
    assert!(listed.starts_with("TOKEN") && listed.contains("web1,web1.example.com"), "{listed}");
    assert!(!listed.contains(&secret) && !listed.contains(token.trim()), "{listed}");
    world.good(&["host", "token", "--revoke", "1"]);
    let listed = world.good(&["host", "tokens", "--json"]);
    assert!(listed.lines().count() == 1 && listed.contains("\"web2\""), "{listed}");
    let (code, said) = world.bad(&["host", "token", "--revoke", "1"]);
    assert!(code == 1 && said.contains("usshca host tokens"), "{said}");
    for wrong in [
        &["host", "token"][..],
        &["host", "token", "web1", "--revoke", "1"],
        &["host", "token", "--for", "2h", "--revoke", "1"],
        &["host", "token", "web1", "--for", "0"],
    ] {
        assert_eq!(world.bad(wrong).0, 64, "{wrong:?}");
    }
    for (name, problem) in [("*.example.com", "no wildcards"), ("a,b", "no host name")] {
        let (code, said) = world.bad(&["host", "token", "web1", name]);
        assert!(code == 1 && said.contains(problem), "{said}");
    }
    let (code, said) = world.bad(&["host", "token", "web1", "--for", "8d"]);
    assert!(code == 1 && said.contains("7d"), "{said}");
}

#[test]
fn hosts_are_listed_shown_and_removed() {
    let world = World::init();
    let key = world.host_key("web1");
    if is_root() {
        chown(world.dir.path().join(&key), Some(NOBODY), None).unwrap();
    }
    world.good(&["host", "sign", &key, "--name", "web1", "--name", "www", "--validity", "2d"]);
    let listed = world.good(&["host", "list"]);
    let names: Vec<&str> = listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["HOST", "ca", "web1"], "{listed}");
    let soon = world.good(&["host", "list", "--expiring", "3d", "--json"]);
    let host: serde_json::Value = serde_json::from_str(&soon).unwrap();
    assert_eq!((host["name"].as_str(), host["principals"][1].as_str()), (Some("web1"), Some("www")));
    assert_eq!(world.bad(&["host", "list", "--expiring", "1d", "--json"]).0, 1);
    let csv = world.good(&["host", "list", "--csv"]);
    assert!(csv.starts_with("name,principals,") && csv.contains("\r\nweb1,web1 www,SHA256:"), "{csv}");
    let shown = world.good(&["host", "show", "WEB1"]);
    assert!(shown.contains("names          web1, www\n") && shown.contains("last seen      never\n"), "{shown}");
    assert!(shown.contains("key            ssh-ed25519 SHA256:"), "{shown}");
    let said = world.good(&["host", "remove", "web1", "--reason", "scrapped"]);
    assert!(said.contains("removed host web1: 1 certificate revoked") && said.contains("ussh-hostd sync"), "{said}");
    assert!(said.contains("`RevokedHostKeys`") && !said.contains("hosts refuse"), "{said}");
    assert!(world.good(&["list"]).lines().nth(1).unwrap().contains("web1,www"));
    assert!(world.good(&["revocations"]).contains("scrapped"));
    assert!(!world.good(&["host", "list"]).contains("web1"));
    assert!(world.good(&["host", "show", "web1"]).contains("removed "));
    for verb in ["show", "remove"] {
        let (code, said) = world.bad(&["host", verb, "web9"]);
        assert!(code == 1 && said.contains("usshca host list"), "{said}");
    }
    assert_eq!(world.bad(&["host", "list", "--json", "--csv"]).0, 64);
}

#[test]
fn a_host_key_that_changes_hands_and_a_host_that_comes_back_are_said_to() {
    let world = World::init();
    let key = world.host_key("web1");
    let sign_by = |name: &str, more: &[&str]| {
        let out = world.run(&[&["host", "sign", &key, "--name", name, "--out", "c-cert.pub"], more].concat());
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let sign = |name: &str| {
        let (code, said) = sign_by(name, &[]);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    assert_eq!(sign("web1"), "");
    assert_eq!(sign("web1"), "", "its own");
    let (code, said) = sign_by("web9", &[]);
    assert!(code == Some(1) && said.contains("this key is host web1's") && said.contains("--take-key"), "{said}");
    assert!(!world.good(&["host", "list"]).contains("web9"), "it came to nothing");
    let (code, said) = sign_by("web9", &["--take-key"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("this key was host web1's, and is host web9's from now on")
            && said.contains("revoke --host web1 ends"),
        "{said}"
    );
    assert_eq!(sign("web9"), "", "web1 has it no more");
    assert!(world.good(&["host", "remove", "web9"]).contains("removed host web9: 2 certificates revoked"));
    assert_eq!(world.good(&["host", "remove", "web9"]), "host web9: was removed before\n");
    assert_eq!(json(&world.good(&["host", "remove", "web9", "--json"]))["already"], true);
    assert_eq!(sign("web9"), "usshca: note: host web9 was removed; it is back\n");
    assert_eq!(sign("web9"), "");
}

#[test]
fn a_list_of_what_was_looked_for_is_1_when_it_is_empty_and_what_is_missing_is_said_with_what_to_do() {
    let world = World::init();
    let (code, said) = world.bad(&["host", "list", "--expiring", "1h"]);
    assert!(code == 1 && said.contains("no host has a certificate that ends within that time"), "{said}");
    let key = world.host_key("web1");
    world.good(&["host", "sign", &key, "--name", "web1", "--validity", "1h", "--out", "c-cert.pub"]);
    assert_eq!(world.good(&["host", "list", "--expiring", "2h"]).lines().count(), 2);
    let (code, said) = world.bad(&["key", "list", "nobody-at-all"]);
    assert!(code == 1 && said.contains("no key is registered for nobody-at-all"), "{said}");
    assert_eq!(world.good(&["key", "list"]).lines().count(), 1);

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = world.command(&["list"]).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(73), "{out:?}");

    let away = |name: &str, words: &str| {
        let (path, aside) = (world.ca().join(name), world.ca().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let (code, said) = world.bad(&["check"]);
        fs::rename(&aside, &path).unwrap();
        assert!(code == 78 && said.contains(words), "{said}");
    };
    let service = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), service).unwrap();
    away("state/user_ca", "put it back from a copy of the state folder");
    let host_key = fs::read_dir(world.ca()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let certificate = host_key.into_iter().find(|name| name.ends_with("-cert.pub")).expect("a host certificate");
    away(&certificate, "usshca host sign makes one");
    fs::write(world.ca().join("state/inventory.db"), [b'x'; 8192]).unwrap();
    let (code, said) = world.bad(&["list"]);
    assert!(code == 78 && said.contains("put back a backup"), "{said}");
}

#[test]
fn the_policy_says_how_long_a_host_certificate_lasts_and_check_reads_it() {
    let world = World::init();
    let key = world.host_key("web1");
    if is_root() {
        chown(world.dir.path().join(&key), Some(NOBODY), None).unwrap();
    }
    let policy = world.read("policy.toml");
    let with = |text: &str| fs::write(world.ca().join("policy.toml"), format!("{text}\n{policy}")).unwrap();
    with("host_validity_seconds = 3600\nhost_wildcards = [\"*.apps.example.com\"]");
    world.good(&["host", "sign", &key, "--name", "web1", "--name", "*.apps.example.com"]);
    let host: serde_json::Value = serde_json::from_str(&world.good(&["host", "show", "web1", "--json"])).unwrap();
    let valid = host["valid_before"].as_u64().unwrap() - host["enrolled"].as_u64().unwrap();
    assert_eq!(valid, 3600);
    assert!(world.ssh_keygen_l(Path::new("web1-cert.pub")).contains("*.apps.example.com"));
    for (wrong, problem) in [
        ("host_validity_seconds = 0", "host_validity_seconds must be 60 to "),
        ("host_wildcards = []", "host_wildcards must hold names such as"),
        ("host_wildcards = [\"*\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.com\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"web*.example.com\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.*.example.com\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.Example.com\"]", "host_wildcards must hold"),
        ("host_wildcards = [\"*.com.\"]", "host_wildcards must hold"),
    ] {
        with(wrong);
        let (code, said) = world.bad(&["host", "list"]);
        assert!(code == 78 && said.contains("line 1") && said.contains(problem), "{wrong}: {said}");
    }
}

#[test]
fn keys_are_registered_listed_and_removed() {
    let world = World::init();
    let public = world.host_key("id");
    let json: serde_json::Value =
        serde_json::from_str(&world.good(&["key", "register", "nobody", &public, "--json"])).unwrap();
    let fingerprint = json["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!((&json["user"], &json["already"]), (&"nobody".into(), &false.into()));
    assert!(world.good(&["key", "register", "nobody", &public]).ends_with(") is registered for nobody already\n"));
    let listed = world.good(&["key", "list", "nobody", "--json"]);
    let key: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((key["fingerprint"].as_str(), key["revoked"].as_bool()), (Some(&*fingerprint), Some(false)));
    assert!(world.good(&["key", "list"]).contains(&fingerprint));
    assert_eq!(world.bad(&["key", "list", "daemon", "--json"]).0, 1);

    let (code, said) = world.bad(&["key", "register", "daemon", &public]);
    assert!(code == 1 && said.contains("this key is registered for nobody"), "{code} {said}");
    // Nobody may read a private key of root's.
    fs::set_permissions(world.dir.path().join("id"), Permissions::from_mode(0o644)).unwrap();
    let (code, said) = world.bad(&["key", "register", "daemon", "id"]);
    assert!(code == 64 && said.contains("private key"), "{code} {said}");
    let (code, said) = world.bad(&["key", "register", "a,b", &public]);
    assert!(code == 1 && said.contains("cannot be a principal"), "{code} {said}");
    let ca = world.ca().join("public/user_ca.pub");
    let (code, said) = world.bad(&["key", "register", "daemon", ca.to_str().unwrap()]);
    assert!(code == 1 && said.contains("CA's own"), "{code} {said}");

    assert!(world.good(&["key", "remove", &fingerprint]).contains("is no key of nobody any more"));
    let (code, said) = world.bad(&["key", "remove", &fingerprint]);
    assert!(code == 1 && said.contains("no such key is registered"), "{code} {said}");
    let (code, said) = world.bad(&["key", "remove", "SHA256:short"]);
    assert!(code == 64 && said.contains("key remove SHA256:short: no fingerprint"), "{code} {said}");
    world.good(&["revoke", "--key", &fingerprint]);
    let (code, said) = world.bad(&["key", "register", "nobody", &public]);
    assert!(code == 1 && said.contains("this key is revoked"), "{code} {said}");
}
