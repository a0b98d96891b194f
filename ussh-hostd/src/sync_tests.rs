#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use ussh_core::clock::UnixTime;

use super::*;
use crate::test_support::{Ca, from_now, trusted_folder};

/// A host with KRL version 5 and a CA file in place, and a feed with the next of both.
struct Host {
    folder: tempfile::TempDir,
    ca: Ca,
    config: Config,
}

const OLD_CA: &str = "# the CA of yesterday\n";

impl Host {
    fn new() -> Self {
        let folder = trusted_folder();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("feed")).unwrap();
        let text = format!(
            "ca_file = '{0}/ca'\nrevoked_keys = '{0}/revoked'\nrevoked_here = '{0}/here'\nbreak_glass_ca_file = '{0}/glass'\nspool = '{0}/run/sessions'\nstate = '{0}/state'\n\
             [sync]\nsource = 'file:{0}/feed'\nknown_hosts = '{0}/hosts'",
            folder.path().display()
        );
        let host = Host { config: Config::parse(&text, Path::new("t")).unwrap(), ca: Ca::new(), folder };
        host.write("ca", OLD_CA);
        host.write("revoked", host.ca.krl(5, from_now(-100), &[]));
        host.write("feed/user_ca.pub", host.ca.line());
        host.write("feed/krl", host.ca.krl(6, from_now(0), &[7]));
        host.write("feed/known_hosts", format!("@cert-authority *.example.com {}", host.ca.line()));
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, data: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), data).unwrap();
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(name)).ok()
    }

    fn installed(&self) -> [Option<Vec<u8>>; 3] {
        ["ca", "revoked", "hosts"].map(|name| self.read(name))
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Nothing may have changed, no temporary file be left, and the reason be this one.
    fn refuses(&self, reason: &str) {
        let before = self.installed();
        let error = sync(&self.config).unwrap_err().to_string();
        assert!(error.contains(reason), "expected {reason:?}: {error}");
        assert_eq!(self.installed(), before, "{error}");
        assert!(self.names().iter().all(|n| !n.starts_with('.')), "{:?}", self.names());
    }
}

#[test]
fn installs_everything_readable_for_all() {
    let host = Host::new();
    let outcome = sync(&host.config).unwrap();
    assert!(outcome.changed);
    assert_eq!(outcome.lines.len(), 3);
    assert!(outcome.lines[0].contains("KRL version 6"), "{outcome:?}");
    for (installed, feed) in [("ca", "feed/user_ca.pub"), ("revoked", "feed/krl"), ("hosts", "feed/known_hosts")] {
        assert_eq!(host.read(installed), host.read(feed));
        let m = host.path(installed).metadata().unwrap();
        assert_eq!((m.mode() & 0o7777, m.uid()), (0o644, 0));
    }
    assert_eq!(host.names(), ["ca", "feed", "hosts", "revoked", "run"]);
}

#[test]
fn second_sync_changes_nothing() {
    let host = Host::new();
    sync(&host.config).unwrap();
    let inode = host.path("revoked").metadata().unwrap().ino();
    let outcome = sync(&host.config).unwrap();
    assert!(!outcome.changed);
    assert!(outcome.lines.iter().all(|l| l.contains("unchanged")), "{outcome:?}");
    assert_eq!(host.path("revoked").metadata().unwrap().ino(), inode);
}

#[test]
fn the_lock_is_let_go_though_a_child_has_its_file_still() {
    let host = Host::new();
    let held = lock(&host.config).unwrap();
    let of_child = held.0.try_clone().unwrap();
    assert!(matches!(lock(&host.config), Err(SyncError::Busy(_))));
    drop(held);
    lock(&host.config).unwrap();
    drop(of_child);
}

#[test]
fn known_hosts_is_left_alone_unless_configured() {
    let host = Host::new();
    let mut config = host.config.clone();
    config.sync.as_mut().unwrap().known_hosts = None;
    std::fs::remove_file(host.path("feed/known_hosts")).unwrap();
    sync(&config).unwrap();
    assert_eq!(host.read("hosts"), None);
}

#[test]
fn refuses_a_krl_that_goes_back() {
    let host = Host::new();
    for (version, generated) in [(4, from_now(0)), (0, from_now(0)), (6, from_now(-1000))] {
        host.write("feed/krl", host.ca.krl(version, generated, &[7]));
        host.refuses("going back");
    }
    host.write("feed/krl", host.ca.krl(5, from_now(-50), &[7]));
    sync(&host.config).unwrap();
}

#[test]
fn refuses_a_krl_from_the_future() {
    let host = Host::new();
    let (day, now) = (24 * 3600, from_now(0).0);
    for (version, generated) in [
        (99_999_999_999, from_now(0)),
        (u64::MAX, from_now(0)),
        (now + day as u64 + 60, from_now(0)),
        (6, from_now(day + 60)),
    ] {
        host.write("feed/krl", host.ca.krl(version, generated, &[7]));
        host.refuses("lies in the future");
    }
    host.write("feed/krl", host.ca.krl(now + 60, from_now(day - 60), &[7]));
    sync(&host.config).unwrap();
}

#[test]
fn installed_krl_from_the_future_gives_way_to_a_true_one() {
    let absurd = 99_999_999_999;
    for (version, generated) in [(absurd, from_now(-100)), (5, UnixTime(absurd)), (absurd, UnixTime(absurd))] {
        let host = Host::new();
        host.write("revoked", host.ca.krl(version, generated, &[]));
        let outcome = sync(&host.config).unwrap();
        assert!(outcome.lines[0].contains("which lies in the future"), "{outcome:?}");
        assert_eq!(host.read("revoked"), host.read("feed/krl"));
        assert!(!sync(&host.config).unwrap().changed);
    }
}

#[test]
fn what_still_orders_an_installed_krl_from_the_future_holds() {
    let absurd = 99_999_999_999;
    for (version, generated) in [(absurd, from_now(0)), (absurd, from_now(50)), (7, UnixTime(absurd))] {
        let host = Host::new();
        host.write("revoked", host.ca.krl(version, generated, &[]));
        host.write("feed/krl", host.ca.krl(6, from_now(-10), &[7]));
        host.refuses("going back");
    }
}

#[test]
fn refuses_a_krl_that_is_none() {
    let host = Host::new();
    let whole = host.read("feed/krl").unwrap();
    host.write("feed/krl", &whole[..whole.len() - 1]);
    host.refuses("broken");
    host.write("feed/krl", "");
    host.refuses("empty");
    host.write("feed/krl", host.ca.line());
    host.refuses("plain list");
    std::fs::remove_file(host.path("feed/krl")).unwrap();
    host.refuses("No such file");
}

#[test]
fn refuses_a_ca_file_that_is_none() {
    let host = Host::new();
    for (text, reason) in [
        (String::new(), "no CA key"),
        ("# nothing\n\n".into(), "no CA key"),
        (format!("{}junk\n", host.ca.line()), "line 2"),
        (host.ca.line()[..40].into(), "line 1"),
        (format!("{}\n", host.ca.issue("alice", 1, 60).0.to_openssh("")), "line 1"),
    ] {
        host.write("feed/user_ca.pub", text);
        host.refuses(reason);
    }
}

#[test]
fn refuses_known_hosts_lines_that_are_no_host_ca() {
    let host = Host::new();
    for line in [
        host.ca.line(),
        format!("*.example.com {}", host.ca.line()),
        format!("@revoked * {}", host.ca.line()),
        "@cert-authority *".into(),
        "@cert-authority * ssh-ed25519 AAAA\n".into(),
    ] {
        host.write("feed/known_hosts", line);
        host.refuses("line 1");
    }
    host.write("feed/known_hosts", "");
    host.refuses("no CA key");
}

#[test]
fn refuses_a_feed_or_a_target_that_others_can_change() {
    let host = Host::new();
    let set = |name: &str, mode| std::fs::set_permissions(host.path(name), PermissionsExt::from_mode(mode)).unwrap();
    for (name, bad, good) in
        [("feed/krl", 0o666, 0o644), ("feed", 0o777, 0o755), ("ca", 0o664, 0o644), ("revoked", 0o666, 0o644)]
    {
        set(name, bad);
        host.refuses("bad ownership");
        set(name, good);
    }
    sync(&host.config).unwrap();
}

#[test]
fn changes_nothing_when_a_later_file_cannot_be_put_in_place() {
    let host = Host::new();
    // A folder stands where known_hosts, the last of the three, should go.
    std::fs::create_dir(host.path("hosts")).unwrap();
    host.refuses("not a regular file");
    let mut config = host.config.clone();
    config.sync.as_mut().unwrap().known_hosts = Some(host.path("ca/hosts"));
    let before = host.installed();
    let error = sync(&config).unwrap_err().to_string();
    assert!(error.contains("/ca"), "{error}");
    assert_eq!(host.installed(), before);
}

#[test]
fn broken_installed_list_is_replaced() {
    let host = Host::new();
    host.write("revoked", "");
    sync(&host.config).unwrap();
    assert_eq!(host.read("revoked"), host.read("feed/krl"));
}

#[test]
fn what_a_killed_sync_left_behind_is_taken_away_by_the_next_one() {
    let host = Host::new();
    for round in 0..2 {
        for (target, end) in [("ca", "new"), ("revoked", "new"), ("revoked", "before")] {
            host.write(&format!(".{target}.ussh-hostd-{end}"), "half of a li");
        }
        // The second time nothing is to be replaced.
        assert_eq!(sync(&host.config).unwrap().changed, round == 0);
        assert_eq!(host.names(), ["ca", "feed", "hosts", "revoked", "run"]);
    }
}

#[test]
fn two_syncs_do_not_mix() {
    let host = Host::new();
    let held = lock(&host.config).unwrap();
    host.refuses("another sync");
    drop(held);
    sync(&host.config).unwrap();
}

#[test]
fn needs_a_source_and_a_place() {
    let host = Host::new();
    let no_source = Config { sync: None, ..host.config.clone() };
    let advice = sync(&no_source).unwrap_err().to_string();
    for part in ["/etc/ussh/hostd.toml", "[sync]", "source = \"file:/", "user_ca.pub", "krl"] {
        assert!(advice.contains(part), "{part}: {advice}");
    }
    let no_place = Config { revoked_keys: None, ..host.config.clone() };
    assert!(matches!(sync(&no_place), Err(SyncError::NoRevokedKeys)));
}

#[test]
fn what_is_revoked_here_outlives_every_feed_until_its_line_is_gone() {
    let host = Host::new();
    let (gone, other) = (Ca::new(), Ca::new());
    let revokes = |ca: &Ca| RevokedKeys::parse(&host.read("revoked").unwrap()).unwrap().revokes_key(&ca.0.public_key());
    sync(&host.config).unwrap();
    host.write("here", format!("# of 3 May\n\n{}", gone.line()));
    assert!(crate::revoked_here::problem(&host.config).unwrap().contains("run `ussh-hostd sync`"));
    // The feed is the same.
    let outcome = sync(&host.config).unwrap();
    assert!(outcome.changed && revokes(&gone), "{outcome:?}");
    assert!(outcome.lines.last().unwrap().ends_with("/here added)"), "{outcome:?}");
    assert!(outcome.lines.last().unwrap().contains("replaced (1 line of "), "{outcome:?}");
    assert_eq!(crate::revoked_here::problem(&host.config), None);
    // The version and the time are the feed's, so that nothing goes back and its age holds.
    let age = |name: &str| {
        let list = RevokedKeys::parse(&host.read(name).unwrap()).unwrap();
        (list.version(), list.generated())
    };
    assert_eq!(age("revoked"), age("feed/krl"));
    assert!(!sync(&host.config).unwrap().changed && revokes(&gone));
    host.write("feed/krl", host.ca.krl(7, from_now(0), &[7, 8]));
    assert!(sync(&host.config).unwrap().changed && revokes(&gone));
    assert_eq!(age("revoked"), age("feed/krl"));
    host.write("here", other.line());
    sync(&host.config).unwrap();
    assert!(revokes(&other) && !revokes(&gone));
    std::fs::remove_file(host.path("here")).unwrap();
    sync(&host.config).unwrap();
    assert_eq!(host.read("revoked"), host.read("feed/krl"));
}

#[test]
fn what_is_revoked_here_needs_neither_a_feed_nor_a_list() {
    let host = Host::new();
    let gone = Ca::new();
    host.write("here", gone.line());
    let revokes = || RevokedKeys::parse(&host.read("revoked").unwrap()).unwrap().revokes_key(&gone.0.public_key());
    std::fs::rename(host.path("feed"), host.path("away")).unwrap();
    sync(&host.config).unwrap_err();
    assert!(revokes(), "the feed is away");
    let no_source = Config { sync: None, ..host.config.clone() };
    std::fs::remove_file(host.path("revoked")).unwrap();
    assert!(sync(&no_source).unwrap().changed && revokes());
    assert!(!sync(&no_source).unwrap().changed);
    std::fs::rename(host.path("away"), host.path("feed")).unwrap();
    sync(&host.config).unwrap();
    assert!(revokes(), "any feed may follow");
    host.write("revoked", gone.line());
    assert!(sync(&no_source).unwrap_err().to_string().contains("a plain list"));
    assert!(crate::revoked_here::problem(&no_source).unwrap().contains("write there"));
}

#[test]
fn what_is_revoked_here_and_cannot_be_read_replaces_no_list() {
    use std::os::unix::fs::symlink;
    let host = Host::new();
    for junk in ["junk\n".to_owned(), format!("{}serial: 5\n", Ca::new().line()), "sha256: SHA256:x\n".to_owned()] {
        host.write("here", junk);
        host.refuses("revoked_here: /usr/bin/ssh-keygen failed (exit status: 255): ");
        assert!(crate::revoked_here::problem(&host.config).unwrap().contains("until then no list is replaced"));
    }
    host.write("here", "junk\n");
    host.refuses(&format!("{}:1: invalid key", host.path("here").display()));
    std::fs::set_permissions(host.path("here"), std::fs::Permissions::from_mode(0o666)).unwrap();
    host.refuses("bad ownership or modes");
    std::fs::remove_file(host.path("here")).unwrap();
    symlink("/nonexistent", host.path("here")).unwrap();
    host.refuses("revoked_here: ");
    assert!(crate::revoked_here::problem(&host.config).is_some());
}

#[test]
fn without_a_source_the_break_glass_ca_is_trusted_all_the_same() {
    let host = Host::new();
    let (glass, no_source) = (Ca::new(), Config { sync: None, ..host.config.clone() });
    host.write("glass", glass.line());
    let fingerprint = glass.0.public_key().fingerprint();
    let told = [format!("break-glass CA {fingerprint} is trusted")];
    assert_eq!(sync(&no_source).unwrap(), Outcome { lines: told.to_vec(), changed: true });
    assert!(TrustedCas::parse(&host.read("ca").unwrap()).is_break_glass(&glass.0.public_key()));
    assert_eq!(sync(&no_source).unwrap(), Outcome { lines: told.to_vec(), changed: false });
    let lines = sync(&host.config).unwrap().lines;
    assert_eq!(lines.last(), told.last(), "it is named beside a feed's CA keys too");
    assert!(lines.iter().any(|line| line.ends_with(" (1 CA key and 1 for break-glass)")), "{lines:?}");
}

#[test]
fn symbolic_link_stays_one() {
    let host = Host::new();
    std::fs::rename(host.path("ca"), host.path("real")).unwrap();
    std::os::unix::fs::symlink(host.path("real"), host.path("ca")).unwrap();
    sync(&host.config).unwrap();
    assert!(host.path("ca").is_symlink());
    assert_eq!(host.read("real"), host.read("feed/user_ca.pub"));
}
