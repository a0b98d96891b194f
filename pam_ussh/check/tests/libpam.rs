//! The simulation against the real libpam: random stacks of pam_permit, pam_deny and pam_debug, whose results are known, must end as libpam ends them.
//! With includes, substacks, every kind of control, and lines that cannot be read. pam_debug can return any code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use pam_ussh_check::modules::{Asked, Role, Suspicion, possible, role};
use pam_ussh_check::pam::code::Code;
use pam_ussh_check::pam::dispatch;
use pam_ussh_check::pam::explore::{Meaning, explore};
use pam_ussh_check::pam::stack::{Facility, Handler, Stack};
use ussh_os::pam_application::{Conversation, PamApplication, PamMessage};
use zeroize::Zeroizing;

/// pam_debug says what it returns; nobody listens.
struct Silent;

impl Conversation for Silent {
    fn converse(&mut self, _: &[PamMessage]) -> Option<Vec<Zeroizing<String>>> {
        Some(Vec::new())
    }
}

/// What libpam says: of pam_start if that fails, else of `auth` and `account`.
fn libpam(folder: &Path, service: &str) -> Result<(Code, Code), Code> {
    let code = |result: Result<(), ussh_os::pam_application::PamError>| match result {
        Ok(()) => Code::SUCCESS,
        Err(error) => Code::from_number(error.code).unwrap(),
    };
    let mut application = PamApplication::start_in(folder.to_str().unwrap(), service, "nobody", Silent)
        .map_err(|error| code(Err(error)))?;
    Ok((code(application.authenticate()), code(application.acct_mgmt())))
}

/// What is simulated.
fn simulated(folder: &Path, service: &str) -> Result<(Code, Code), Code> {
    let stack = Stack::read(&folder.join(service)).unwrap().remove(0);
    let other = Stack::read(&folder.join("other")).unwrap().remove(0);
    if stack.given_up.is_some() {
        return Err(Code::from_name("abort").unwrap());
    }
    let run = |facility| {
        // libpam takes other's chain for one that the service does not have.
        let own = stack.chain(facility);
        let chain = if own.is_empty() { other.chain(facility) } else { own };
        dispatch::run(chain, |line| known(line, facility))
    };
    Ok((run(Facility::Auth), run(Facility::Account)))
}

fn known(line: &Handler, facility: Facility) -> Code {
    if role(line) == Role::Unknown {
        return Code::MODULE_UNKNOWN;
    }
    possible(line, Asked { service: "sudo", facility, suspicion: Suspicion::All })[0].0
}

const MISSING: &str = "@include /nonexistent/stack";

/// xorshift64: the same stacks in every run, unless told otherwise.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// PAM_INCOMPLETE (31) is no end, and PAM_ABORT ends as any other.
    fn code(&mut self) -> &'static str {
        if self.one_in(3) { "success" } else { Code::from_number(self.below(31) as i32).unwrap().name() }
    }

    fn control(&mut self) -> String {
        if self.one_in(3) {
            return self.of(&["required", "requisite", "sufficient", "optional", "Required"]).to_owned();
        }
        let mut pairs = Vec::new();
        for _ in 0..self.below(4) {
            let code = if self.one_in(2) { "success" } else { self.code() };
            let action = self.action();
            pairs.push(format!("{code}={action}"));
        }
        if !self.one_in(4) {
            let action = self.action();
            pairs.push(format!("default={action}"));
        }
        format!("[{}]", pairs.join(self.of(&[" ", "\t", "  ", ""])))
    }

    fn action(&mut self) -> &'static str {
        self.of(&["ignore", "ok", "done", "bad", "die", "reset", "ok", "ignore", "1", "1", "2", "2", "3", "4"])
    }

    fn line(&mut self, folder: &Path, includes: &[String]) -> String {
        let facility = self.of(&["auth", "auth", "auth", "account", "-auth", "AUTH", "Account"]);
        if !includes.is_empty() && self.one_in(4) {
            let file = folder.join(&includes[self.below(includes.len())]);
            return match self.below(5) {
                0 => format!("@include {}", file.display()),
                1 | 2 => format!("{facility} substack {}", file.display()),
                _ => format!("{facility} include {}", file.display()),
            };
        }
        if self.one_in(60) {
            return self
                .of(&[
                    "auth",
                    "auth required",
                    "nonsense required pam_permit.so",
                    "auth [success=0] pam_permit.so",
                    "auth [sucess=ok] pam_permit.so",
                    "auth include /nonexistent/stack",
                    "account substack /nonexistent/stack",
                    MISSING,
                    "auth required pam_nonexistent.so",
                ])
                .to_owned();
        }
        let control = self.control();
        let module = match self.below(6) {
            0 => "pam_permit.so".to_owned(),
            1 => "pam_deny.so".to_owned(),
            _ => format!("pam_debug.so auth={} acct={}", self.code(), self.code()),
        };
        let between = self.of(&[" ", "\t", " \\\n   "]);
        let comment = if self.one_in(10) { " # comment \\" } else { "" };
        format!("{facility}{between}{control}{between}{module}{comment}")
    }

    fn stack(&mut self, folder: &Path, includes: &[String], most: usize) -> String {
        let mut text = String::new();
        for _ in 0..1 + self.below(most) {
            let line = self.line(folder, includes);
            // In a file that is itself included for one facility this has no defined result (031_pam_include).
            let is_top = most > 4;
            text.push_str(if line == MISSING && !is_top { "auth include /nonexistent/stack" } else { &line });
            text.push('\n');
            if self.one_in(8) {
                text.push_str(self.of(&["\n", "# nothing\n", "  \t\n"]));
            }
        }
        text
    }
}

/// Rounds, and 20 times as many under USSH_SOAK.
fn rounds(usual: usize) -> usize {
    if std::env::var_os("USSH_SOAK").is_some() { usual * 20 } else { usual }
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    fs::write(
        path.join("other"),
        "auth requisite pam_debug.so auth=maxtries\naccount requisite pam_debug.so acct=acct_expired\n",
    )
    .unwrap();
    (folder, path)
}

fn differs(path: &Path, names: &[String]) -> String {
    names.iter().map(|name| format!("--- {name}\n{}", fs::read_to_string(path.join(name)).unwrap())).collect()
}

#[test]
fn random_stacks_end_as_libpam_ends_them() {
    let (_folder, path) = scratch();
    let mut random = Random(0x5eed_0dd5_ca1e_ba5e);
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..rounds(1500) {
        let mut names = Vec::new();
        // Those that are written first include none, the next may include those.
        for name in ["inner", "outer", "service"] {
            let text = random.stack(&path, &names, if name == "service" { 9 } else { 4 });
            fs::write(path.join(name), text).unwrap();
            names.push(name.to_owned());
        }
        let real = libpam(&path, "service");
        assert_eq!(simulated(&path, "service"), real, "{}", differs(&path, &names));
        *seen.entry(format!("{:?}", real.map(|(auth, _)| auth))).or_insert(0) += 1;
    }
    // A comparison of failures only would show little.
    assert!(seen["Ok(success)"] > rounds(1500) / 10 && seen["Ok(perm_denied)"] > rounds(1500) / 10, "{seen:?}");
    assert!(seen.len() > 15 && seen.contains_key("Err(abort)"), "{seen:?}");
}

#[test]
fn what_libpam_does_is_among_what_is_thought_possible() {
    let (_folder, path) = scratch();
    let mut random = Random(0xfeed_f00d_dead_beef);
    let mut several = 0;
    for _ in 0..rounds(500) {
        let names = ["inner".to_owned(), "service".to_owned()];
        let inner = random.stack(&path, &[], 4);
        fs::write(path.join("inner"), inner).unwrap();
        let text = random.stack(&path, &names[..1], 7);
        fs::write(path.join("service"), text).unwrap();
        let Ok((real, _)) = libpam(&path, "service") else { continue };
        let stack = Stack::read(&path.join("service")).unwrap().remove(0);
        let chain = stack.chain(Facility::Auth);
        if chain.is_empty() {
            continue;
        }
        // As if nothing were known of pam_debug: it may return anything.
        let runs = explore(chain, |_, line| match line.module_name() {
            "pam_debug" => Code::all().map(|code| (code, Meaning::Nothing)).collect(),
            _ => possible(line, Asked { service: "sudo", facility: Facility::Auth, suspicion: Suspicion::All }),
        })
        .unwrap();
        let thought: Vec<bool> = runs.iter().map(|run| run.result == Code::SUCCESS).collect();
        assert!(thought.contains(&(real == Code::SUCCESS)), "{real} not in {thought:?}\n{}", differs(&path, &names));
        several += usize::from(thought.contains(&true) && thought.contains(&false));
    }
    assert!(several > rounds(500) / 4, "only {several} could end in both ways");
}

/// Cases that random lines seldom make. Not a file that includes itself: libpam 1.5 follows it until it has no descriptors left, or no stack.
#[test]
fn odd_files_end_as_libpam_ends_them() {
    let (_folder, path) = scratch();
    let permit = "auth required pam_permit.so\naccount required pam_permit.so\n";
    fs::write(path.join("permit"), permit).unwrap();
    let here = path.to_str().unwrap();
    for text in [
        String::new(),
        "# nothing\n".into(),
        "auth [success=1 default=bad]pam_permit.so\nauth required pam_deny.so\nauth required pam_permit.so\n".into(),
        "auth [success=1 default=bad] pam_permit.so\n".into(),
        "auth [success=1 default=bad] pam_permit.so\nauth required pam_deny.so\n".into(),
        "auth required pam_permit.so \\\n".into(),
        "auth required \\\n# comment\n\n pam_permit.so\n".into(),
        "auth required pam_permit.so \\   \n\t\n".into(),
        format!("@include {here}/permit\nauth required pam_debug.so auth=cred_err\n"),
        format!("@include {here}/permit with more words\n"),
        format!("-@include {here}/permit\n"),
        format!("@INCLUDE {here}/permit\n"),
        format!("@include {here}/nothing\n{permit}"),
        format!("auth include {here}/nothing\n{permit}"),
        format!("auth substack {here}/nothing\n{permit}"),
        format!("auth [default=1] pam_permit.so\nauth substack {here}/permit\nauth required pam_permit.so\n"),
        format!("auth [default=2] pam_permit.so\nauth substack {here}/permit\n"),
        format!("auth substack {here}/jumps\nauth sufficient pam_permit.so\n"),
        "auth [default=ignore] pam_permit.so\n".into(),
        "auth\trequired\tpam_permit.so#comment\n".into(),
        "auth required pam_permit.so\r\n".into(),
        "auth required [pam_permit.so]\n".into(),
        "[auth] [required] [pam_permit.so]\n".into(),
        "auth required pam_debug.so [auth=perm_denied]\n".into(),
        "auth required pam_debug.so auth=nonsense\n".into(),
        "auth required pam_debug.so auth=perm_denied auth=success\n".into(),
        "foo\nauth required pam_permit.so\n".into(),
        "- required pam_permit.so\nauth required pam_permit.so\n".into(),
        "auth [] pam_permit.so\n".into(),
        "auth [success=ok success=die default=ignore] pam_permit.so\n".into(),
        "auth [default=ok default=bad] pam_permit.so\n".into(),
    ] {
        fs::write(path.join("jumps"), "auth [default=1] pam_permit.so\n").unwrap();
        fs::write(path.join("service"), &text).unwrap();
        assert_eq!(simulated(&path, "service"), libpam(&path, "service"), "{text}");
    }
}
