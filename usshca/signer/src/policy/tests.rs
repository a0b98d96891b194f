#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use super::*;

const STAFF: &str = "[[rule]]\nname = \"staff\"\nvalidity_seconds = 3600\nprincipals = [\"%u\"]\n";

fn groups(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

fn rule(more: &str) -> Result<Policy, PolicyError> {
    Policy::parse(&format!("{STAFF}{more}"))
}

#[test]
fn the_least_rule_gives_everybody_their_own_name() {
    let grant = rule("").unwrap().decide("alice", &[]).unwrap();
    assert_eq!(
        grant,
        Grant {
            rule: "staff".into(),
            validity_seconds: 3600,
            backdate_seconds: 60,
            principals: vec!["alice".into()],
            extensions: ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"]
                .map(str::to_owned)
                .to_vec(),
            force_command: None,
            source_address: None,
            confirm: false,
        }
    );
}

/// (user, groups) → rule that decides, `-x` = denied by x, `` = no rule.
#[test]
fn the_first_rule_that_matches_decides() {
    let policy = Policy::parse(
        r#"
        [[rule]]
        name = "banned"
        users = ["mallory"]
        groups = ["leavers"]
        deny = true
        [[rule]]
        name = "admins"
        groups = ["sudo", "wheel"]
        validity_seconds = 3600
        principals = ["%u", "root"]
        confirm = true
        [[rule]]
        name = "two"
        users = ["alice", "bob"]
        validity_seconds = 60
        principals = ["%u"]
        [[rule]]
        name = "mixed"
        users = ["carol"]
        groups = ["dev"]
        validity_seconds = 60
        principals = ["shared"]
        "#,
    )
    .unwrap();
    let table: [(&str, &[&str], &str); 15] = [
        ("alice", &[], "two"),
        ("alice", &["users"], "two"),
        ("alice", &["sudo"], "admins"),
        ("alice", &["x", "wheel"], "admins"),
        ("alice", &["leavers", "sudo"], "-banned"),
        ("mallory", &[], "-banned"),
        ("mallory", &["sudo"], "-banned"),
        ("carol", &[], "mixed"),
        ("dave", &["dev"], "mixed"),
        ("dave", &[], ""),
        ("Alice", &[], ""),
        ("alice2", &[], ""),
        ("alic", &[], ""),
        ("dave", &["Dev"], ""),
        // A user's name is not a group's, nor the other way round.
        ("sudo", &["alice"], ""),
    ];
    for (user, member, expected) in table {
        let decided = match policy.decide(user, &groups(member)) {
            Ok(grant) => grant.rule,
            Err(PolicyRefusal::Denied { rule }) => format!("-{rule}"),
            Err(PolicyRefusal::NoRule) => String::new(),
            Err(PolicyRefusal::Name) => panic!("{user}"),
        };
        assert_eq!(decided, expected, "{user} {member:?}");
    }
    let admin = policy.decide("alice", &groups(&["sudo"])).unwrap();
    assert!(admin.confirm);
    assert_eq!(admin.principals, ["alice", "root"]);
}

#[test]
fn principals_are_not_doubled() {
    let policy =
        Policy::parse("[[rule]]\nname=\"a\"\nvalidity_seconds=1\nprincipals=[\"%u\", \"root\", \"%u\"]").unwrap();
    assert_eq!(policy.decide("root", &[]).unwrap().principals, ["root"]);
    assert_eq!(policy.decide("bob", &[]).unwrap().principals, ["bob", "root"]);
}

#[test]
fn an_account_name_that_cannot_be_a_principal_gets_nothing() {
    let policy = rule("").unwrap();
    let long = "a".repeat(257);
    for name in ["", "a,b", "a b", "a\n", "a\0", "*", "al?ce", "!alice", "é", "a\"b", "a\u{202e}", long.as_str()] {
        assert_eq!(policy.decide(name, &[]), Err(PolicyRefusal::Name), "{name:?}");
    }
    for name in ["alice", "DOM\\alice", "alice@example.com", "a.b-c_d$", "a".repeat(256).as_str()] {
        assert!(policy.decide(name, &[]).is_ok(), "{name}");
    }
}

#[test]
fn what_a_rule_says_is_what_is_granted() {
    let policy = rule(
        "backdate_seconds = 0\nextensions = [\"permit-pty\", \"level@example.com\"]\nforce_command = \"/bin/date -u\"\nsource_address = [\"10.0.0.0/8\", \"::1\", \"192.0.2.7\"]\nconfirm = true",
    );
    let grant = policy.unwrap().decide("alice", &[]).unwrap();
    assert_eq!(grant.backdate_seconds, 0);
    assert_eq!(grant.extensions, ["permit-pty", "level@example.com"]);
    assert_eq!(grant.force_command.as_deref(), Some("/bin/date -u"));
    assert_eq!(grant.source_address.as_deref(), Some("10.0.0.0/8,::1/128,192.0.2.7/32"));
    assert!(grant.confirm);
    assert!(rule("extensions = []").unwrap().decide("alice", &[]).unwrap().extensions.is_empty());
}

#[test]
fn refuses_values_that_make_no_sense_and_names_line_and_rule() {
    for line in [
        "users = []",
        "groups = []",
        "users = [\"\"]",
        "users = [\"a\\nb\"]",
        "backdate_seconds = 86401",
        "extensions = [\"permit-ptty\"]",
        "extensions = [\"permit-pty\", \"permit-pty\"]",
        "extensions = [\"login-time@ussh\"]",
        "extensions = [\"\"]",
        "force_command = \"\"",
        "force_command = \" \"",
        "force_command = \"a\\nb\"",
        "source_address = []",
        "source_address = [\"10.0.0.1/8\"]",
        "source_address = [\"10.0.0.0/33\"]",
        "source_address = [\"example.com\"]",
        "source_address = [\"10.0.0.0/8,::1\"]",
        "deny = true",
    ] {
        match rule(line) {
            Err(PolicyError::Value { line: number, rule, .. }) => {
                assert_eq!(rule, "staff", "{line}");
                // `deny = true` complains of the first thing granted.
                assert_eq!(number, if line.starts_with("deny") { 3 } else { 5 }, "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    for (validity, principals) in [
        ("0", "[\"%u\"]"),
        ("31622401", "[\"%u\"]"),
        ("60", "[]"),
        ("60", "[\"\"]"),
        ("60", "[\"a,b\"]"),
        ("60", "[\"a b\"]"),
        ("60", "[\"*\"]"),
        ("60", "[\"%U\"]"),
        ("60", "[\"%u-admin\"]"),
        ("60", "[\"100%\"]"),
    ] {
        let text = format!("[[rule]]\nname = \"x\"\nvalidity_seconds = {validity}\nprincipals = {principals}\n");
        assert!(matches!(Policy::parse(&text), Err(PolicyError::Value { .. })), "{text}");
    }
}

#[test]
fn refuses_what_is_not_this_format() {
    for text in [
        "rule = 1",
        "[[rules]]\nname = \"x\"",
        "[[rule]]\nname = \"x\"\nvalidity = 60\nprincipals = [\"%u\"]",
        "[[rule]]\nvalidity_seconds = 60\nprincipals = [\"%u\"]",
        "[[rule]]\nname = \"x\"\nvalidity_seconds = -1\nprincipals = [\"%u\"]",
        "[[rule]]\nname = \"x\"\nvalidity_seconds = \"1h\"\nprincipals = [\"%u\"]",
        "[[rule]]\nname = \"x\"\nname = \"y\"\nvalidity_seconds = 1\nprincipals = [\"%u\"]",
        "[[rule]]\nname = \"x\"\nvalidity_seconds = 1\nprincipals = \"%u\"",
        "x",
    ] {
        let error = Policy::parse(text).unwrap_err();
        assert!(matches!(&error, PolicyError::Syntax { .. }), "{text}: {error}");
        assert!(!error.to_string().contains('\n'), "{text}: {error}");
    }
    assert_eq!(Policy::parse(""), Err(PolicyError::NoRules));
    assert_eq!(Policy::parse("# nothing\n"), Err(PolicyError::NoRules));
    assert!(matches!(rule(STAFF), Err(PolicyError::Value { line: 6, .. })));
    for text in ["[[rule]]\nname=\"x\"\nprincipals=[\"%u\"]", "[[rule]]\nname=\"x\"\nvalidity_seconds=1"] {
        assert!(matches!(Policy::parse(text), Err(PolicyError::Value { .. })), "{text}");
    }
    assert!(Policy::parse("[[rule]]\nname=\"x\"\ndeny=true").is_ok());
    assert!(matches!(Policy::parse("[[rule]]\nname=\"x\"\ndeny=false"), Err(PolicyError::Value { .. })));
}

#[test]
fn a_syntax_error_names_its_line_and_what_is_wrong() {
    let error = rule("denie = true\n").unwrap_err();
    assert!(matches!(&error, PolicyError::Syntax { line: 5, problem } if problem.contains("denie")), "{error}");
}

#[test]
fn names_every_group_once() {
    let more =
        "groups = [\"dev\", \"ops\"]\n[[rule]]\nname = \"x\"\nusers = [\"bob\"]\ngroups = [\"dev\"]\ndeny = true\n";
    assert_eq!(rule(more).unwrap().groups().into_iter().collect::<Vec<_>>(), ["dev", "ops"]);
    assert!(rule("").unwrap().groups().is_empty());
    assert!(rule(&format!("groups = [\"{}\"]", "g".repeat(257))).is_err());
}
