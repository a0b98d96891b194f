//! What comes out of a chain, by running it for everything that its modules may say.

use super::open::open_run;
use super::{Subject, finding};
use crate::modules::{Asked, Role, Suspicion, arguments, is_ours, possible, role};
use crate::pam::code::{Action, Code};
use crate::pam::dispatch;
use crate::pam::explore::{Meaning, Run, Step, TooManyStates, explore};
use crate::pam::stack::{Facility, Handler, Kind, Place};
use crate::report::{Finding, Severity};

/// Of one facility.
pub fn lint(subject: &Subject, facility: Facility) -> Vec<Finding> {
    let service = subject.stack.service.as_str();
    let chain = Chain { lines: subject.stack.chain(facility), service, facility, concerned: subject.concerned };
    let mut findings = chain.dangling_jumps();
    let judged = match facility {
        Facility::Auth => chain.auth(),
        Facility::Account | Facility::Session if chain.lines.iter().any(is_ours) => chain.other(),
        Facility::Account | Facility::Session | Facility::Password => Ok(Vec::new()),
    };
    match judged {
        Ok(judged) => findings.extend(judged),
        Err(TooManyStates) => {
            let at = Place { file: subject.file.as_path().into(), line: 0 };
            let what = format!("the {facility} stack has more ways through it than can be tried");
            findings.push(finding(&at, Severity::Unchecked, "too-many-ways", what, "", "make it simpler"));
        }
    }
    findings
}

pub(super) struct Chain<'a> {
    pub(super) lines: &'a [Handler],
    pub(super) service: &'a str,
    pub(super) facility: Facility,
    concerned: bool,
}

impl Chain<'_> {
    /// `success=2` with one line behind it.
    fn dangling_jumps(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (position, line) in self.lines.iter().enumerate().filter(|(_, line)| line.kind == Kind::Module) {
            let mut jumps: Vec<(Code, u32)> = Vec::new();
            for (code, _) in self.possible(line, Suspicion::All) {
                if let Action::Jump(lines) = line.actions.on(code)
                    && !jumps.iter().any(|(_, other)| *other == lines)
                    && dispatch::jump(self.lines, position, lines).is_none()
                {
                    jumps.push((code, lines));
                }
            }
            for (code, lines) in jumps {
                let behind =
                    (0..lines).rev().find(|fewer| dispatch::jump(self.lines, position, *fewer).is_some()).unwrap_or(0);
                findings.push(finding(
                    &line.at,
                    Severity::Error,
                    "dangling-jump",
                    format!(
                        "[{}] of {}: on {code} it jumps over {}, but {} behind it in {}",
                        line.control,
                        line.label(),
                        count(lines),
                        match behind {
                            0 => "there is none".to_owned(),
                            1 => "there is only one".to_owned(),
                            more => format!("there are only {more}"),
                        },
                        self.facility,
                    ),
                    "libpam calls that a bad jump, and the stack fails whatever else it holds: nobody gets in this way",
                    format!(
                        "count again, with what is included; or end the stack with `{0} requisite pam_deny.so` and `{0} required pam_permit.so` and jump onto the second",
                        self.facility
                    ),
                ));
            }
        }
        findings
    }

    fn possible(&self, line: &Handler, suspicion: Suspicion) -> Vec<(Code, Meaning)> {
        possible(line, Asked { service: self.service, facility: self.facility, suspicion })
    }

    fn auth(&self) -> Result<Vec<Finding>, TooManyStates> {
        if self.lines.is_empty() {
            return Ok(Vec::new());
        }
        let mut findings = Vec::new();
        let mut open = None;
        for (suspicion, severity) in [
            (Suspicion::Likely, Severity::Error),
            (Suspicion::All, Severity::Warning),
            (Suspicion::Unknown, Severity::Unchecked),
        ] {
            if open.is_none()
                && let Some(run) = open_run(&self.runs(suspicion)?)
            {
                open = Some(suspicion);
                match severity {
                    Severity::Unchecked if self.concerned => findings.push(self.by_unknown(run)),
                    _ if self.concerned => findings.push(self.lets_in(run, severity)),
                    Severity::Error => findings.push(self.lets_in(run, Severity::Note)),
                    Severity::Warning | Severity::Unchecked | Severity::Note => {}
                }
            }
        }
        let useless = if self.concerned { self.useless_lines()? } else { Vec::new() };
        let works = !useless.iter().any(|finding| finding.severity == Severity::Error);
        findings.extend(useless);
        if self.lines.iter().any(is_ours) {
            if open.is_none_or(|suspicion| suspicion == Suspicion::Unknown) && works {
                findings.extend(self.weak_controls());
            }
            findings.extend(self.other_ways()?);
        }
        Ok(findings)
    }

    /// Account and session: a no of ours must be the last word, and a yes must be of use.
    fn other(&self) -> Result<Vec<Finding>, TooManyStates> {
        let mut findings = self.useless_lines()?;
        let runs = self.runs(Suspicion::Likely)?;
        let ignored =
            runs.iter().filter(|run| run.result == Code::SUCCESS && run.facts.refused && !run.facts.exemption);
        if let Some(run) = ignored.min_by_key(|run| run.steps.len()) {
            let at = self.step_place(run.steps.iter().find(|step| step.meaning == Meaning::Refused));
            let why = match self.facility {
                Facility::Session => "the session would go on without a record: ussh-hostd neither warns nor ends it",
                Facility::Auth | Facility::Account | Facility::Password => {
                    "a certificate that has run out or was revoked would still do"
                }
            };
            findings.push(Finding {
                run: self.told(run),
                ..finding(
                    &at,
                    Severity::Error,
                    "refusal-ignored",
                    format!("pam_ussh's refusal counts for nothing: {} ends in success", self.facility),
                    why,
                    self.demanding(),
                )
            });
        } else {
            findings.extend(self.weak_controls());
        }
        findings.extend(self.ways_past(&self.runs(Suspicion::All)?));
        Ok(findings)
    }

    /// Account and session: a way into success on which ours is not asked.
    fn ways_past(&self, runs: &[Run]) -> Option<Finding> {
        let past = |run: &&Run| run.result == Code::SUCCESS && !run.facts.accepted && !run.facts.refused;
        // A yes that names nobody says more than one that names some.
        let run = runs.iter().filter(past).min_by_key(|run| (run.facts.exemption, run.steps.len()))?;
        let leads = |step: &&Step| matches!(step.action, Action::Done | Action::Jump(_));
        let step = run.steps.iter().rev().find(leads);
        let line = self.lines.get(step?.position)?;
        let in_person =
            role(line) == Role::RootOk && arguments::real_uid(self.service) == arguments::RealUid::OfTheCaller;
        let is_meant = run.facts.exemption || in_person;
        let (severity, rule) = if is_meant { (Severity::Note, "exemption") } else { (Severity::Warning, "not-asked") };
        let name = line.module_name();
        let what = match is_meant {
            true => {
                format!("{name} excepts people: for those whom it lets pass {} does not ask pam_ussh", self.facility)
            }
            false => format!("{} can end in success by {name}, and then pam_ussh is not asked", self.facility),
        };
        let why = match self.facility {
            Facility::Session => {
                "a session that it is not told of is not recorded, and ussh-hostd neither warns nor ends it"
            }
            Facility::Auth | Facility::Account | Facility::Password => {
                "a certificate that has run out or was revoked still does then, while sudo's ticket lasts"
            }
        };
        let instead = if is_meant { String::new() } else { format!("put our line in front of {}", line.at) };
        Some(Finding { run: self.told(run), ..finding(&line.at, severity, rule, what, why, instead) })
    }

    fn runs(&self, suspicion: Suspicion) -> Result<Vec<Run>, TooManyStates> {
        explore(self.lines, |_, line| self.possible(line, suspicion))
    }

    /// A line that nobody passes. In session no line behind may speak into sftp and scp.
    pub(super) fn demanding(&self) -> String {
        let control = if self.facility == Facility::Session { "requisite" } else { "required" };
        format!("{} {control} pam_ussh.so", self.facility)
    }

    /// Modules whose yes is never of use. Ours: an error. Others, in a stack that concerns us: a warning.
    fn useless_lines(&self) -> Result<Vec<Finding>, TooManyStates> {
        let mut findings = Vec::new();
        for (watched, line) in self.lines.iter().enumerate().filter(|(_, line)| line.kind == Kind::Module) {
            let ours = is_ours(line);
            let asks = matches!(role(line), Role::Authenticates | Role::RootOk | Role::Unknown)
                && self.facility == Facility::Auth;
            if !ours && !asks {
                continue;
            }
            let runs = explore(self.lines, |position, line| {
                let watch = |(code, _)| match (position == watched, code == Code::SUCCESS) {
                    (true, true) => (code, Meaning::Accepted),
                    (_, _) => (code, Meaning::Nothing),
                };
                self.possible(line, Suspicion::All).into_iter().map(watch).collect()
            })?;
            if runs.iter().any(|run| run.facts.accepted && run.result == Code::SUCCESS) {
                continue;
            }
            let name = line.module_name();
            let shown = runs.iter().filter(|run| run.facts.accepted).min_by_key(|run| run.steps.len());
            let what = match (shown, ours) {
                (None, _) => format!("{name} is never asked: no way through {} leads to this line", self.facility),
                (Some(_), true) => format!(
                    "{} lets nobody in: after pam_ussh has said yes it fails whatever else is so",
                    self.facility
                ),
                (Some(_), false) => format!(
                    "nobody gets in by {name}: after it has said yes {} fails whatever else is so",
                    self.facility
                ),
            };
            let at_end = shown.and_then(|run| run.steps.last()).is_some_and(|step| step.position == watched);
            let why = match shown {
                None => "what is never asked lets nobody in and keeps nobody out",
                Some(_) => "the right answer leads to a refusal",
            };
            let instead = match line.actions.on(Code::SUCCESS) {
                _ if shown.is_none() => {
                    format!(
                        "put it in front of the line that ends {} or jumps over it (sufficient, done, die, success=N)",
                        self.facility
                    )
                }
                Action::Jump(_) if at_end => format!(
                    "a jump says neither yes nor no: let it land on `{0} required pam_permit.so`, with `{0} requisite pam_deny.so` before that",
                    self.facility
                ),
                Action::Jump(_) => format!(
                    "see where it lands now, and count the lines again: it must be `{} required pam_permit.so` or what else has to agree",
                    self.facility
                ),
                Action::Ignore | Action::Ok | Action::Done | Action::Bad | Action::Die | Action::Reset => {
                    format!("{} required {}, and no pam_deny on the way behind it", self.facility, line.module)
                }
            };
            let severity = if ours { Severity::Error } else { Severity::Warning };
            findings.push(Finding {
                run: shown.map(|run| self.told(run)).unwrap_or_default(),
                ..finding(&line.at, severity, "nobody", what, why, instead)
            });
        }
        Ok(findings)
    }

    /// Lines of ours that hold only as long as nobody touches what stands around them.
    fn weak_controls(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (position, line) in
            self.lines.iter().enumerate().filter(|(_, line)| is_ours(line) && line.kind == Kind::Module)
        {
            let ignored =
                crate::modules::our_refusals(self.facility).iter().all(|code| line.actions.on(*code) == Action::Ignore);
            if !ignored {
                continue;
            }
            let required = self.demanding();
            if line.actions.on(Code::SUCCESS) == Action::Ok {
                findings.push(finding(
                    &line.at,
                    Severity::Warning,
                    "optional",
                    "pam_ussh is optional: its refusal is passed over",
                    "who gets in is then for the other lines to say; this one asks people for nothing",
                    required,
                ));
            } else if !self.lines.iter().skip(position + 1).any(|behind| self.can_refuse(behind)) {
                findings.push(finding(
                    &line.at,
                    Severity::Warning,
                    "nothing-behind",
                    format!("nothing behind `{}` pam_ussh refuses", line.control),
                    "libpam fails a stack in which nobody has said yes, but the first line that says yes for another reason (pam_permit, pam_cap, pam_shells) lets everybody in",
                    format!("{required}; or `{} requisite pam_deny.so` behind this line", self.facility),
                ));
            }
        }
        findings
    }

    fn can_refuse(&self, line: &Handler) -> bool {
        let refuses = |(code, _)| matches!(line.actions.on(code), Action::Bad | Action::Die);
        line.kind == Kind::MustFail
            || (line.kind == Kind::Module && self.possible(line, Suspicion::All).into_iter().any(refuses))
    }

    /// Ways into success on which ours has not said yes, for a caller that is not root: notes.
    fn other_ways(&self) -> Result<Vec<Finding>, TooManyStates> {
        let runs = explore(self.lines, |_, line| {
            let mut results = self.possible(line, Suspicion::Likely);
            results.retain(|(code, _)| line.module_name() != "pam_rootok" || *code != Code::SUCCESS);
            results
        })?;
        let shortest = |wanted: &dyn Fn(&Run) -> bool| {
            runs.iter()
                .filter(|run| run.result == Code::SUCCESS && !run.facts.accepted && wanted(run))
                .min_by_key(|run| run.steps.len())
        };
        let opened_by = |run: &Run, meaning| {
            let step = run.steps.iter().rev().find(|step| step.meaning == meaning);
            step.and_then(|step| self.lines.get(step.position))
                .map(|line| line.module_name().to_owned())
                .unwrap_or_default()
        };
        let mut findings = Vec::new();
        let mut note = |run: &Run, rule, what: String, why: &str| {
            let ours = self.lines.iter().find(|line| is_ours(line)).map(|line| line.at.clone());
            let at = ours.unwrap_or_else(|| self.step_place(None));
            findings.push(Finding { run: self.told(run), ..finding(&at, Severity::Note, rule, what, why, "") });
        };
        if let Some(run) = shortest(&|run| run.facts.proof && run.facts.refused) {
            let by = opened_by(run, Meaning::Proof);
            note(
                run,
                "other-way",
                format!("whom pam_ussh refuses may still get in by {by}"),
                "a certificate that was revoked then keeps nobody out",
            );
        }
        if let Some(run) = shortest(&|run| run.facts.proof && !run.facts.refused) {
            let by = opened_by(run, Meaning::Proof);
            note(
                run,
                "not-asked",
                format!("whoever gets in by {by} is not asked for a certificate"),
                "the line stands behind one that is enough by itself",
            );
        }
        if let Some(run) = shortest(&|run| run.facts.exemption && !run.facts.proof) {
            let by = opened_by(run, Meaning::Exemption);
            // Of one that names nobody more has been said.
            let step = run.steps.iter().find(|step| step.meaning == Meaning::Exemption);
            let line = step.and_then(|step| self.lines.get(step.position));
            if line.is_some_and(|line| arguments::names_somebody(line, self.service)) {
                note(run, "exemption", format!("{by} excepts people: those whom it lets pass need no certificate"), "");
            }
        }
        Ok(findings)
    }

    pub(super) fn step_place(&self, step: Option<&Step>) -> Place {
        let line = step.and_then(|step| self.lines.get(step.position)).or(self.lines.first());
        line.map_or_else(|| Place { file: std::path::Path::new("").into(), line: 0 }, |line| line.at.clone())
    }

    pub(super) fn told(&self, run: &Run) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for step in &run.steps {
            let Some(line) = self.lines.get(step.position) else { continue };
            let jump = if step.bad_jump == dispatch::BadJump::Yes { ", past the end" } else { "" };
            told.push(format!("{}: {} returns {}: {}{jump}", line.at, line.label(), step.code, step.action));
        }
        told.push(format!("so {} ends in {}", self.facility, run.result));
        told
    }
}

fn count(lines: u32) -> String {
    if lines == 1 { "one line".into() } else { format!("{lines} lines") }
}
