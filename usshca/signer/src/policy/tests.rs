#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use ussh_core::clock::UnixTime;
use usshca_ipc::front::Wish;
use usshca_ipc::signer::PolicyText;

use std::net::IpAddr;

use super::*;

const STAFF: &str = "[[rule]]\nname = \"staff\"\nvalidity_seconds = 3600\nprincipals = [\"%u\"]\n";

fn groups(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

fn file(name: &str, folder: &str, text: &str) -> PolicyText {
    PolicyText { name: name.into(), folder: folder.into(), text: text.into() }
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::of(&[file("policy.toml", "", text)])
}

fn rule(more: &str) -> Result<Policy, PolicyError> {
    parse(&format!("{STAFF}{more}"))
}

/// Who passed PAM from 192.0.2.9 on Thursday, 26 November 2026, at noon in Greenwich, for a key that the CA makes.
#[derive(Clone)]
struct Asking {
    user: String,
    groups: Vec<String>,
    source: IpAddr,
    time: u64,
    proofs: Proofs,
    mode: Mode,
    key_kind: KeyKind,
    wish: Wish,
}

const NOON: u64 = 1_795_694_400;

fn asking(user: &str, member: &[&str]) -> Asking {
    Asking {
        user: user.into(),
        groups: groups(member),
        source: "192.0.2.9".parse().unwrap(),
        time: NOON,
        proofs: Proofs { pam: true, publickey: false },
        mode: Mode::Inject,
        key_kind: KeyKind::Ed25519,
        wish: Wish::default(),
    }
}

impl Asking {
    fn question(&self) -> Question<'_> {
        Question {
            user: &self.user,
            groups: &self.groups,
            source: self.source,
            time: UnixTime(self.time),
            proofs: self.proofs,
            mode: self.mode,
            key_kind: self.key_kind,
            wish: &self.wish,
        }
    }

    fn of(&self, policy: &Policy) -> Result<Grant, PolicyRefusal> {
        policy.decide(&self.question())
    }
}

fn decide(policy: &Policy, user: &str, member: &[&str]) -> Result<Grant, PolicyRefusal> {
    asking(user, member).of(policy)
}

#[test]
fn the_least_rule_gives_everybody_their_own_name() {
    let grant = decide(&rule("").unwrap(), "alice", &[]).unwrap();
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
            agent_lifetime_seconds: None,
            max_certificates: None,
        }
    );
}

/// (user, groups) → rule that decides, `-x` = denied by x, `` = no rule.
#[test]
fn the_first_rule_that_matches_decides() {
    let policy = parse(
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
        let decided = match decide(&policy, user, member) {
            Ok(grant) => grant.rule,
            Err(PolicyRefusal::Denied { rule }) => format!("-{rule}"),
            Err(PolicyRefusal::NoRule) => String::new(),
            Err(other) => panic!("{user}: {other}"),
        };
        assert_eq!(decided, expected, "{user} {member:?}");
    }
    let admin = decide(&policy, "alice", &["sudo"]).unwrap();
    assert!(admin.confirm);
    assert_eq!(admin.principals, ["alice", "root"]);
}

#[test]
fn principals_are_not_doubled() {
    let policy = parse("[[rule]]\nname=\"a\"\nvalidity_seconds=1\nprincipals=[\"%u\", \"root\", \"%u\"]").unwrap();
    assert_eq!(decide(&policy, "root", &[]).unwrap().principals, ["root"]);
    assert_eq!(decide(&policy, "bob", &[]).unwrap().principals, ["bob", "root"]);
}

#[test]
fn an_account_name_that_cannot_be_a_principal_gets_nothing() {
    let policy = rule("").unwrap();
    let long = "a".repeat(257);
    for name in ["", "a,b", "a b", "a\n", "a\0", "*", "al?ce", "!alice", "é", "a\"b", "a\u{202e}", long.as_str()] {
        assert_eq!(decide(&policy, name, &[]), Err(PolicyRefusal::Name), "{name:?}");
    }
    for name in ["alice", "DOM\\alice", "alice@example.com", "a.b-c_d$", "a".repeat(256).as_str()] {
        assert!(decide(&policy, name, &[]).is_ok(), "{name}");
    }
}

#[test]
fn what_a_rule_says_is_what_is_granted() {
    let policy = rule(
        "backdate_seconds = 0\nextensions = [\"permit-pty\", \"level@example.com\"]\nforce_command = \"/bin/date -u\"\nsource_address = [\"10.0.0.0/8\", \"::1\", \"192.0.2.7\"]\nconfirm = true",
    );
    let grant = decide(&policy.unwrap(), "alice", &[]).unwrap();
    assert_eq!(grant.backdate_seconds, 0);
    assert_eq!(grant.extensions, ["permit-pty", "level@example.com"]);
    assert_eq!(grant.force_command.as_deref(), Some("/bin/date -u"));
    assert_eq!(grant.source_address.as_deref(), Some("10.0.0.0/8,::1/128,192.0.2.7/32"));
    assert!(grant.confirm);
    assert!(decide(&rule("extensions = []").unwrap(), "alice", &[]).unwrap().extensions.is_empty());
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
        ("60", "[\"%u-%u\"]"),
        ("60", "[\"%u,root\"]"),
        ("60", "[\"100%\"]"),
    ] {
        let text = format!("[[rule]]\nname = \"x\"\nvalidity_seconds = {validity}\nprincipals = {principals}\n");
        assert!(matches!(parse(&text), Err(PolicyError::Value { .. })), "{text}");
    }
}

#[test]
fn refuses_what_is_not_this_format() {
    for text in [
        "rule = 1",
        "[[rules]]\nname = \"x\"",
        "[[rule]]\nname = \"x\"\nvalidity = 60\nprincipals = [\"%u\"]",
        "[[rule]]\nname = \"x\"\nvalidity_seconds = -1\nprincipals = [\"%u\"]",
        "[[rule]]\nname = \"x\"\nvalidity_seconds = \"1h\"\nprincipals = [\"%u\"]",
        "[[rule]]\nname = \"x\"\nname = \"y\"\nvalidity_seconds = 1\nprincipals = [\"%u\"]",
        "[[rule]]\nname = \"x\"\nvalidity_seconds = 1\nprincipals = \"%u\"",
        "x",
    ] {
        let error = parse(text).unwrap_err();
        assert!(matches!(&error, PolicyError::Syntax { .. }), "{text}: {error}");
        assert!(!error.to_string().contains('\n'), "{text}: {error}");
    }
    for nothing in ["", "# nothing\n", "time_zone = \"UTC\"\n"] {
        assert!(matches!(parse(nothing), Err(PolicyError::NoRules { .. })), "{nothing}");
    }
    assert!(matches!(rule(STAFF), Err(PolicyError::Value { line: 6, .. })));
    for text in ["[[rule]]\nname=\"x\"\nprincipals=[\"%u\"]", "[[rule]]\nname=\"x\"\nvalidity_seconds=1"] {
        assert!(matches!(parse(text), Err(PolicyError::Value { .. })), "{text}");
    }
    assert!(parse("[[rule]]\nname=\"x\"\ndeny=true").is_ok());
    assert!(matches!(parse("[[rule]]\nname=\"x\"\ndeny=false"), Err(PolicyError::Value { .. })));
}

#[test]
fn a_syntax_error_names_its_line_and_what_is_wrong() {
    let error = rule("denie = true\n").unwrap_err();
    assert!(matches!(&error, PolicyError::Syntax { line: 5, problem, .. } if problem.contains("denie")), "{error}");
}

#[test]
fn names_every_group_once() {
    let more =
        "groups = [\"dev\", \"ops\"]\n[[rule]]\nname = \"x\"\nusers = [\"bob\"]\ngroups = [\"dev\"]\ndeny = true\n";
    assert_eq!(rule(more).unwrap().groups().into_iter().collect::<Vec<_>>(), ["dev", "ops"]);
    assert!(rule("").unwrap().groups().is_empty());
    assert!(rule(&format!("groups = [\"{}\"]", "g".repeat(257))).is_err());
}

#[test]
fn a_rule_without_a_name_is_told_where_it_stands() {
    let error = parse("[[rule]]\nvalidity_seconds = 60\nprincipals = [\"%u\"]").unwrap_err();
    assert_eq!(error.to_string(), "policy.toml: line 2: the rule has no name");
}

#[test]
fn principals_are_made_of_the_account_its_groups_and_the_hosts() {
    let policy = parse(
        r#"
        [host_groups]
        web = ["web-login"]
        db = ["db-login", "%u-db"]
        [[rule]]
        name = "x"
        validity_seconds = 60
        principals = ["%u", "prod-%u", "%u@example.com", "fixed"]
        group_principals = { ops = ["deploy"], dba = ["%u-dba", "fixed"] }
        hosts = ["db", "web"]
        "#,
    )
    .unwrap();
    let hosts = ["db-login", "alice-db", "web-login"];
    let of = |member: &[&str]| decide(&policy, "alice", member).unwrap().principals;
    let own = ["alice", "prod-alice", "alice@example.com", "fixed"];
    assert_eq!(of(&["users"]), [&own[..], &hosts].concat());
    assert_eq!(of(&["ops", "users"]), [&own[..], &hosts, &["deploy"]].concat());
    assert_eq!(of(&["ops", "dba"]), [&own[..], &hosts, &["alice-dba", "deploy"]].concat());
    assert_eq!(policy.groups().into_iter().collect::<Vec<_>>(), ["dba", "ops"]);
    // What does not fit with one name may fit with another: no certificate then, and not one with less.
    let long = "a".repeat(250);
    assert_eq!(decide(&policy, &long, &[]), Err(PolicyRefusal::Name));
}

#[test]
fn an_account_in_no_mapped_group_gets_nothing_rather_than_a_certificate_for_nobody() {
    // A certificate without principals is refused by sshd's AuthorizedPrincipals, and taken for any user by old clients of host certificates.
    let text = "[[rule]]\nname=\"x\"\nvalidity_seconds=1\ngroup_principals = { ops = [\"deploy\"] }\n";
    let policy = parse(text).unwrap();
    assert_eq!(decide(&policy, "alice", &["dev"]), Err(PolicyRefusal::NoPrincipal { rule: "x".into() }));
    assert_eq!(decide(&policy, "alice", &["ops"]).unwrap().principals, ["deploy"]);
}

#[test]
fn a_wish_makes_less_of_a_certificate_and_never_more() {
    let policy = parse(
        "[[rule]]\nname=\"x\"\nvalidity_seconds=3600\nmax_validity_seconds=7200\nprincipals=[\"%u\", \"web\", \"db\"]\n",
    )
    .unwrap();
    let wishing = |seconds: Option<u64>, names: &[&str]| {
        let mut asking = asking("alice", &[]);
        asking.wish = Wish { validity_seconds: seconds, principals: groups(names), reason: String::new() };
        asking.of(&policy)
    };
    assert_eq!(wishing(None, &[]).unwrap().validity_seconds, 3600);
    assert_eq!(wishing(Some(60), &["db", "alice"]).unwrap().principals, ["alice", "db"], "in the rule's order");
    assert_eq!(wishing(Some(7200), &[]).unwrap().validity_seconds, 7200);
    let too_long = PolicyRefusal::Validity { rule: "x".into(), most: 7200 };
    for seconds in [0, 7201, u64::MAX] {
        assert_eq!(wishing(Some(seconds), &[]), Err(too_long.clone()), "{seconds}");
    }
    for (names, not) in
        [(&["root"][..], "root"), (&["db", "root"], "root"), (&["%u"], "%u"), (&["web,db"], "web,db"), (&[""], "")]
    {
        let refused = PolicyRefusal::Principal { rule: "x".into(), names: groups(&[not]) };
        assert_eq!(wishing(None, names), Err(refused), "{names:?}");
    }
    let Err(refused) = wishing(None, &["db", "r\n", "a b", "c", "d"]) else { panic!() };
    let expected = "a principal was asked for that the rule does not give: r\\x0a, a\\x20b, c and 1 more";
    assert_eq!(refused.to_string(), expected);
    // Without a maximum of its own a rule allows what it gives.
    let mut asking = asking("alice", &[]);
    asking.wish.validity_seconds = Some(3601);
    let most = PolicyRefusal::Validity { rule: "staff".into(), most: 3600 };
    assert_eq!(asking.of(&rule("").unwrap()), Err(most));
}

#[test]
fn a_reason_is_given_where_it_is_demanded() {
    let policy = rule("reason_required = true\n").unwrap();
    let mut asking = asking("alice", &[]);
    for (reason, good) in [("", false), ("  ", false), ("fix the disk", true)] {
        asking.wish.reason = reason.into();
        assert_eq!(asking.of(&policy).is_ok(), good, "{reason:?}");
    }
    asking.wish.reason = String::new();
    assert_eq!(asking.of(&policy), Err(PolicyRefusal::Reason { rule: "staff".into() }));
    assert!(asking.of(&rule("reason_required = false\n").unwrap()).is_ok());
}

#[test]
fn networks_are_matched_by_the_address_whatever_socket_it_came_in_on() {
    let policy = rule("from = [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.9\"]\n").unwrap();
    let mut asking = asking("alice", &[]);
    for (source, good) in [
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("::ffff:10.1.2.3", true),
        ("::ffff:11.1.2.3", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
        ("192.0.2.9", true),
        ("192.0.2.8", false),
        ("::a01:203", false),
    ] {
        asking.source = source.parse().unwrap();
        assert_eq!(asking.of(&policy).is_ok(), good, "{source}");
    }
}

#[test]
fn the_certificate_can_be_pinned_to_where_the_request_came_from() {
    let policy = rule("source_address = [\"%client\"]\n").unwrap();
    let mut asking = asking("alice", &[]);
    for (source, pinned) in
        [("192.0.2.9", "192.0.2.9/32"), ("::ffff:192.0.2.9", "192.0.2.9/32"), ("2001:db8::1", "2001:db8::1/128")]
    {
        asking.source = source.parse().unwrap();
        assert_eq!(asking.of(&policy).unwrap().source_address.as_deref(), Some(pinned));
    }
}

/// Berlin is an hour ahead of Greenwich in winter and two in summer.
#[test]
fn hours_and_days_are_those_of_the_policys_time_zone() {
    let policy = |zone: &str, hours: &str, days: &str| {
        let days = if days.is_empty() { String::new() } else { format!("days = [{days}]\n") };
        let hours = if hours.is_empty() { String::new() } else { format!("hours = \"{hours}\"\n") };
        parse(&format!("time_zone = \"{zone}\"\n{STAFF}{hours}{days}")).unwrap()
    };
    let hour = 3600;
    // Thursday, 1 July 2027, noon in Greenwich.
    let summer = 1_814_443_200;
    for (zone, hours, days, time, good) in [
        ("UTC", "08:00-18:00", "", NOON, true),
        ("UTC", "08:00-12:00", "", NOON, false),
        ("UTC", "08:00-12:00", "", NOON - 1, true),
        ("UTC", "12:00-24:00", "", NOON, true),
        ("UTC", "12:01-24:00", "", NOON, false),
        ("Europe/Berlin", "13:00-13:01", "", NOON, true),
        ("Europe/Berlin", "13:00-13:01", "", summer, false),
        ("Europe/Berlin", "14:00-14:01", "", summer, true),
        ("UTC", "", "\"thu\"", NOON, true),
        ("UTC", "", "\"mon\", \"fri\"", NOON, false),
        ("UTC", "", "\"fri\"", NOON + 12 * hour, true),
        ("Europe/Berlin", "", "\"fri\"", NOON + 11 * hour, true),
        // Over midnight: the day is the one on which it began.
        ("UTC", "22:00-06:00", "\"thu\"", NOON + 11 * hour, true),
        ("UTC", "22:00-06:00", "\"thu\"", NOON + 17 * hour, true),
        ("UTC", "22:00-06:00", "\"thu\"", NOON + 18 * hour, false),
        ("UTC", "22:00-06:00", "\"fri\"", NOON + 17 * hour, false),
        ("UTC", "22:00-06:00", "", NOON, false),
        // A time that no calendar has.
        ("UTC", "00:00-24:00", "", u64::MAX, false),
    ] {
        let mut asking = asking("alice", &[]);
        asking.time = time;
        assert_eq!(asking.of(&policy(zone, hours, days)).is_ok(), good, "{zone} {hours} {days} {time}");
    }
    asking_without_times_holds_for_ever();
}

fn asking_without_times_holds_for_ever() {
    let mut asking = asking("alice", &[]);
    asking.time = u64::MAX;
    assert!(asking.of(&rule("").unwrap()).is_ok());
}

#[test]
fn what_proves_who_somebody_is_must_be_one_of_the_ways_that_the_rule_takes() {
    let none = Proofs { pam: false, publickey: false };
    let pam = Proofs { pam: true, ..none };
    let key = Proofs { publickey: true, ..none };
    let both = Proofs { pam: true, publickey: true };
    for (list, taken) in [
        ("\"pam\"", &[pam, both][..]),
        ("\"publickey\"", &[key, both]),
        ("\"publickey+pam\"", &[both]),
        ("\"publickey\", \"pam\"", &[pam, key, both]),
        ("\"none\"", &[none, pam, key, both]),
    ] {
        let policy = rule(&format!("from = [\"192.0.2.0/24\"]\nauthentication = [{list}]\n")).unwrap();
        for proofs in [none, pam, key, both] {
            let mut asking = asking("alice", &[]);
            asking.proofs = proofs;
            assert_eq!(asking.of(&policy).is_ok(), taken.contains(&proofs), "{list}: {proofs}");
        }
    }
    let mut asking = asking("alice", &[]);
    asking.proofs = none;
    let demanded = PolicyRefusal::Authentication { rule: "staff".into(), demanded: "pam".into() };
    assert_eq!(asking.of(&rule("").unwrap()), Err(demanded));
}

#[test]
fn nobody_is_believed_without_proof_but_from_networks_that_are_named() {
    for line in [
        "authentication = [\"none\"]",
        "authentication = [\"pam\", \"none\"]\nfrom = [\"0.0.0.0/0\"]",
        "authentication = [\"none\"]\nfrom = [\"10.0.0.0/8\", \"::/0\"]",
    ] {
        assert!(rule(line).unwrap_err().to_string().contains("needs from"), "{line}");
    }
}

#[test]
fn modes_and_key_types_are_those_that_the_rule_names() {
    let policy = rule("modes = [\"client-key\"]\nkey_types = [\"ed25519-sk\", \"rsa\"]\n").unwrap();
    let mut asking = asking("alice", &[]);
    assert_eq!(asking.of(&policy), Err(PolicyRefusal::Mode { rule: "staff".into(), mode: "inject" }));
    asking.mode = Mode::ClientKey;
    assert_eq!(asking.of(&policy), Err(PolicyRefusal::KeyType { rule: "staff".into(), kind: "ed25519" }));
    for (kind, good) in [(KeyKind::SkEd25519, true), (KeyKind::Rsa, true), (KeyKind::SkEcdsa, false)] {
        asking.key_kind = kind;
        assert_eq!(asking.of(&policy).is_ok(), good, "{}", kind.name());
    }
    // Without a word of it: the CA's own key, and no RSA.
    let silent = rule("").unwrap();
    assert_eq!(asking.of(&silent), Err(PolicyRefusal::Mode { rule: "staff".into(), mode: "client-key" }));
    asking.mode = Mode::Inject;
    asking.key_kind = KeyKind::Rsa;
    let not_made = |kind| Err(PolicyRefusal::NotMade { rule: "staff".into(), kind });
    assert_eq!(asking.of(&silent), not_made("rsa"));
    // Nor where the rule allows such a key: that is one of the user's own.
    let both =
        rule("modes = [\"inject\", \"client-key\"]\nkey_types = [\"ed25519-sk\", \"rsa\", \"ecdsa\"]\n").unwrap();
    assert_eq!(asking.of(&both), not_made("rsa"));
    asking.key_kind = KeyKind::SkEd25519;
    assert_eq!(asking.of(&both), not_made("ed25519-sk"));
    asking.key_kind = KeyKind::Ecdsa;
    asking.of(&both).unwrap();
    assert!(rule("key_types = [\"rsa\"]\n").unwrap_err().to_string().contains("makes no other keys"));
}

#[test]
fn refuses_new_values_that_make_no_sense() {
    for line in [
        "from = []",
        "from = [\"10.0.0.1/8\"]",
        "hours = \"8-18\"",
        "hours = \"08:00-25:00\"",
        "hours = \"08:60-09:00\"",
        "hours = \"08:00-08:00\"",
        "hours = \"24:00-08:00\"",
        "hours = \"+8:00-09:00\"",
        "days = []",
        "days = [\"Monday\"]",
        "days = [\"mon\", \"mon\"]",
        "authentication = []",
        "authentication = [\"password\"]",
        "authentication = [\"pam\", \"pam\"]",
        "modes = [\"push\"]",
        "key_types = [\"dsa\"]",
        "max_certificates = 0",
        "max_validity_seconds = 3599",
        "agent_lifetime_seconds = 0",
        "group_principals = {}",
        "group_principals = { ops = [] }",
        "group_principals = { ops = [\"a,b\"] }",
        "hosts = []",
        "hosts = [\"web\"]",
        "source_address = [\"%client\", \"10.0.0.0/8\"]",
    ] {
        match rule(line) {
            Err(PolicyError::Value { line: 5, rule, .. }) => assert_eq!(rule, "staff", "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    let both = rule("source_address = [\"%client\", \"10.0.0.0/8\"]").unwrap_err().to_string();
    assert!(both.contains("\"%client\" stands alone") && !both.contains("is no network"), "{both}");
    assert!(parse(&format!("time_zone = \"Berlin\"\n{STAFF}")).unwrap_err().to_string().contains("time_zone"));
}

#[test]
fn a_folder_is_read_where_it_is_included() {
    let named = |name: &str| format!("[[rule]]\nname = \"{name}\"\nusers = [\"{name}\"]\ndeny = true\n");
    let main = format!("{}[[rule]]\ninclude = \"teams\"\n{STAFF}", named("first"));
    let files = [
        file("policy.toml", "", &main),
        file("teams/10.toml", "teams", &named("a")),
        file("teams/20.toml", "teams", &format!("{}{}", named("b"), named("c"))),
        file("other/10.toml", "other", &named("z")),
    ];
    let policy = Policy::of(&files).unwrap();
    let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["first", "a", "b", "c", "staff"]);
    assert_eq!(policy.rules[3].place, "teams/20.toml:6");

    let with =
        |text: &str| Policy::of(&[files[0].clone(), file("teams/10.toml", "teams", text)]).unwrap_err().to_string();
    assert_eq!(with("\n[[rule"), "teams/10.toml: line 2: unclosed array table, expected `]]`");
    assert_eq!(with("[[rule]]\ninclude = \"teams\"\n"), "teams/10.toml: line 2: an included file cannot include");
    assert!(with("time_zone = \"UTC\"\n").contains("time_zone"));
    assert!(with(&named("first")).contains("another rule of this name (policy.toml:2)"), "{}", with(&named("first")));
    assert!(Policy::of(&files[..1]).unwrap_err().to_string().contains("no file *.toml"));
    let more = main.replace("include = \"teams\"", "include = \"teams\"\nusers = [\"x\"]");
    assert!(Policy::of(&[file("p", "", &more)]).unwrap_err().to_string().contains("says nothing else"));
}

#[test]
fn says_why_the_rules_before_do_not_match() {
    let policy = parse(&format!(
        "[[rule]]\nname=\"a\"\nusers=[\"bob\"]\ndeny=true\n[[rule]]\nname=\"b\"\nfrom=[\"10.0.0.0/8\"]\ndeny=true\n[[rule]]\nname=\"c\"\nhours=\"00:00-00:01\"\ndeny=true\n{STAFF}"
    ))
    .unwrap();
    let asking = asking("alice", &[]);
    let passed: Vec<_> = policy.passed_over(&asking.question()).iter().map(|p| (p.rule, p.mismatch)).collect();
    assert_eq!(passed, [("a", Mismatch::Subject), ("b", Mismatch::Source), ("c", Mismatch::Time)]);
    assert_eq!(asking.of(&policy).unwrap().rule, "staff");
}

#[test]
fn finds_what_nobody_can_have_meant() {
    let lint = |text: &str| parse(text).unwrap().lint();
    assert_eq!(lint(STAFF), Vec::<String>::new());
    let grant = |name: &str, more: &str| {
        format!("[[rule]]\nname=\"{name}\"\nvalidity_seconds=60\nprincipals=[\"%u\"]\n{more}\n")
    };
    for (text, part) in [
        (
            format!("{STAFF}{}", grant("late", "users=[\"bob\"]")),
            "rule \"late\" can never match: \"staff\" (policy.toml:2)",
        ),
        (
            format!(
                "{}{}",
                grant("wide", "groups=[\"a\", \"b\"]\nfrom=[\"10.0.0.0/8\"]"),
                grant("narrow", "groups=[\"b\"]\nfrom=[\"10.1.0.0/16\"]")
            ),
            "\"narrow\" can never match",
        ),
        (grant("long", "").replace("=60", "=90001"), "up to 25 hours"),
        (grant("long", "max_validity_seconds=1000000"), "up to 277 hours"),
        (grant("root", "").replace("%u", "root"), "gives the principal \"root\""),
        (grant("root", "group_principals={ops=[\"toor\"]}"), "gives the principal \"toor\""),
        (grant("root", "users=[\"root\"]"), "gives the principal \"root\""),
        (grant("open", "from=[\"10.0.0.0/8\"]\nauthentication=[\"none\"]"), "asks for no proof"),
        (grant("all", "source_address=[\"0.0.0.0/0\"]"), "holds every address"),
    ] {
        let warnings = lint(&text);
        assert_eq!(warnings.len(), 1, "{text}: {warnings:?}");
        assert!(warnings[0].contains(part), "{warnings:?}");
    }
    for quiet in [
        format!("{}{}", grant("a", "users=[\"bob\"]"), grant("b", "users=[\"carol\"]")),
        format!("{}{}", grant("a", "groups=[\"b\"]\nhours=\"08:00-18:00\""), grant("b", "groups=[\"b\"]")),
        format!("{}{}", grant("a", "from=[\"10.1.0.0/16\"]"), grant("b", "from=[\"10.0.0.0/8\"]")),
        grant("a", "users=[\"groot\"]"),
    ] {
        assert_eq!(lint(&quiet), Vec::<String>::new(), "{quiet}");
    }
}
