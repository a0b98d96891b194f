//! The CA's policy, and the administrators' command line over ssh.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use ussh_core::clock::UnixTime;
use usshca_admin::cli::{AdminCommand, HostCommand, KeyCommand};
use usshca_admin::desk::{Desk, Link};
use usshca_admin::failure::Failure;
use usshca_admin::remote::{self, Parsed};
use usshca_ipc::admin::{Reply, Request, Supposed};
use usshca_ipc::channel::{decode, encode};
use usshca_ipc::front::Wish;
use usshca_ipc::layout::Layout;
use usshca_ipc::signer::PolicyText;
use usshca_signer::explain::explain;
use usshca_signer::policy::{KeyKind, Mode, Policy, Proofs, Question, is_principal};

/// Between the main file of a policy and the files of the folder `teams`.
const NEXT_FILE: char = '\u{1e}';
/// 366 days, in seconds.
const MAX_VALIDITY: u64 = 366 * 86_400;

/// `policy.toml` and the files that it includes: read or refused; whatever is asked of one that reads, all of its answers say the same.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let files: Vec<PolicyText> = text
        .split(NEXT_FILE)
        .enumerate()
        .map(|(number, text)| PolicyText {
            name: format!("{number}.toml"),
            folder: if number == 0 { String::new() } else { "teams".to_owned() },
            text: text.to_owned(),
        })
        .collect();
    let policy = match Policy::of(&files) {
        Ok(policy) => policy,
        Err(e) => return assert!(!e.to_string().contains('\n'), "it goes to the log: {e}"),
    };
    assert_eq!(Policy::of(&files).as_ref(), Ok(&policy));
    assert!(policy.lint().iter().all(|warning| !warning.contains('\n')));
    let groups: Vec<String> = policy.groups().into_iter().map(str::to_owned).collect();
    if let Some(admins) = policy.admins() {
        assert!((1..=600).contains(&admins.login_seconds));
    }
    let wishes =
        [Wish::default(), Wish { validity_seconds: Some(7), principals: vec!["alice".into()], reason: "why".into() }];
    for (number, wish) in wishes.iter().enumerate() {
        for (user, groups) in [("alice", &groups[..]), ("nobody", &[]), ("a,b", &groups[..])] {
            for (source, time) in [("192.0.2.7", 1_769_860_800), ("2001:db8::1", 0), ("10.0.0.1", u64::MAX)] {
                let source = source.parse().unwrap();
                ask(&policy, &(user, groups, source, time, wish), number);
            }
        }
    }
}

fn ask(policy: &Policy, (user, groups, source, time, wish): &(&str, &[String], IpAddr, u64, &Wish), number: usize) {
    let all = [("pam", "inject", "ed25519"), ("publickey+pam", "client-key", "rsa"), ("none", "inject", "ecdsa")];
    for (authentication, mode, key_type) in all {
        let question = Question {
            user,
            groups,
            source: *source,
            time: UnixTime(*time),
            proofs: Proofs::from_name(authentication).unwrap(),
            mode: Mode::from_name(mode).unwrap(),
            key_kind: KeyKind::from_name(key_type).unwrap(),
            wish,
        };
        let decided = policy.decide(&question);
        let supposed = Supposed {
            user: (*user).to_owned(),
            groups: groups.to_vec(),
            source: *source,
            time: Some(*time),
            authentication: authentication.to_owned(),
            mode: mode.to_owned(),
            key_type: key_type.to_owned(),
            wish: (*wish).clone(),
            reason_if_demanded: false,
        };
        let explained = explain(policy, &supposed, UnixTime(0)).unwrap();
        assert_eq!(explained.decision.is_ok(), decided.is_ok());
        let Ok(grant) = decided else { continue };
        assert_eq!(explained.rule, grant.rule);
        assert!(!grant.principals.is_empty() && grant.principals.iter().all(|name| is_principal(name)));
        assert!((1..=MAX_VALIDITY).contains(&grant.validity_seconds));
        assert!(number == 0 || grant.validity_seconds <= 7, "more than was asked for");
        let ways = policy.demands(&question).unwrap().authentication;
        assert!(ways.iter().any(|way| question.proofs.satisfy(*way)), "a certificate for less than is demanded");
        assert!(policy.ways_from(*source).any(|way| ways.contains(&way)));
    }
}

/// `ssh CA admin WORDS`, and behind the first line the signer's answer to all that is asked: no file is named, it comes to an end, and what is shown steers no terminal.
pub fn admin_command(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, answer) = data.split_at(end);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let parsed = remote::parse(line);
    assert_eq!(format!("{parsed:?}"), format!("{:?}", remote::parse(line)));
    let verb = match parsed {
        Parsed::Verb(verb) => verb,
        Parsed::Help(_) => return,
        Parsed::Wrong(failure) | Parsed::OnlyThere(failure) => return assert_eq!(failure.exit.code(), 64, "{failure}"),
    };
    // What is passed on as it came: from the signer itself, or from the one who reads it.
    let is_raw = matches!(
        &verb,
        AdminCommand::Krl(_) | AdminCommand::Host(HostCommand::Sign(_)) | AdminCommand::Key(KeyCommand::Remove(_))
    );
    let answer = decode::<Reply>(answer.get(1..).unwrap_or_default()).ok();
    let desk = Stub { answer, asked: Cell::new(0), out: RefCell::new(Vec::new()) };
    let _ = usshca_admin::run(&desk, verb);
    let out = desk.out.take();
    if !is_raw {
        let text = String::from_utf8(out).unwrap();
        assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r')), "{text:?}");
    }
}

/// A front whose signer always gives the same answer.
struct Stub {
    answer: Option<Reply>,
    asked: Cell<u32>,
    out: RefCell<Vec<u8>>,
}

impl Desk for Stub {
    fn link(&self) -> Result<Box<dyn Link + '_>, Failure> {
        Ok(Box::new(StubLink(self)))
    }
    fn here(&self) -> Option<&Layout> {
        None
    }
    fn print(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }
    fn stream(&self, bytes: &[u8]) -> Result<bool, Failure> {
        self.print(bytes).map(|()| true)
    }
    fn is_terminal(&self) -> bool {
        false
    }
    fn note(&self, _text: &str) {}
    fn input(&self, _most: u64) -> Result<Vec<u8>, Failure> {
        Ok(include_bytes!("../fixtures/keys.pub").iter().copied().take_while(|byte| *byte != b'\n').collect())
    }
    fn most_rows(&self) -> u64 {
        20_000
    }
}

struct StubLink<'a>(&'a Stub);

impl Link for StubLink<'_> {
    fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        assert!(encode(request).unwrap().len() < 64 * 1024, "more than a packet takes");
        self.next()
    }
    fn next(&self) -> Result<Reply, Failure> {
        self.0.asked.set(self.0.asked.get() + 1);
        assert!(self.0.asked.get() <= 1000, "it asks without end");
        // An answer is the same each time: one that says that more follows is told so no more than a few times.
        let answer = self.0.answer.as_ref().filter(|_| self.0.asked.get() < 100);
        let answer = answer.map(|reply| decode(&encode(reply).unwrap()).unwrap());
        answer.ok_or_else(|| Failure::refused("no"))
    }
}
