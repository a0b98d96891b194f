//! What one ssh process, which is to say one host, may have signed, and how much of the log it may fill. A host that is taken over asks as often as it likes: nothing of that may push out what it was given before.

use std::collections::{HashMap, HashSet};

use super::journal::{Entry, Outcome};

/// Most signatures over one ssh in a minute: a playbook's `sudo` comes once a second.
pub const MAX_SIGNED: u32 = 60;
/// Most different challenges over one ssh in an hour: a person has few terminals and becomes few users on a host. Each is in the log, so their number bounds it.
pub const MAX_DIFFERENT: usize = 100;
/// Most lines of one ssh and outcome in a minute; what was signed for the first time this hour comes besides. The rest is counted.
const MAX_LINES: u32 = 10;
/// Seconds of an hour.
const HOUR: u64 = 3600;

/// Those of all ssh processes that asked lately.
#[derive(Debug, Default)]
pub struct Shares(HashMap<i32, Share>);

/// One ssh's.
#[derive(Debug, Default)]
struct Share {
    /// Seconds since the epoch over sixty.
    minute: u64,
    /// The same of the hour in which `texts` were signed.
    hour: u64,
    signatures: u32,
    texts: HashSet<String>,
    signed: Lines,
    refused: Lines,
}

/// Of one outcome.
#[derive(Debug, Default)]
struct Lines {
    noted: u32,
    not_noted: u32,
    /// The last that was not.
    last: Option<Entry>,
}

impl Lines {
    /// `None`: it is counted only.
    fn admit(&mut self, entry: &Entry, always: bool) -> Option<u32> {
        if self.noted >= MAX_LINES && !always {
            self.not_noted = self.not_noted.saturating_add(1);
            self.last = Some(entry.clone());
            return None;
        }
        self.noted = self.noted.saturating_add(1);
        self.last = None;
        Some(std::mem::take(&mut self.not_noted))
    }
    /// The last one that was not noted, with those before it counted.
    fn rest(&mut self) -> Option<Entry> {
        let not_noted = std::mem::take(&mut self.not_noted).saturating_sub(1);
        self.last.take().map(|last| Entry { not_noted, ..last })
    }
}

impl Share {
    /// At this time, seconds since the epoch. A clock that was set back begins anew.
    fn at(&mut self, time: u64) -> &mut Self {
        if self.minute != time / 60 {
            self.minute = time / 60;
            (self.signatures, self.signed.noted, self.refused.noted) = (0, 0, 0);
        }
        if self.hour != time / HOUR {
            self.hour = time / HOUR;
            self.texts.clear();
        }
        self
    }
}

impl Shares {
    /// Whether one more challenge may be signed over this ssh; counted if so.
    pub fn may_sign(&mut self, process: i32, time: u64, text: &str) -> bool {
        let share = self.0.entry(process).or_default().at(time);
        let is_known = share.texts.contains(text);
        if share.signatures >= MAX_SIGNED || (!is_known && share.texts.len() >= MAX_DIFFERENT) {
            return false;
        }
        share.signatures = share.signatures.saturating_add(1);
        true
    }

    /// The entry as it is to be written; `None`: it is counted only, and [`Shares::rest`] tells of it.
    pub fn admit(&mut self, mut entry: Entry) -> Option<Entry> {
        let share = self.0.entry(entry.process).or_default().at(entry.time);
        let not_noted = match entry.outcome {
            Outcome::Signed => {
                let is_new = share.texts.insert(entry.what.clone());
                share.signed.admit(&entry, is_new)
            }
            Outcome::Refused => share.refused.admit(&entry, false),
        }?;
        entry.not_noted = not_noted;
        Some(entry)
    }

    /// What was counted only, of minutes that are over at `time`; of all with `None`. Forgets who asked for nothing in the last hour.
    pub fn rest(&mut self, time: Option<u64>) -> Vec<Entry> {
        let mut entries = Vec::new();
        for share in self.0.values_mut().filter(|share| time.is_none_or(|time| share.minute != time / 60)) {
            entries.extend([share.signed.rest(), share.refused.rest()].into_iter().flatten());
        }
        self.0.retain(|_, share| time.is_some_and(|time| time / 60 <= share.minute.saturating_add(HOUR / 60)));
        entries.sort_by_key(|entry| entry.time);
        entries
    }
}
