//! What a host's administrators have revoked there themselves: an enrolment takes it in, and where there is no room for a copy of a list none is replaced.

use super::{DROP_IN, WORLD, enroll, hostd, prepare, token};

const HERE: &str = "/etc/ussh/revoked_here";
const LIST: &str = "/etc/ssh/revoked_keys";
/// So many that the list needs more than a page.
const KEYS: &str = "set -e; mkdir /root/gone; cd /root/gone; for n in $(seq 90); do ssh-keygen -q -t ed25519 -N '' -f $n; done; rm $(seq 90)";

#[test]
fn what_is_revoked_here_is_so_from_the_enrolment_on_and_no_room_gives_nothing_back() {
    let _watch = WORLD.lab().watch();
    let host = prepare("here");
    host.script(KEYS).unwrap().ok().unwrap();
    host.write_file(HERE, 0o644, "junk\n").unwrap();
    let refused = enroll(&host, "", &token("here"));
    assert!(refused.stderr.contains("revoked_here: "), "{refused:?}");
    assert!(refused.stderr.contains("/etc/ussh/revoked_here:1: invalid key"), "{refused:?}");
    assert!(!host.exists(LIST) && !host.exists(DROP_IN), "{refused:?}");

    host.script(&format!("cat /root/gone/*.pub > {HERE}")).unwrap().ok().unwrap();
    enroll(&host, "", &token("here")).ok().unwrap();
    let assert_revoked = |when: &str| {
        let said = host.script(&format!("ssh-keygen -Qf {LIST} /root/gone/*.pub || true")).unwrap().stdout;
        assert_eq!(said.matches(" (root@here): REVOKED\n").count(), 90, "{when}: {said}");
    };
    assert_revoked("enrolled");
    let check = hostd(&host, "check");
    assert!(!check.stderr.contains("revoked_here"), "{check:?}");

    // No folder; no file in it for what is revoked; no copy of the list; no copy of what is revoked.
    let before = host.read_bytes(LIST).unwrap();
    for room in ["nr_inodes=2", "nr_inodes=4", "size=4k", "size=12k"] {
        let sync = format!(
            "mount --bind /run/ussh-hostd /mnt; mount -t tmpfs -o mode=755,{room} none /run; mkdir /run/ussh-hostd; mount --bind /mnt /run/ussh-hostd; exec ussh-hostd sync"
        );
        let said = host.run(["unshare", "-m", "sh", "-ec", &sync]).unwrap();
        assert_eq!(said.status.code(), 1, "{room}: {said:?}");
        assert!(said.stderr.contains("ussh-hostd: sync: revoked_here: "), "{room}: {said:?}");
        assert!(said.stderr.contains("No space left on device"), "{room}: {said:?}");
        assert!(host.read_bytes(LIST).unwrap() == before, "{room}");
    }
    hostd(&host, "sync").ok().unwrap();
    assert_revoked("synced");
}
