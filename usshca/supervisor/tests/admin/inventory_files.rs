//! The inventory's files, and what no verb writes over.
use super::*;

#[test]
fn a_backup_that_is_put_back_says_which_serials_to_revoke_until_they_are() {
    let world = World::init();
    let key = world.host_key("web1");
    let sign = |name: &str| world.good(&["host", "sign", &key, "--name", name, "--out", "x-cert.pub"]);
    let said = world.good(&["backup", "copy.db"]);
    assert!(said.contains("1 rows"), "{said}");
    let copy = world.dir.path().join("copy.db");
    assert_eq!(mode(&copy), 0o600);
    fs::create_dir(world.dir.path().join("folder")).unwrap();
    if is_root() {
        chown(world.dir.path().join("folder"), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let said = world.good(&["backup", "folder", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&said).unwrap();
    let file = value["file"].as_str().unwrap();
    assert!(file.starts_with("folder/inventory-20") && file.ends_with("Z.db"), "{file}");
    assert_eq!(world.dir.path().join(file).metadata().unwrap().len(), value["bytes"].as_u64().unwrap());
    assert_eq!(world.bad(&["backup", "none/x.db"]).0, 73);

    sign("web1");
    let lost = world.serials().remove(0);
    let state = world.ca().join("state");
    fs::copy(&copy, state.join("inventory.db")).unwrap();
    assert_eq!(world.serials().len(), 1);
    sign("web2");
    let next = world.serials().remove(0);
    let epoch = |serial: &str| serial.parse::<u64>().unwrap() >> 40;
    assert_ne!(epoch(&next), epoch(&lost));

    let check = || {
        let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
        let config = config.replace("127.0.0.1:2222", "127.0.0.1:0").replace("0.0.0.0:2222", "127.0.0.1:0");
        fs::write(world.ca().join("usshca.toml"), config).unwrap();
        let out = world.run(&["check"]);
        String::from_utf8(out.stderr).unwrap()
    };
    let said = check();
    let advice =
        said.lines().find_map(|line| line.trim().strip_prefix("usshca --dir ")).unwrap_or_else(|| panic!("{said}"));
    let words: Vec<&str> = advice.split(' ').skip(1).take(3).collect();
    assert_eq!(words[..2], ["revoke", "--serials"], "{advice}");
    let (first, last) = words[2].split_once('-').unwrap();
    assert_eq!((first, last), (lost.as_str(), lost.as_str()));
    world.good(&words);
    assert!(!check().contains("--serials"));
    // The certificate that nobody knows any more is refused.
    world.good(&["krl", "--out", "krl"]);
    let out = Command::new("ssh-keygen").args(["-Qf", "krl", "x-cert.pub"]).current_dir(world.dir.path()).output();
    assert!(String::from_utf8(out.unwrap().stdout).unwrap().contains(": ok"), "web2's is good");
    let listed = world.good(&["revocations"]);
    assert!(listed.contains(&format!("serials {lost}-{lost}")), "{listed}");
    for wrong in [format!("{last}-{}", u64::MAX), format!("{}-{next}9", next), "5".to_owned(), "9-5".to_owned()] {
        assert_ne!(world.bad(&["revoke", "--serials", &wrong]).0, 0, "{wrong}");
    }
    let beyond = format!("{next}-{}", next.parse::<u64>().unwrap() + 1);
    assert!(world.bad(&["revoke", "--serials", &beyond]).1.contains("still to be given"));
}

/// Each of these replaced the file, and said nothing.
#[test]
fn no_verb_writes_over_the_cas_own_files() {
    let world = World::init();
    let ca = world.ca();
    std::os::unix::fs::symlink("ca/state", world.dir.path().join("link")).unwrap();
    fs::write(world.dir.path().join("mine"), "a text of mine").unwrap();
    let key = world.host_key("web1");
    let every = || {
        let mut files: Vec<_> =
            ["", "state", "public"].iter().flat_map(|at| fs::read_dir(ca.join(at)).unwrap()).collect();
        files.sort_by_key(|file| file.as_ref().unwrap().path());
        let files = files.into_iter().map(|file| file.unwrap().path()).filter(|path| path.is_file());
        // Two files that a signer which only starts writes to.
        let files = files.filter(|path| !["serials", "inventory.db"].iter().any(|name| path.ends_with(name)));
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let before = every();
    let inventory = fs::metadata(ca.join("state/inventory.db")).unwrap().ino();
    let state = "where the CA's keys and its inventory are";
    let own = "the CA's own file";
    for (arguments, why) in [
        (&["backup", "ca/state/inventory.db"][..], state),
        (&["backup", "ca/state"], state),
        (&["backup", "link/inventory.db"], state),
        (&["backup", "ca/public/../state/copy"], state),
        (&["backup", "ca/policy.toml"], own),
        (&["backup", "ca/public/x.db"], "which everybody fetches"),
        (&["backup", "ca/public"], "which everybody fetches"),
        (&["backup", "mine"], "no backup"),
        (&["backup", "/dev/full"], "it is not replaced; name a file or a folder"),
        (&["krl", "--out", "ca/state/host_ca"], "no KRL"),
        (&["krl", "--out", "ca/state/krl"], state),
        (&["krl", "--out", "ca/usshca.toml"], "the name of a configuration or a policy"),
        (&["krl", "--out", "ca/new.toml"], "the name of a configuration or a policy"),
        (&["krl", "--out", "team.TOML"], "the name of a configuration or a policy"),
        (&["krl", "--out", "ca/krl"], "in the folder of the CA's configuration"),
        (&["krl", "--out", "mine"], "there is a file that is no KRL"),
        (&["krl", "--out", "ca/ssh_host_ed25519_key"], "no KRL"),
        (&["krl", "--out", "ca/ssh_host_ed25519_key-cert.pub"], "no KRL"),
        (&["krl", "--out", "ca/public/user_ca.pub"], "no KRL"),
        (&["host", "sign", &key, "--name", "web1", "--out", "link/user_ca"], state),
        (&["host", "sign", &key, "--name", "web1", "--out", "ca/policy.toml"], own),
        (&["publish", "ca/state"], state),
        (&["publish", "link/feed"], state),
        (&["feed", "sign", "ca/state", "--key", "ca/state/feed_key"], state),
    ] {
        let (code, said) = world.bad(arguments);
        assert_eq!(code, 73, "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    assert!(every() == before);
    assert_eq!(fs::metadata(ca.join("state/inventory.db")).unwrap().ino(), inventory);
    assert_eq!(fs::read_to_string(world.dir.path().join("mine")).unwrap(), "a text of mine");
    // No certificate was made in vain; and what was meant goes on: a backup over a backup, the CA's own host certificate.
    assert_eq!(world.serials().len(), 1);
    fs::write(world.dir.path().join("empty"), "").unwrap();
    chown(world.dir.path().join("empty"), Some(fs::metadata(&ca).unwrap().uid()), None).unwrap();
    for _ in 0..2 {
        world.good(&["backup", "empty"]);
    }
    world.good(&["host", "sign", "ca/ssh_host_ed25519_key.pub", "--name", "ca"]);
    // Over the one before, too.
    for _ in 0..2 {
        world.good(&["krl", "--out", "ca/public/krl"]);
    }
}
