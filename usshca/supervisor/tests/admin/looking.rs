//! Verbs that only look: they change nothing, and say what they saw.
use super::*;

#[test]
fn list_stops_quietly_when_nobody_reads_on() {
    let world = World::init();
    let mut child = world.command(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.stderr.is_empty(), "{out:?}");
}

#[test]
fn check_reads_the_policy_while_a_signer_is_at_work() {
    let world = World::init();
    // This stands for the CA that runs, and says that no serials are lost, and how far it has come: nothing else is asked of it.
    let running = ussh_os::seqpacket::SeqPacketListener::bind(&world.ca().join("admin.sock"), 0o666).unwrap();
    std::thread::spawn(move || {
        while let Ok(socket) = running.accept() {
            let channel = Channel::<Reply, Request>::new(socket);
            while let Ok(asked) = channel.receive(None) {
                let reply = if asked.message == Request::Lost {
                    Reply::Lost(vec![])
                } else if matches!(asked.message, Request::Show { .. }) {
                    Reply::Refused("there is no certificate with this serial".to_owned())
                } else {
                    assert_eq!(asked.message, Request::Latest);
                    Reply::Latest { row: 1_700_000_000, krl_version: 4_000_000_000 }
                };
                channel.send(&reply).unwrap();
            }
        }
    });
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    let policy = world.read("policy.toml");
    fs::write(world.ca().join("policy.toml"), policy.replace("users = [\"root\"]", "groups = [\"no-such-group\"]"))
        .unwrap();
    // And this for its supervisor.
    let desk = std::os::unix::net::UnixListener::bind(world.ca().join("status.sock")).unwrap();
    fs::set_permissions(world.ca().join("status.sock"), Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in desk.incoming() {
            stream.unwrap().write_all(STATUS.as_bytes()).unwrap();
        }
    });
    let out = world.run(&["check"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("warning") && said.contains("no-such-group"), "{said}");
    assert!(said.contains("policy.toml:") && said.contains("rule \""), "where it stands: {said}");
    assert!(said.contains("warning: user_ca: gone"), "{said}");
    let (code, said) = world.bad(&["check", "--strict"]);
    assert!(code == 1 && said.contains("usshca: warnings: "), "{said}");
    let out = world.run(&["check", "--json", "--strict"]);
    let found = json(&String::from_utf8(out.stdout).unwrap());
    let warnings = found["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning.as_str().unwrap().contains("no-such-group")), "{found}");
    assert!(found["error"].is_null() && out.status.code() == Some(1), "{found}");
    fs::write(
        world.ca().join("policy.toml"),
        policy.replace("users = [\"root\"]", "users = [\"root\", \"no-such-user\"]"),
    )
    .unwrap();
    let said = String::from_utf8(world.run(&["check"]).stderr).unwrap();
    assert!(said.contains("this machine knows no user \"no-such-user\""), "{said}");
    assert!(said.contains("the last KRL's version is 2096-10-02T07:06:40Z, more than a day ahead"), "{said}");
    assert!(said.contains("A clock that was far ahead"), "{said}");
    fs::write(world.ca().join("policy.toml"), policy.replace("deny", "denie")).unwrap();
    let (code, said) = world.bad(&["check"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("/policy.toml: line ") && said.contains("denie"), "{said}");
}

#[test]
fn check_shows_what_a_missing_pam_service_is_to_hold() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"no-such-service\"");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    let (code, said) = world.bad(&["check"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("/etc/pam.d/no-such-service is missing"), "{said}");
    // The same as `usshca init` writes, and as packaging/pam.d/usshca holds.
    let packaged = include_str!("../../../../packaging/pam.d/usshca").lines().filter(|line| !line.starts_with('#'));
    assert!(said.ends_with(&packaged.fold(":\n".to_owned(), |all, line| all + line + "\n")), "{said}");
}

#[test]
fn root_who_looks_at_a_ca_of_somebody_elses_is_told_to_do_it_as_them_and_to_change_nothing() {
    if !is_root() {
        return;
    }
    let world = World::init();
    for verb in [&["check"][..], &["list"], &["host", "list"]] {
        let mut command = Command::new(world.programs.path().join("usshca"));
        let out = command.arg("--dir").arg(world.ca()).args(verb).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{verb:?}: {said}");
        assert!(said.contains("this CA is run by nobody, who alone administers it: run this as nobody"), "{said}");
        assert!(!said.contains("chown"), "{said}");
    }
    // A file of root's CA that others can change is another matter.
    let writable = world.ca().join("usshca.toml");
    fs::set_permissions(&writable, Permissions::from_mode(0o666)).unwrap();
    let (code, said) = world.bad(&["check"]);
    assert!(code == 78 && said.contains("chmod go-w"), "{said}");
}

/// Of what the next start of the CA will see to, too: a look must not take the place of it, nor of what an administrator decides before.
#[test]
fn check_changes_nothing_on_disk_whatever_there_is_to_do() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config.replace("127.0.0.1:2022", "127.0.0.1:0")).unwrap();
    let state = |name: &str| world.ca().join("state").join(name);
    let check = |what: &str| {
        let before = tree(&world.ca());
        let out = world.run(&["check"]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.success(), "{what}: {said}");
        let after = tree(&world.ca());
        let changed: Vec<_> = after.iter().filter(|(path, found)| before.get(*path) != Some(found)).collect();
        assert!(before == after, "{what}: {:?}", changed.iter().map(|(path, _)| path).collect::<Vec<_>>());
        said
    };
    assert!(!check("a new CA").contains("was put back"));
    let old = fs::read(state("inventory.db")).unwrap();
    let key = world.host_key("web1");
    world.good(&["host", "sign", &key, "--name", "web1", "--out", "web1-cert.pub"]);
    let serial = world.serials().remove(0);
    world.good(&["krl", "--out", "krl"]);
    assert!(!check("a CA that has worked").contains("was put back"));

    fs::write(state("inventory.db"), old).unwrap();
    let said = check("an inventory that was put back");
    assert!(said.contains(&format!("revoke --serials {serial}-{serial} ")), "{said}");
    fs::remove_file(state("serials")).unwrap();
    assert!(check("no mark").contains("was put back"));
    // What a kill leaves of a feed key that was to be.
    fs::copy(state("feed_key"), state("feed_key.new")).unwrap();
    if is_root() {
        chown(state("feed_key.new"), Some(NOBODY), None).unwrap();
    }
    fs::remove_file(state("lock")).unwrap();
    check("a feed key that nobody has handed over to");
    world.good(&["list"]);
    assert!(!state("feed_key.new").exists() && state("serials").exists(), "any other verb does what is to be done");
}

#[test]
fn serve_waits_for_a_verbs_signer_to_end() {
    let world = World::init();
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    fs::write(world.ca().join("usshca.toml"), config.replace("127.0.0.1:2022", "127.0.0.1:0")).unwrap();
    // As a verb's signer has it for a moment.
    let lock = fs::File::options().write(true).open(world.ca().join("state/lock")).unwrap();
    lock.try_lock().unwrap();
    let mut serve = world.command(&["serve"]);
    let mut serve = serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = lines.find(|line| line.contains("another signer"));
    assert!(waits.as_ref().is_some_and(|line| line.contains("waiting for another signer")), "{waits:?}");
    drop(lock);
    let up =
        lines.find(|line| line.contains("listening on") || line.contains("another signer is at work on this state;"));
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert!(up.as_ref().is_some_and(|line| line.contains("listening on")), "{up:?}");
}

#[test]
fn explain_says_which_rule_decides_and_why_the_others_do_not() {
    let world = World::init();
    let said = world.good(&["explain", "alice", "--group", "staff", "--from", "192.0.2.1"]);
    assert!(said.contains("rule \"no root\" is about other users and groups\n"), "{said}");
    assert!(said.contains("rule \"everybody\" decides:\n") && said.contains("principals   alice\n"), "{said}");
    let (code, said) = world.bad(&["explain", "root", "--group", "root"]);
    assert_eq!(code, 1);
    assert!(said.contains("the rule denies"), "{said}");
    assert_eq!(world.bad(&["explain", "no-such-account"]).0, 1);
    assert_eq!(world.bad(&["explain", "alice", "--group", "x", "--at", "tomorrow"]).0, 64);
    let (_, said) = world.bad(&["explain", "alice", "--group", "x", "--auth", "password"]);
    assert!(said.contains("pam, publickey, publickey+pam, none"), "{said}");
    let policy = world.read("policy.toml");
    let (head_of, last) = policy.rsplit_once("\nname = \"everybody\"").unwrap();
    let strict =
        format!("{head_of}\nname = \"everybody\"\nauthentication = [\"publickey+pam\"]\nreason_required = true{last}");
    fs::write(world.ca().join("policy.toml"), strict).unwrap();
    // What the rule demands is supposed, and said.
    let said = world.good(&["explain", "alice", "--group", "x"]);
    let head = "alice (groups: x) from 127.0.0.1, if authenticated by publickey+pam, inject, key type ed25519, with a reason\n";
    assert!(said.starts_with(head) && said.contains("principals   alice\n"), "{said}");
    assert!(
        said.contains(
            "    demands      publickey+pam; inject; keys of the types ed25519, ecdsa, ed25519-sk, ecdsa-sk; a reason\n"
        ),
        "{said}"
    );
    let (code, said) = world.bad(&["explain", "alice", "--group", "x", "--auth", "pam"]);
    assert!(code == 1 && said.contains("publickey+pam; without --auth it is supposed"), "{said}");
    let (code, said) = world.bad(&["explain", "alice", "--group", "x", "--reason", ""]);
    assert!(code == 1 && said.contains("without --reason it is supposed that the user gives one"), "{said}");
    world.good(&["explain", "alice", "--group", "x", "--auth", "publickey+pam", "--reason", "for it"]);
    let answer = world.good(&["explain", "alice", "--group", "x", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&value["authentication"], &value["reason_supposed"]), (&"publickey+pam".into(), &true.into()));
    assert_eq!((&value["demands"]["modes"][0], &value["demands"]["reason"]), (&"inject".into(), &true.into()));
    // Keys and modes: what a login would ask for, and not what the rule does not allow.
    for (line, by) in [
        ("key_types = [\"ecdsa-sk\", \"ecdsa\"]", "pam, inject, key type ecdsa\n"),
        ("modes = [\"client-key\"]\nkey_types = [\"ecdsa-sk\", \"ecdsa\"]", "pam, client-key, key type ecdsa-sk\n"),
        ("modes = [\"inject\", \"client-key\"]\nkey_types = [\"rsa\", \"ecdsa\"]", "pam, inject, key type ecdsa\n"),
        ("authentication = [\"none\"]\nfrom = [\"127.0.0.1\"]", "none, inject, key type ed25519\n"),
    ] {
        fs::write(world.ca().join("policy.toml"), format!("{head_of}\nname = \"everybody\"\n{line}{last}")).unwrap();
        let said = world.good(&["explain", "alice", "--group", "x"]);
        assert!(
            said.lines()
                .next()
                .is_some_and(|first| format!("{first}\n").ends_with(&format!("if authenticated by {by}"))),
            "{said}"
        );
        assert_eq!(said.contains("in the agent"), by.contains("inject"), "{said}");
    }
    // Of a key that the CA does not make, the user's own is meant, and none is promised by the mode inject.
    let both = "modes = [\"inject\", \"client-key\"]\nkey_types = [\"rsa\", \"ecdsa\"]";
    let made = "key_types = [\"rsa\", \"ecdsa\"]";
    let not_made = "the CA makes no keys of the type rsa: one can only be the user's own, in the mode client-key";
    for (line, mode, expected) in [
        (both, None, Ok("client-key, key type rsa\n")),
        (both, Some("inject"), Err(not_made)),
        (made, None, Err(not_made)),
        (made, Some("client-key"), Err("the rule does not allow the mode client-key")),
    ] {
        fs::write(world.ca().join("policy.toml"), format!("{head_of}\nname = \"everybody\"\n{line}{last}")).unwrap();
        let mode: Vec<&str> = mode.into_iter().flat_map(|mode| ["--mode", mode]).collect();
        let arguments = [&["explain", "alice", "--group", "x", "--key-type", "rsa"], &mode[..]].concat();
        match expected {
            Ok(words) => assert!(world.good(&arguments).contains(words), "{line}"),
            Err(words) => {
                let (code, said) = world.bad(&arguments);
                assert!(code == 1 && said.contains(words), "{line}: {said}");
            }
        }
    }
    let own = ["explain", "alice", "--group", "x", "--mode", "client-key", "--json"];
    fs::write(world.ca().join("policy.toml"), format!("{head_of}\nname = \"everybody\"\n{both}{last}")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&world.good(&own)).unwrap();
    assert!(value["certificate"].is_object() && value["certificate"]["agent_lifetime_seconds"].is_null(), "{value}");
    fs::write(world.ca().join("policy.toml"), policy).unwrap();
    let answer = world.good(&["explain", "alice", "--group", "x", "--for", "1h", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (value["rule"].as_str(), value["certificate"]["agent_lifetime_seconds"].as_u64()),
        (Some("everybody"), Some(3600))
    );
}

#[test]
fn find_and_csv_show_the_rows_of_list() {
    let world = World::init();
    let serial = world.serials().remove(0);
    let listed = world.good(&["list", "--json"]);
    for wanted in [
        &["--serial", serial.as_str()][..],
        &["--host", "CA.example.com"],
        &["--principal", "ca.example.com", "--state", "signed"],
        &["--from", "admin", "--time", "2026-01-01T00:00:00Z.."],
    ] {
        let arguments = [&["find", "--json"][..], wanted].concat();
        assert_eq!(world.good(&arguments), listed, "{wanted:?}");
    }
    let table = world.good(&["find", "--host", "ca.example.com"]);
    assert_eq!(table, world.good(&["list"]));
    let csv = world.good(&["list", "--csv"]);
    assert!(
        csv.starts_with("id,row,serial,kind,key_id,principals,") && csv.contains(&format!("{serial},1,{serial},host,")),
        "{csv}"
    );
    assert_eq!(world.good(&["find", "--host", "ca.example.com", "--csv"]), csv);
    let (code, said) = world.bad(&["find", "--user", "alice"]);
    assert!(code == 1 && said.contains("nothing of that kind"), "{said}");
    for wrong in [
        &["find"][..],
        &["find", "--state", "lost"],
        &["find", "--time", "today"],
        &["find", "--csv", "--json", "--user", "a"],
    ] {
        assert_eq!(world.bad(wrong).0, 64, "{wrong:?}");
    }
}

/// 1 would say: looked for, and not found.
#[test]
fn what_cannot_be_meant_is_wrong_usage_and_said_in_its_own_words() {
    let world = World::init();
    for (arguments, why) in [
        (
            &["explain", "alice", "--group", "x", "--auth", "foo"][..],
            "[possible values: pam, publickey, publickey+pam, none]",
        ),
        (&["explain", "alice", "--group", "x", "--mode", "foo"], "possible values: inject"),
        (&["explain", "alice", "--group", "x", "--key-type", "dsa"], "possible values: ed25519"),
        (&["revoke", "--key", "SHA256:bad"], "--key SHA256:bad: no fingerprint; must be SHA256: and 43 characters"),
        (&["find", "--key", "SHA256:abc"], "--key SHA256:abc: no fingerprint"),
        (&["key", "remove", "SHA256:abc"], "key remove SHA256:abc: no fingerprint"),
        (&["revoke", "--serials", "9-5"], "the lower one first"),
        (&["revoke", "--serials", "0-5"], "the lower one first"),
        (&["find", "--from", "10.1.0.0/16"], "must be one IP address, or admin"),
        (
            &["find", "--serial", "r1"],
            "must be the serial of a certificate, a number, as `usshca list` shows it; r and a number",
        ),
        (&["revoke", "r3"], "r and a number is a refusal"),
        (&["revoke", "alice"], "must be the serial of a certificate"),
        (&["revoke", "--undo", "abc"], "must be the number of a revocation, as `usshca revocations`"),
        (&["backup", "-"], "name a file or a folder"),
    ] {
        let (code, said) = world.bad(arguments);
        assert!(code == 64 && said.contains(why), "{arguments:?}: {code} {said}");
    }
    assert!(!world.dir.path().join("-").exists());
    let (code, said) = world.bad(&["find", "--from", "::ffff:192.0.2.1"]);
    assert!(code == 1 && said.contains("nothing of that kind"), "{said}");
    for auth in ["pam", "publickey", "publickey+pam", "none"] {
        let out = world.run(&["explain", "alice", "--group", "x", "--auth", auth]);
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(said.contains(&format!("authenticated by {auth}")), "{said}");
    }
}

#[test]
fn replay_of_a_policy_that_is_none_says_what_is_wrong_with_it() {
    let world = World::init();
    let policy = world.read("policy.toml");
    fs::write(world.dir.path().join("good.toml"), &policy).unwrap();
    fs::write(world.dir.path().join("bad.toml"), policy.replace("deny", "denie")).unwrap();
    assert!(world.good(&["replay", "--policy", "good.toml"]).starts_with("0 requests of the last 7 days judged, 0 "));
    assert_eq!(world.good(&["replay", "--policy", "good.toml", "--json"]), "{\"changed\":0,\"judged\":0}\n");
    let (code, said) = world.bad(&["replay", "--policy", "bad.toml"]);
    assert!(code == 78 && said.contains("denie"), "{said}");
    assert_eq!(world.bad(&["replay", "--policy", "none.toml"]).0, 64);
}
