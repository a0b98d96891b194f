//! Ways into success on which nobody has proved anything: what is said of them, and what to write instead.

use super::chain::Chain;
use super::finding;
use crate::modules::arguments::{self, RealUid};
use crate::modules::{Role, is_ours, opens, role};
use crate::pam::code::{Action, Code};
use crate::pam::explore::{Meaning, Run, Step};
use crate::pam::stack::Handler;
use crate::report::{Finding, Severity};

impl Chain<'_> {
    /// Everybody gets in this way.
    pub(super) fn lets_in(&self, run: &Run, severity: Severity) -> Finding {
        let has_ours = self.lines.iter().any(is_ours);
        let refused = run.steps.iter().find(|step| step.meaning == Meaning::Refused);
        let yes = run
            .steps
            .iter()
            .find(|step| step.code == Code::SUCCESS && matches!(step.action, Action::Ok | Action::Done));
        let (what, instead) = match refused {
            Some(step) => ("auth ends in success although pam_ussh has refused: it lets everybody in", self.mend(step)),
            None if has_ours => (
                "auth can end in success without asking pam_ussh or anybody else: it lets everybody in",
                "let no way lead past the pam_ussh line but one on which another module has asked for proof; except people with `[success=1 default=ignore] pam_succeed_if.so ...` in front of it".into(),
            ),
            None => (
                "auth ends in success, and no module in it asks for proof of who somebody is: it lets everybody in",
                "auth required pam_ussh.so".into(),
            ),
        };
        let mut at = self.step_place(refused.or(yes));
        let culprit = run.steps.iter().find_map(|step| self.passed_by(step));
        let (what, why, instead) = match culprit {
            Some(Passed { by: By::Nobody, line, why }) if severity != Severity::Note => {
                at = line.at.clone();
                let what = format!(
                    "auth can end in success by {} alone, which asks nobody for proof: it lets everybody in",
                    line.module_name()
                );
                (what, why, self.instead_of(line))
            }
            Some(Passed { by: By::Ignoring, why, .. }) if severity != Severity::Note => (what.into(), why, instead),
            _ if severity == Severity::Note => {
                (what.into(), "that may be meant, as for an automatic login".into(), instead)
            }
            _ => {
                let why = "whoever reaches this service gets in without a certificate and without a password";
                (what.into(), why.into(), instead)
            }
        };
        Finding { run: self.told(run), ..finding(&at, severity, "lets-everybody-in", what, why, instead) }
    }

    /// Whether this step is one that nobody would think lets people pass, and why it does.
    fn passed_by(&self, step: &Step) -> Option<Passed<'_>> {
        let line = self.lines.get(step.position)?;
        let name = line.module_name();
        let (by, why) = match role(line) {
            Role::RootOk if step.code == Code::SUCCESS && step.meaning == Meaning::Nothing => {
                let why = match arguments::real_uid(self.service) {
                    RealUid::Root => format!(
                        "{} runs as root whoever is at the other end, and {name} looks at that alone",
                        self.service
                    ),
                    RealUid::OfTheCaller | RealUid::Unknown => format!(
                        "{name} says yes where the program runs as root by itself, as a daemon does; whether {} does is not known here",
                        self.service
                    ),
                };
                (By::Nobody, why)
            }
            Role::Tests if step.code == Code::SUCCESS && step.meaning == Meaning::Nothing && opens(line) => (
                By::Nobody,
                format!(
                    "its line names no user and no group who are excepted: whoever {name} lets pass is asked for nothing more"
                ),
            ),
            Role::Unknown if step.code == Code::IGNORE => (
                By::Ignoring,
                format!("this takes {name}, which is not known here, to answer PAM_IGNORE, which then refuses nobody"),
            ),
            Role::Authenticates if step.code == Code::IGNORE => {
                let why = match arguments::ignores_by(line) {
                    Some(option) => format!(
                        "{name} with {option} answers PAM_IGNORE for some people, or when nobody can be asked, which then refuses nobody"
                    ),
                    None => format!("this takes {name} to answer PAM_IGNORE, as it may, which then refuses nobody"),
                };
                (By::Ignoring, why)
            }
            Role::Ours
            | Role::Permits
            | Role::Denies
            | Role::Debug
            | Role::RootOk
            | Role::Authenticates
            | Role::Unknown
            | Role::Tests
            | Role::Helps => return None,
        };
        Some(Passed { by, line, why })
    }

    /// What to write in place of a line that excepts everybody.
    fn instead_of(&self, line: &Handler) -> String {
        let text = if role(line) == Role::RootOk {
            "take the line out: it is for programs that people start, like su"
        } else if matches!(self.service, "su" | "su-l") {
            "name the caller, as with pam_wheel.so trust, or `pam_succeed_if.so use_uid user ingroup GROUP`; or take the line out"
        } else {
            "name a user or a group, as with `pam_succeed_if.so user ingroup GROUP`; or take the line out"
        };
        text.into()
    }

    /// A yes that comes from a module of which nothing is known.
    pub(super) fn by_unknown(&self, run: &Run) -> Finding {
        let of = |step: &&Step| self.lines.get(step.position).is_some_and(|line| role(line) == Role::Unknown);
        let step = run.steps.iter().find(|step| of(step) && step.code == Code::SUCCESS);
        let name = step.and_then(|step| self.lines.get(step.position)).map_or("", Handler::module_name);
        Finding {
            run: self.told(run),
            ..finding(
                &self.step_place(step),
                Severity::Unchecked,
                "unknown-module",
                format!("auth can end in success by {name} alone, and that module is not known here"),
                "whether it asks for proof of who somebody is, or says yes to all whom it knows nothing against, cannot be told from here",
                format!(
                    "see what its manual says of auth; `{} required pam_ussh.so` needs nobody else's yes",
                    self.facility
                ),
            )
        }
    }

    /// What to write in place of a line of ours whose refusal was done that with.
    fn mend(&self, refused: &Step) -> String {
        let line = self.lines.get(refused.position);
        let required = format!("{} required pam_ussh.so", self.facility);
        match (refused.action, line.map(|line| line.control.to_ascii_lowercase()).as_deref()) {
            (Action::Ignore, Some("optional")) => required,
            (Action::Ignore, _) => format!(
                "{required}; or, where other modules may do instead, `{} requisite pam_deny.so` directly behind the last of them",
                self.facility
            ),
            (Action::Jump(_), _) => format!("{required}: a refusal must not jump"),
            (Action::Ok | Action::Done | Action::Bad | Action::Die | Action::Reset, _) => required,
        }
    }
}

/// How people pass a step that was not meant for them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Its yes names nobody.
    Nobody,
    /// It refuses nobody.
    Ignoring,
}

struct Passed<'a> {
    by: By,
    line: &'a Handler,
    why: String,
}

/// The shortest way into success on which nobody has proved anything; one on which ours has refused, if there is one.
pub(super) fn open_run(runs: &[Run]) -> Option<&Run> {
    let open = runs
        .iter()
        .filter(|run| run.result == Code::SUCCESS && !run.facts.proof && !run.facts.exemption && !run.facts.accepted);
    open.min_by_key(|run| (!run.facts.refused, run.steps.len()))
}
