//! `ussh --status`: what is there, for people and for programs.

use std::fmt::Write;

use serde::Serialize;
use ussh_core::clock::UnixTime;
use ussh_core::escape::escape;

use crate::certificates::{Held, Standing};
use crate::config::{Config, Lockable};
use crate::keeper::Keeper;
use crate::user_agent::AgentProblem;

/// Longest key ID or principal that is shown, in bytes.
const MAX_SHOWN: usize = 256;

/// All that `--status` shows.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Whether there is a good certificate.
    good: bool,
    /// Socket of the agent; none if there is no agent.
    agent: Option<String>,
    /// The key's file, where `keep_in` is "files".
    files: Option<String>,
    /// Why there is no agent, or why it is of no use.
    agent_problem: Option<String>,
    /// The CAs, in order.
    ca: Vec<String>,
    /// Those that name our CA.
    certificates: Vec<Shown>,
    /// Keys of the configuration in which only the system's file has a say.
    locked: Vec<Lockable>,
    /// What has been said of them elsewhere.
    passed_over: Vec<String>,
    /// What is wrong is wrong with files.
    #[serde(skip)]
    in_files: bool,
}

/// One certificate, escaped for a terminal.
#[derive(Debug, Serialize)]
struct Shown {
    key_id: String,
    /// In decimal. A string, since JSON's numbers lose digits above 2^53 in many readers.
    serial: String,
    principals: Vec<String>,
    ca: String,
    /// Seconds since the Unix epoch; the first second in which it is not valid. None: never.
    valid_before: Option<u64>,
    /// None: for ever.
    seconds_left: Option<u64>,
    standing: &'static str,
    /// Why it is refused.
    reason: Option<String>,
}

impl Status {
    /// Of what the agent holds, or why it could not be asked.
    pub fn new(config: &Config, held: Result<(Keeper, Vec<Held>), AgentProblem>, now: UnixTime) -> Self {
        let in_files = matches!(held, Err(AgentProblem::Files(_)));
        let (keeper, agent_problem, held) = match held {
            Ok((keeper, held)) => (Some(keeper), None, held),
            Err(problem) => (None, Some(problem.to_string()), Vec::new()),
        };
        let place = keeper.as_ref().map(|keeper| keeper.place().display().to_string());
        let unfit = match &keeper {
            Some(Keeper::Agent(agent)) => agent.takes_certificates().err().map(|problem| problem.to_string()),
            Some(Keeper::Files(_) | Keeper::OwnKey(_)) | None => None,
        };
        let agent_problem = agent_problem.or(unfit);
        let (agent, files) = match keeper {
            Some(Keeper::Files(files)) => (None, files.key().map(|key| key.display().to_string()).or(place)),
            Some(Keeper::Agent(_) | Keeper::OwnKey(_)) | None => (place, None),
        };
        Status {
            good: agent_problem.is_none() && held.iter().any(|held| held.standing == Standing::Good),
            agent,
            files,
            agent_problem,
            ca: config.cas.iter().map(ToString::to_string).collect(),
            certificates: held.iter().map(|held| Shown::new(held, now)).collect(),
            locked: config.locks.locked().to_vec(),
            passed_over: config.locks.passed_over().iter().map(ToString::to_string).collect(),
            in_files,
        }
    }
    /// Whether there is a good certificate.
    pub fn is_good(&self) -> bool {
        self.good
    }
    /// One JSON object and a newline.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists: nothing in it can fail to be written.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }
    /// For a shell's prompt: `7h12m`, `4m!` (it ends soon), `none`; empty where there is no CA to have one of.
    pub fn to_prompt(&self) -> String {
        if self.ca.is_empty() && self.certificates.is_empty() {
            return String::new();
        }
        let standing = |wanted| self.certificates.iter().find(|shown| shown.standing == wanted);
        let left = |shown: &Shown| shown.seconds_left.map_or_else(|| "ever".to_owned(), short);
        let word = match (standing("good"), standing("ends soon")) {
            (Some(good), _) => left(good),
            (None, Some(soon)) => left(soon) + "!",
            (None, None) => "none".to_owned(),
        };
        word + "\n"
    }
    /// Lines for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let (label, place) = match &self.files {
            Some(files) => ("files", files.as_str()),
            None => (
                if self.in_files { "files" } else { "agent" },
                self.agent.as_deref().or(self.agent_problem.as_deref()).unwrap_or_default(),
            ),
        };
        let beside = self.agent_problem.as_ref().filter(|_| self.agent.is_some());
        let ca = if self.ca.is_empty() { "none configured".to_owned() } else { self.ca.join(", ") };
        let _ = writeln!(text, "{label}        {place}");
        if let Some(problem) = beside {
            let _ = writeln!(text, "             {problem}");
        }
        let _ = writeln!(text, "CA           {ca}");
        for shown in &self.certificates {
            let _ = writeln!(text, "certificate  {}", shown.to_text());
        }
        if self.certificates.is_empty() {
            // Where it is promised, it comes.
            let next = if self.ca.is_empty() || self.agent_problem.is_some() { "" } else { "; `ussh` asks it for one" };
            let _ = writeln!(text, "certificate  none of this CA{next}");
        }
        if !self.locked.is_empty() {
            let names = self.locked.iter().map(|key| key.name()).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "locked       {names}");
        }
        for passed_over in &self.passed_over {
            let _ = writeln!(text, "             {passed_over}");
        }
        text
    }
}

impl Shown {
    fn new(held: &Held, now: UnixTime) -> Self {
        let certificate = &held.certificate;
        let end = Some(certificate.valid_before()).filter(|end| *end != UnixTime::FOREVER);
        let (standing, reason) = match &held.standing {
            Standing::Good => ("good", None),
            Standing::EndsSoon => ("ends soon", None),
            Standing::Refused(refusal) => ("refused", Some(escape(refusal.to_string().as_bytes(), MAX_SHOWN))),
        };
        Shown {
            key_id: escape(certificate.key_id(), MAX_SHOWN),
            serial: certificate.serial().to_string(),
            principals: certificate.principals().iter().map(|principal| escape(principal, MAX_SHOWN)).collect(),
            ca: certificate.ca().fingerprint(),
            valid_before: end.map(|end| end.0),
            seconds_left: end.map(|end| end.0.saturating_sub(now.0)),
            standing,
            reason,
        }
    }

    fn to_text(&self) -> String {
        let left = self
            .seconds_left
            .map_or_else(|| "valid for ever".to_owned(), |seconds| format!("{} left", duration(seconds)));
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!(
            "ID \"{}\" serial {} for {}: {}{reason}, {left}",
            self.key_id,
            self.serial,
            self.principals.join(","),
            self.standing
        )
    }
}

/// Without blanks, and without seconds where they do not matter: `7h12m`.
fn short(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// Two units are enough: `3 h 5 min`.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_room_for_a_word() {
        for (seconds, wanted) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (25_925, "7h12m"), (90_061, "1d1h")]
        {
            assert_eq!(short(seconds), wanted);
        }
        let shown = |standing, seconds_left| Shown {
            key_id: String::new(),
            serial: String::new(),
            principals: Vec::new(),
            ca: String::new(),
            valid_before: None,
            seconds_left,
            standing,
            reason: None,
        };
        let prompt = |ca: &[&str], certificates| {
            let ca = ca.iter().map(|&ca| ca.to_owned()).collect();
            let (locked, passed_over) = (Vec::new(), Vec::new());
            let (agent, files, agent_problem) = (None, None, None);
            Status { good: false, agent, files, agent_problem, ca, certificates, locked, passed_over, in_files: false }
                .to_prompt()
        };
        assert_eq!(prompt(&["ca"], vec![shown("refused", Some(0)), shown("good", Some(3600))]), "1h0m\n");
        assert_eq!(prompt(&["ca"], vec![shown("ends soon", Some(240))]), "4m!\n");
        assert_eq!(prompt(&["ca"], vec![shown("good", None)]), "ever\n");
        assert_eq!(prompt(&["ca"], vec![shown("refused", Some(0))]), "none\n");
        assert_eq!(prompt(&[], vec![]), "");
    }

    #[test]
    fn durations_are_told_in_two_units() {
        for (seconds, wanted) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3599, "59 min 59 s"),
            (3600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d 0 h"),
            (90_061, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), wanted);
        }
    }
}
