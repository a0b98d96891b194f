#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use ussh_core::ca_file::TrustedCas;
use ussh_core::certificate::CertificateKind;
use ussh_core::clock::UnixTime;
use ussh_core::keys::PrivateKey;
use ussh_core::verdict::{CriticalOptions, Demand, PrincipalDemand, verify};
use ussh_os::agent_socket::peer_of;
use ussh_os::process;
use ussh_os::unix_diag::inode_of;

use super::*;
use crate::options::FromLine;
use crate::testing::{Folder, SshAgent, Sshd, certificate_without_key_id, is_root, issued, record};

/// The process that has started this one: it stands for a monitor.
fn parent() -> ProcessId {
    ProcessId::of(std::os::unix::process::parent_id()).unwrap()
}

fn find(folder: &Folder) -> Result<Login, Denial> {
    Login::of_this_process(process::real_uid(), &folder.spool())
}

/// What the log would say.
fn reason(folder: &Folder) -> String {
    find(folder).unwrap_err().reason()
}

fn verified(certificate: &Certificate) -> VerifiedCertificate {
    let cas = TrustedCas::from_keys(vec![certificate.ca().clone()]);
    let demand = Demand {
        cas: &cas,
        kind: CertificateKind::User,
        now: UnixTime(1),
        principals: PrincipalDemand::User("alice", None),
        critical_options: CriticalOptions::Refuse { origin: None },
        revoked: None,
        max_validity: None,
        max_age: None,
    };
    verify(certificate, &demand).unwrap()
}

#[test]
fn the_login_is_that_of_the_nearest_process_above_that_has_a_record() {
    if !is_root() {
        return;
    }
    let folder = Folder::trusted();
    record(parent()).write(&folder.spool()).unwrap();
    let login = find(&folder).unwrap();
    assert_eq!(login.monitor(), parent());
    assert_eq!(login.shown(), format!("ID \"alice\" of {}", parent()));
    // Nobody else's record counts, be it of a process below this one or of its neighbour.
    let sshd = Sshd::start();
    record(parent()).remove(&folder.spool()).unwrap();
    record(sshd.monitor).write(&folder.spool()).unwrap();
    record(ProcessId::of(std::process::id()).unwrap()).write(&folder.spool()).unwrap();
    assert!(reason(&folder).ends_with("none of the processes above it is the sshd of a recorded connection"));
}

#[test]
fn a_record_of_another_process_boot_or_user_is_no_login() {
    if !is_root() {
        return;
    }
    let folder = Folder::trusted();
    let good = record(parent());
    let none = "descends from no live login that is recorded: ";
    let missing = reason(&folder);
    assert!(missing.contains(none) && missing.ends_with("/sessions"), "{missing}");
    // The number was another process's before.
    let stale = SessionRecord { start_time: good.start_time - 1, ..good.clone() };
    let other_boot = SessionRecord { boot_id: "another".into(), ..good.clone() };
    for record in [stale, other_boot] {
        record.write(&folder.spool()).unwrap();
        assert!(reason(&folder).contains(none), "{record:?}");
        record.remove(&folder.spool()).unwrap();
    }
    let of = |record: SessionRecord| {
        record.write(&folder.spool()).unwrap();
        reason(&folder)
    };
    let pid = parent();
    assert_eq!(
        of(SessionRecord { uid: good.uid + 1, ..good.clone() }),
        format!("the login that this process descends from ({pid}) is of uid {}", good.uid + 1)
    );
    assert_eq!(
        of(SessionRecord { certificate: None, ..good.clone() }),
        format!("the login that this process descends from ({pid}) was made without a certificate")
    );
    assert!(
        of(SessionRecord { certificate: Some(certificate_without_key_id()), ..good.clone() }).ends_with("empty key ID")
    );
    let unreadable =
        of(SessionRecord { certificate: Some("ssh-new-cert-v01@openssh.com AAAA".into()), ..good.clone() });
    assert!(unreadable.starts_with("cannot check: certificate in the record of pid "), "{unreadable}");
    std::fs::write(folder.spool().join(good.file_name()), "{").unwrap();
    assert!(reason(&folder).starts_with("cannot check: record of pid "), "{}", reason(&folder));
    good.write(&folder.spool()).unwrap();
    assert!(find(&folder).is_ok());
}

#[test]
fn records_that_others_can_put_in_place_are_nobodys_word() {
    if !is_root() {
        return;
    }
    let folder = Folder::trusted();
    record(parent()).write(&folder.spool()).unwrap();
    let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for (path, mode) in [(folder.spool(), 0o777), (folder.spool(), 0o1777), (folder.at(""), 0o775)] {
        set(&path, mode);
        let refused = reason(&folder);
        assert!(refused.starts_with("cannot check: records: ") && refused.contains("bad ownership"), "{refused}");
        set(&path, 0o755);
    }
    assert!(find(&folder).is_ok());
}

#[test]
fn the_agent_must_be_the_one_that_the_logins_own_sshd_carries() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let agent = SshAgent::start(&folder, "alice");
    let (mut mine, mut other) = (Sshd::start(), Sshd::start());
    mine.relay(&folder.at("mine"), &agent.socket);
    other.relay(&folder.at("other"), &agent.socket);
    let login = Login::of_record(mine.monitor, &record(mine.monitor), process::real_uid()).unwrap();
    let ask = |path: &Path| {
        let stream = UnixStream::connect(path).unwrap();
        let inode = inode_of(&stream).unwrap();
        (login.demand_agent(path, peer_of(&stream).unwrap(), inode).map_err(|why| why.to_string()), inode, stream)
    };
    let (found, inode, _stream) = ask(&folder.at("mine"));
    assert_eq!(found, Ok(()));
    assert!(login.carries(inode));
    for path in [&agent.socket, &folder.at("other")] {
        let (found, inode, _stream) = ask(path);
        let why = found.unwrap_err();
        assert!(why.starts_with(&format!("agent: {}: not that of the login of {}: ", path.display(), mine.monitor)));
        assert!(why.ends_with(" is no sshd process of this connection"), "{why}");
        assert!(!login.carries(inode));
    }
    // The same number, and another socket than the one that sshd holds.
    let stream = UnixStream::connect(&agent.socket).unwrap();
    let sshds = peer_of(&UnixStream::connect(folder.at("mine")).unwrap()).unwrap();
    let why = login.demand_agent(&agent.socket, sshds, inode_of(&stream).unwrap()).unwrap_err().to_string();
    assert!(why.ends_with(" is sshd's, but does not hold the agent's socket"), "{why}");
}

#[test]
fn there_is_a_bond_for_the_lineage_of_the_login_alone_and_while_it_lives() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let agent = SshAgent::start(&folder, "alice");
    let mut sshd = Sshd::start();
    sshd.relay(&folder.at("mine"), &agent.socket);
    let (ca, another) = (PrivateKey::generate_ed25519().unwrap(), PrivateKey::generate_ed25519().unwrap());
    let opened = issued(&ca, "alice");
    let record = SessionRecord { certificate: Some(opened.to_openssh("")), ..record(sshd.monitor) };
    let login = Login::of_record(sshd.monitor, &record, process::real_uid()).unwrap();
    let stream = UnixStream::connect(folder.at("mine")).unwrap();
    let mine = inode_of(&stream).unwrap();
    let newer = verified(&issued(&ca, "alice"));
    assert!(matches!(login.bond(&newer, mine), Err(Denial::Unbound(_))), "it was not looked at");
    login.demand_agent(&folder.at("mine"), peer_of(&stream).unwrap(), mine).unwrap();
    let bond = login.bond(&newer, mine).unwrap();
    assert!(bond.is_for(&newer) && !bond.is_for(&verified(&issued(&ca, "alice"))));
    assert_eq!(bond.login(), Some(sshd.monitor));
    assert!(login.bond(&newer, mine + 1).is_err(), "another connection");
    for other in [issued(&ca, "bob"), issued(&ca, "Alice"), issued(&another, "alice")] {
        assert!(!login.includes(&other));
        let refused = login.bond(&verified(&other), mine).unwrap_err().reason();
        assert_eq!(
            refused,
            format!("not of the lineage of this login: ID \"alice\" of CA {}", ca.public_key().fingerprint())
        );
    }
    // What `auth` has proved counts for the same login.
    assert!(login.bond_kept(&newer, Some(sshd.monitor)).is_some_and(|bond| bond.is_for(&newer)));
    assert!(login.bond_kept(&newer, None).is_none(), "a line of auth that did not ask for it");
    assert!(login.bond_kept(&newer, Some(parent())).is_none());
    assert!(login.bond_kept(&verified(&issued(&ca, "bob")), Some(sshd.monitor)).is_none());

    let monitor = sshd.monitor;
    drop(sshd);
    assert_eq!(
        login.bond(&newer, mine).unwrap_err().reason(),
        format!("the login that this process descends from ({monitor}) has ended")
    );
    assert!(login.bond_kept(&newer, Some(monitor)).is_none());
}

#[test]
fn a_line_that_asks_for_a_login_has_no_success_without_one() {
    let options = |line: &[&str]| {
        let line: Vec<String> = line.iter().map(|argument| (*argument).to_owned()).collect();
        AuthOptions::parse_with("sudo", Some(&line), None).unwrap()
    };
    let anybodys = verified(&issued(&PrivateKey::generate_ed25519().unwrap(), "alice"));
    let bond = Bond::unless_demanded(&options(&[])).unwrap();
    assert!(bond.is_for(&anybodys) && bond.login().is_none());
    assert!(Bond::unless_demanded(&options(&["bind_session=no"])).is_ok());
    assert!(matches!(Bond::unless_demanded(&options(&["bind_session=yes"])), Err(Denial::Unavailable(_))));
}
