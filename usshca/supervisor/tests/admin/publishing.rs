//! The feed, as files.
use super::*;

#[test]
fn publish_writes_a_feed_that_a_host_takes_and_stock_tools_understand() {
    let world = World::init();
    let said = world.good(&["publish", "feed"]);
    assert!(said.starts_with("feed: version ") && said.contains("valid until"), "{said}");
    let folder = world.dir.path().join("feed");
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["feed", "known_hosts", "krl", "manifest", "manifest.sig", "user_ca.pub"]);
    assert!(names.iter().all(|name| mode(&folder.join(name)) == 0o644) && mode(&folder) == 0o755);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(read("user_ca.pub").starts_with(world.read("public/user_ca.pub").rsplit_once(" user CA").unwrap().0));
    assert!(read("known_hosts").starts_with("@cert-authority * ssh-ed25519 "));

    let key = world.ca().join("public/feed_key.pub");
    let key = key.to_str().unwrap();
    let first = json(&world.good(&["feed", "verify", "feed", "--key", key, "--json"]));
    assert_eq!(first["ca"], "ca");
    let version = first["version"].as_str().unwrap().to_owned();
    let (code, why) = world.bad(&["feed", "verify", "feed", "--key", "ca/public/user_ca.pub"]);
    assert!(code == 1 && why.contains("not the pinned feed key"), "{why}");
    // ssh-keygen reads the KRL, and checks the manifest.
    let keygen = |args: &[&str]| Command::new("ssh-keygen").args(args).current_dir(&folder).output().unwrap();
    assert!(keygen(&["-Q", "-l", "-f", "krl"]).status.success());
    fs::write(world.dir.path().join("allowed"), format!("ca {}", fs::read_to_string(key).unwrap())).unwrap();
    let script = "ssh-keygen -Y verify -f ../allowed -I ca -n feed@ussh -s manifest.sig < manifest";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&folder).output().unwrap().status.success());

    // What is revoked is in the next one, which is newer.
    let serial = world.serials().remove(0);
    world.good(&["revoke", &serial]);
    let second = json(&world.good(&["publish", "feed", "--valid-for", "2h", "--json"]));
    assert_ne!(second["version"], first["version"]);
    assert_eq!(second["valid_until"].as_u64().unwrap() - second["generated"].as_u64().unwrap(), 7200);
    let certificate = world.ca().join("ssh_host_ed25519_key-cert.pub");
    let asked = keygen(&["-Q", "-f", "krl", certificate.to_str().unwrap()]);
    assert!(String::from_utf8(asked.stdout).unwrap().contains("REVOKED"));
    let (code, why) = world.bad(&["feed", "verify", "feed", "--key", key, "--min-version", "99999999999"]);
    assert!(code == 1 && why.contains("going back is refused"), "{why}");
    let shown = world.good(&["feed", "show", "feed"]);
    let host_ca = world.read("public/host_ca.pub");
    let host_ca = ussh_core::keys::PublicKey::from_openssh(host_ca.trim_end()).unwrap().fingerprint();
    assert!(shown.contains(&format!("host CA        ED25519 {host_ca} for *\n")), "{shown}");
    assert!(shown.contains("signed by      ED25519 SHA256:") && shown.contains("handovers      0"), "{shown}");
    assert!(version.parse::<u64>().unwrap() > 1_700_000_000);
    assert!(world.good(&["publish", "feed", "--quiet"]).is_empty());
}

#[test]
fn publish_never_puts_an_older_feed_in_place_of_a_newer_one_nor_writes_beside_another() {
    let world = World::init();
    world.good(&["publish", "feed"]);
    world.good(&["publish", "other"]);
    let at = |name: &str| world.dir.path().join(name);
    let newer = fs::read(at("other/feed")).unwrap();
    // Two CAs that share a folder, or a CA whose clock went back: the newer feed is there already.
    world.good(&["publish", "third", "--unsigned"]);
    fs::copy(world.ca().join("state/feed_key"), at("key")).unwrap();
    world.good(&["publish", "feed"]);
    fs::copy(at("feed/feed"), at("third/feed")).unwrap();
    let (code, why) = if is_root() {
        chown(at("key"), Some(NOBODY), None).unwrap();
        world.bad(&["feed", "sign", "third", "--key", "key"])
    } else {
        world.bad(&["feed", "sign", "third", "--key", "key"])
    };
    assert!(code == 1 && why.contains("newer than this one"), "{why}");
    assert_eq!(fs::read(at("third/feed")).unwrap(), fs::read(at("feed/feed")).unwrap());
    assert_eq!(fs::read(at("other/feed")).unwrap(), newer);

    let held = fs::File::open(at("feed")).unwrap();
    held.lock().unwrap();
    let (code, why) = world.bad(&["publish", "feed"]);
    assert!(code == 69 && why.contains("somebody else is publishing"), "{why}");
    drop(held);
    let (code, why) = world.bad(&["publish", "no/such/folder"]);
    assert!(code == 73 && why.contains("no/such/folder"), "{why}");
}

/// Files of the same names are somebody's there, `~/.ssh/known_hosts` for one.
#[test]
fn publish_takes_a_new_folder_an_empty_one_or_a_feeds_and_touches_no_other() {
    let world = World::init();
    let at = |name: &str| world.dir.path().join(name);
    let folder = |name: &str, mode: u32| {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        if is_root() {
            chown(at(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    };
    let listed = |name: &str| fs::read_dir(at(name)).unwrap().count();
    folder("ssh", 0o700);
    fs::write(at("ssh/known_hosts"), "mine").unwrap();
    fs::write(at("a-file"), "mine").unwrap();
    folder("everybodys", 0o777);
    folder("groups", 0o775);
    for (name, why) in [
        ("ssh", "no feed's folder: there is known_hosts in it"),
        ("everybodys", "others may write to it"),
        ("groups", "others may write to it"),
        ("a-file", "a-file"),
    ] {
        for more in [&[][..], &["--unsigned"]] {
            let (code, said) = world.bad(&[&["publish", name][..], more].concat());
            assert!(code == 73 && said.contains(why), "{name}: {said}");
        }
    }
    assert_eq!((fs::read_to_string(at("ssh/known_hosts")).unwrap().as_str(), listed("ssh")), ("mine", 1));
    assert_eq!((listed("everybodys"), listed("groups")), (0, 0));
    if is_root() {
        folder("others", 0o755);
        chown(at("others"), Some(NOBODY - 1), None).unwrap();
        let (code, said) = world.bad(&["publish", "others"]);
        assert!(code == 73 && said.contains("it belongs to uid 65533"), "{said}");
    }

    folder("empty", 0o755);
    world.good(&["publish", "empty"]);
    // What a killed writer leaves, before anything was in its place; and what people put beside a feed.
    folder("killed", 0o755);
    fs::write(at("killed/.feed.new"), "half").unwrap();
    if is_root() {
        chown(at("killed/.feed.new"), Some(NOBODY), None).unwrap();
    }
    world.good(&["publish", "killed"]);
    fs::write(at("killed/index.html"), "hello").unwrap();
    world.good(&["publish", "killed"]);
    world.good(&["publish", "draft", "--unsigned"]);
    world.good(&["publish", "draft"]);
    assert_eq!(listed("killed"), 7);
    // A feed that is none any more is replaced, as long as nothing else lies there.
    fs::write(at("empty/feed"), "junk").unwrap();
    world.good(&["publish", "empty"]);
}

/// Whoever owns the folder above puts another one there, a link to one or the empty one of somebody's ~/.ssh, before the CA looks or after it.
#[test]
fn publish_writes_below_no_folder_in_which_others_can_put_another_one() {
    let world = World::init();
    let at = |name: &str| world.dir.path().join(name);
    let give = |name: &str, uid: u32, mode: u32| {
        if is_root() {
            chown(at(name), Some(uid), None).unwrap();
        }
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    };
    for folder in ["victim", "www", "www/feed", "groups", "tmp"] {
        fs::create_dir(at(folder)).unwrap();
        give(folder, NOBODY, 0o755);
    }
    std::os::unix::fs::symlink("../victim", at("www/link")).unwrap();
    std::os::unix::fs::symlink("../victim", at("tmp/link")).unwrap();
    give("groups", NOBODY, 0o775);
    give("tmp", NOBODY, 0o1777);
    let mut cases = vec![("groups/feed", "groups (uid")];
    if is_root() {
        give("www", NOBODY - 1, 0o755);
        std::os::unix::fs::lchown(at("tmp/link"), Some(NOBODY - 1), None).unwrap();
        cases.extend([("www/feed", "www (uid 65533"), ("www/link", "www (uid 65533"), ("www/new", "www (uid 65533")]);
        cases.push(("tmp/link", "tmp/link (uid 65533"));
    }
    for (folder, whose) in cases {
        let (code, said) = world.bad(&["publish", folder]);
        assert!(code == 73 && said.contains("others can write to") && said.contains(whose), "{folder}: {said}");
    }
    for folder in ["victim", "www/feed", "groups"] {
        assert_eq!(fs::read_dir(at(folder)).unwrap().count(), 0, "{folder}");
    }
    world.good(&["publish", "tmp/feed"]);
}

/// It would wait for somebody who writes to it.
#[test]
fn a_pipe_or_a_link_in_the_place_of_a_feed_keeps_nobody_waiting_and_is_replaced() {
    let world = World::init();
    let at = |name: &str| world.dir.path().join(name);
    world.good(&["publish", "feed"]);
    let other = fs::read(at("feed/feed")).unwrap();
    for make in ["mkfifo feed/feed", "ln -s ../elsewhere feed/feed", "mkfifo feed/feed.unsigned"] {
        let place = make.rsplit_once(' ').unwrap().1;
        let _ = fs::remove_file(at(place));
        assert!(Command::new("sh").args(["-c", make]).current_dir(world.dir.path()).status().unwrap().success());
        fs::write(at("elsewhere"), &other).unwrap();
        let publish = ["20", world.programs.path().join("usshca").to_str().unwrap(), "--dir"].map(str::to_owned);
        let mut command = Command::new("timeout");
        command.args(publish).arg(world.ca()).args(["publish", "feed"]).current_dir(world.dir.path());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let out = command.stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "{make}: {out:?}");
        assert!(fs::symlink_metadata(at("feed/feed")).unwrap().is_file(), "{make}");
        assert!(!at("feed/feed.unsigned").exists());
        assert_eq!(fs::read(at("elsewhere")).unwrap(), other, "behind a link nothing changes");
    }
    fs::remove_file(at("feed/feed")).unwrap();
    assert!(Command::new("mkfifo").arg(at("feed/feed")).status().unwrap().success());
    let (code, why) = world.bad(&["feed", "show", "feed"]);
    assert!(code == 64 && why.contains("no regular file"), "{why}");
}

/// A power cut must not leave a name without its file, nor the new single files beside the old feed.
#[test]
fn each_file_of_a_feed_is_on_disk_before_it_has_its_name_and_the_name_before_the_next_one() {
    let world = World::init();
    let log = world.dir.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-y", "-e", "trace=fsync,renameat", "-o"]).arg(&log);
    command.arg(world.programs.path().join("usshca")).arg("--dir").arg(world.ca()).args(["publish", "feed"]);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    assert!(command.current_dir(world.dir.path()).stdin(Stdio::null()).output().expect("strace").status.success());
    let log = fs::read_to_string(log).unwrap();
    let is_one = |line: &&str| line.starts_with("fsync(") || line.starts_with("renameat(");
    let calls: Vec<&str> = log.lines().filter(is_one).collect();
    let mut named = Vec::new();
    for (number, call) in calls.iter().enumerate().filter(|(_, call)| call.starts_with("renameat(")) {
        // renameat(5</path/feed>, ".krl.new", 5</path/feed>, "krl")
        let (from, to) = (call.split('"').nth(1).unwrap(), call.split('"').nth(3).unwrap());
        assert_eq!(call.matches("/feed>, ").count(), 2, "{call}");
        assert!(calls[number - 1].contains(&format!("/feed/{from}>")), "{calls:#?}");
        assert!(calls[number + 1].starts_with("fsync(") && calls[number + 1].contains("/feed>)"), "{calls:#?}");
        named.push(to);
    }
    assert_eq!(named, ["feed", "user_ca.pub", "krl", "known_hosts", "manifest", "manifest.sig"]);
}

#[test]
fn the_configuration_says_for_which_hosts_the_feed_is_and_show_shows_it() {
    let world = World::init();
    let config =
        world.read("usshca.toml").replace("# known_hosts_pattern = \"*\"", "known_hosts_pattern = \"*.example.com\"");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    world.good(&["publish", "feed"]);
    assert!(
        fs::read_to_string(world.dir.path().join("feed/known_hosts"))
            .unwrap()
            .starts_with("@cert-authority *.example.com ssh-")
    );
    let shown = world.good(&["feed", "show", "feed"]);
    assert!(shown.lines().any(|line| line.starts_with("host CA ") && line.ends_with(" for *.example.com")), "{shown}");
}

/// Whenever the writer is killed, a reader sees a whole feed: the one before, or the new one.
#[test]
fn a_publisher_that_is_killed_at_any_write_leaves_the_old_feed_or_the_new_one() {
    let world = World::init();
    world.good(&["publish", "feed"]);
    let key = fs::read_to_string(world.ca().join("public/feed_key.pub")).unwrap();
    let key = ussh_core::keys::PublicKey::from_openssh(key.trim_end()).unwrap();
    let mut last = None;
    let (mut killed, mut old, mut new) = (0, 0, 0);
    for call in ["write", "fsync", "renameat", "unlinkat", "openat"] {
        for count in 1.. {
            let mut command = Command::new("strace");
            command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-P"]);
            command.arg(world.dir.path().join("feed"));
            for name in ["feed", "user_ca.pub", "krl", "known_hosts", "manifest", "manifest.sig", "feed.unsigned"] {
                let folder = world.dir.path().join("feed");
                command.arg("-P").arg(folder.join(name)).arg("-P").arg(folder.join(format!(".{name}.new")));
            }
            command.args(["-e", &format!("inject={call}:signal=KILL:when={count}")]);
            command.arg(world.programs.path().join("usshca")).arg("--dir").arg(world.ca()).arg("publish");
            // As strace is told it, or it would not know the files by it.
            command.arg(world.dir.path().join("feed"));
            if is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
            let out = command.current_dir(world.dir.path()).stdin(Stdio::null()).output().expect("strace");
            let feed = fs::read(world.dir.path().join("feed/feed")).unwrap();
            let pinned = ussh_core::feed::Pinned { key: key.clone(), taken: last };
            let now = ussh_core::clock::Clock::now(&ussh_core::clock::SystemClock);
            let taken = ussh_core::feed::verify(&feed, &pinned, now).unwrap();
            let is_new = last.is_some_and(|last| last.version < taken.manifest().version);
            last = Some(taken.taken());
            if out.status.success() {
                assert!(is_new || last.is_none() || killed == 0);
                assert!(count > 1, "{call} is never called: what was to be tried was not");
                break;
            }
            killed += 1;
            if is_new {
                new += 1
            } else {
                old += 1
            }
            // What the next one finds does not keep it from its work.
            assert!(count < 200, "{call}: {out:?}");
        }
    }
    println!("killed {killed} times: {old} times the old feed was there, {new} times the new one");
    assert!(killed >= 20 && old >= 5 && new >= 5, "{killed} {old} {new}");
    world.good(&["publish", "feed"]);
    let left = fs::read_dir(world.dir.path().join("feed")).unwrap().count();
    assert_eq!(left, 6, "nothing is left of those that were killed");
}
