//! The key of the feed, elsewhere and handed over.
use super::*;

#[test]
fn a_feed_key_may_be_elsewhere_and_hand_over_there() {
    let world = World::init();
    world.good(&["publish", "feed"]);
    let pin = world.ca().join("public/feed_key.pub");
    let first = world.dir.path().join("first.pub");
    fs::copy(&pin, &first).unwrap();
    let key_of = |file: &Path| fs::read_to_string(file).unwrap().split(' ').nth(1).unwrap().trim().to_owned();
    let (second, third) = (world.host_key("second"), world.host_key("third"));
    if is_root() {
        for name in ["second", "third"] {
            chown(world.dir.path().join(name), Some(NOBODY), None).unwrap();
        }
    }
    let said = world.good(&["feed", "key", "rotate", "--to", &second]);
    assert!(
        said.contains("held: elsewhere") && said.contains("publish --unsigned DIR, and where the key is"),
        "{said}"
    );
    assert!(said.contains("kept in the CA's state folder as feed_key.old: destroy it once a feed"), "{said}");
    // What hosts pin that are enrolled from here on.
    assert_eq!(key_of(&pin), key_of(&world.dir.path().join(&second)));
    let (code, why) = world.bad(&["publish", "feed"]);
    assert!(code == 1 && why.contains("feed sign"), "{why}");
    let config = world.read("usshca.toml").replace("# pam_service = \"usshca\"", "pam_service = \"login\"");
    let config = config.replace("0.0.0.0:2222", "127.0.0.1:0").replace("# publish = ", "publish = ");
    fs::write(world.ca().join("usshca.toml"), config).unwrap();
    let said = String::from_utf8(world.run(&["check"]).stderr).unwrap();
    assert!(
        said.contains("the feed key is elsewhere") && said.contains("usshca feed sign /var/lib/usshca/feed"),
        "{said}"
    );
    let said = world.good(&["publish", "feed", "--unsigned"]);
    assert!(said.contains("feed.unsigned") && said.contains("usshca feed sign feed --key FILE"), "{said}");
    let (code, why) = world.bad(&["feed", "sign", "empty", "--key", "second"]);
    assert!(code == 64 && why.contains("no draft to sign; on the CA: usshca publish --unsigned DIR"), "{why}");
    let (code, why) = world.bad(&["feed", "sign", "feed", "--key", "third"]);
    assert!(code == 1 && why.contains("third is another one"), "{why}");
    world.good(&["feed", "sign", "feed", "--key", "second"]);
    assert!(!world.dir.path().join("feed/feed.unsigned").exists());
    let key = first.to_str().unwrap();
    let taken = json(&world.good(&["feed", "verify", "feed", "--key", key, "--json"]));
    assert_eq!(taken["handovers"], 1);

    world.good(&["publish", "feed", "--unsigned"]);
    world.good(&["feed", "sign", "feed", "--key", "second", "--successor", &third]);
    world.good(&["feed", "key", "rotate", "--handed-over", "feed"]);
    assert_eq!(key_of(&pin), key_of(&world.dir.path().join(&third)));
    world.good(&["publish", "feed", "--unsigned"]);
    world.good(&["feed", "sign", "feed", "--key", "third"]);
    for pinned in [key, second.as_str(), third.as_str()] {
        world.good(&["feed", "verify", "feed", "--key", pinned]);
    }
    let host = world.host_key("host");
    assert_eq!(world.bad(&["feed", "verify", "feed", "--key", &host]).0, 1);
}

/// Any public key can be named, of whom nobody has the private one too.
#[test]
fn a_feed_key_that_handed_over_to_a_wrong_one_can_be_put_back() {
    let world = World::init();
    let state = |name: &str| world.ca().join("state").join(name);
    let pin = world.dir.path().join("pin.pub");
    fs::copy(world.ca().join("public/feed_key.pub"), &pin).unwrap();
    // One here hands over to another here: what it is followed by is known, and nothing is left of it.
    world.good(&["feed", "key", "rotate"]);
    assert!(!state("feed_key.old").exists() && !state("feed_handovers.old").exists());
    let wrong = world.host_key("wrong");
    let key = fs::read(state("feed_key")).unwrap();
    world.good(&["feed", "key", "rotate", "--to", &wrong]);
    assert_eq!((fs::read(state("feed_key.old")).unwrap(), mode(&state("feed_key.old"))), (key, 0o600));
    assert_eq!(world.bad(&["publish", "feed"]).0, 1);
    // docs/feed.md
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/feed.md")).unwrap();
    let steps: Vec<&str> = docs.lines().filter_map(|line| line.strip_prefix("mv ")?.split("   ").next()).collect();
    assert_eq!(steps.len(), 3, "{steps:?}");
    for step in steps {
        let done = Command::new("sh").args(["-c", &format!("mv {step}")]).current_dir(state("")).status().unwrap();
        assert!(done.success(), "{step}");
    }
    let line = world.good(&["feed", "key", "show", "--public"]);
    assert_eq!(line.lines().count(), 1, "{line}");
    let key_of = |line: &str| line.split(' ').nth(1).unwrap().trim_end().to_owned();
    assert_eq!(key_of(&line), key_of(&fs::read_to_string(state("feed_key.pub")).unwrap()));
    fs::write(world.ca().join("public/feed_key.pub"), &line).unwrap();
    world.good(&["publish", "feed"]);
    world.good(&["feed", "verify", "feed", "--key", "ca/public/feed_key.pub"]);
    let taken = json(&world.good(&["feed", "verify", "feed", "--key", "pin.pub", "--json"]));
    assert_eq!(taken["handovers"], 1, "the first handover stands, the one to the wrong key does not");
}
