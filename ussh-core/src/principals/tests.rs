#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;

fn names(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|n| n.as_bytes().to_vec()).collect()
}

#[test]
fn comma_list_has_no_empty_names() {
    let list = PrincipalList::from_comma_list("ops,dba").unwrap();
    assert_eq!(list, PrincipalList::from_names(names(&["ops", "dba"])));
    assert!(list.contains(b"ops") && list.contains(b"dba"));
    assert!(!list.contains(b"Ops") && !list.contains(b"") && !list.contains(b"ops,dba"));
    for bad in ["", ",", "ops,", ",ops", "ops,,dba"] {
        assert_eq!(PrincipalList::from_comma_list(bad), None, "{bad}");
    }
}

#[test]
fn file_holds_one_name_a_line() {
    let text = b"# comment\n\n  \t\nops\n \tdba \t\nweb # why\n#no\nlast";
    let list = PrincipalList::parse_file(text);
    assert_eq!(list, PrincipalList::from_names(names(&["ops", "dba", "web", "last"])));
    for absent in ["", "#", "comment", "no", "why", "OPS", "*"] {
        assert!(!list.contains(absent.as_bytes()), "{absent}");
    }
    assert!(!PrincipalList::parse_file(b"ops\r\n").contains(b"ops"), "as sshd does");
}

#[test]
fn empty_file_permits_nobody() {
    for text in [&b""[..], b"\n", b"# ops\n"] {
        let list = PrincipalList::parse_file(text);
        assert!(list.is_empty());
        assert!(!list.permits(&names(&["ops", ""])));
    }
}

#[test]
fn a_line_with_options_permits_nobody() {
    for line in ["command=\"id\" ops", "from=\"10.0.0.0/8\"\tops", "unknown ops", "a b ops"] {
        let list = PrincipalList::parse_file(line.as_bytes());
        assert!(!list.contains(b"ops") && list.is_empty(), "{line}");
    }
}

#[test]
fn the_first_line_that_matches_decides() {
    let list = PrincipalList::parse_file(b"command=\"id\" ops\nops\ndba\n");
    assert!(!list.contains(b"ops") && list.contains(b"dba"));
    assert!(!list.permits(&names(&["ops"])));
    assert!(!list.permits(&names(&["dba", "ops"])));
    assert!(list.permits(&names(&["dba"])));
    let list = PrincipalList::parse_file(b"dba\ncommand=\"id\" ops\n");
    assert!(list.permits(&names(&["ops", "dba"])));
}

#[test]
fn an_empty_name_matches_nothing() {
    let list = PrincipalList::from_names(names(&["", "ops"]));
    assert!(!list.permits(&names(&[""])) && !list.contains(b""));
    assert!(list.permits(&names(&["", "ops"])));
    assert!(PrincipalList::from_names(names(&[""])).is_empty());
}
