//! What was done in a lab, in order, so that a failing test can tell where it stood.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::wait::locked;
use crate::wire::Status;

/// Entries kept; older ones are dropped.
const KEPT: usize = 200;

/// Bytes of output kept of a command that has ended.
const KEPT_OUTPUT: usize = 4096;

/// Something whose output can be looked at while it goes on.
pub(crate) trait Watched: Send + Sync + std::fmt::Debug {
    /// All that was printed until now.
    fn printed(&self) -> String;
}

#[derive(Debug)]
pub(crate) struct Journal {
    since: Instant,
    entries: Mutex<VecDeque<Entry>>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    at: Duration,
    /// `alice@web1$ sudo id`.
    title: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(Arc<dyn Watched>),
    Ended { status: Status, took: Duration, printed: String },
}

impl Journal {
    pub(crate) fn new() -> Self {
        Journal { since: Instant::now(), entries: Mutex::default() }
    }

    /// Number of the next entry.
    pub(crate) fn position(&self) -> u64 {
        locked(&self.entries).back().map_or(0, |entry| entry.number + 1)
    }

    /// Notes that something was started; its number.
    pub(crate) fn begin(&self, title: String, output: Arc<dyn Watched>) -> u64 {
        let mut entries = locked(&self.entries);
        let number = entries.back().map_or(0, |entry| entry.number + 1);
        entries.push_back(Entry { number, at: self.since.elapsed(), title, state: State::Running(output) });
        if entries.len() > KEPT {
            entries.pop_front();
        }
        number
    }

    /// Notes how entry `number` ended.
    pub(crate) fn end(&self, number: u64, status: Status) {
        let mut entries = locked(&self.entries);
        let Some(entry) = entries.iter_mut().find(|entry| entry.number == number) else { return };
        if let State::Running(output) = &entry.state {
            let printed = tail(&output.printed());
            entry.state = State::Ended { status, took: self.since.elapsed().saturating_sub(entry.at), printed };
        }
    }

    /// Entries from `position` on, as text.
    pub(crate) fn tell(&self, position: u64) -> String {
        let mut text = String::new();
        for entry in locked(&self.entries).iter().filter(|entry| entry.number >= position) {
            let (state, printed) = match &entry.state {
                State::Running(output) => ("still running".to_owned(), tail(&output.printed())),
                State::Ended { status, took, printed } => {
                    (format!("{status}, {} ms", took.as_millis()), printed.clone())
                }
            };
            text += &format!("[{:8.3} s] {}   ({state})\n", entry.at.as_secs_f64(), entry.title);
            for line in printed.lines() {
                text += &format!("             | {line}\n");
            }
        }
        text
    }
}

/// The last part of `text`, from the start of a line if that is possible.
fn tail(text: &str) -> String {
    let Some(mut from) = text.len().checked_sub(KEPT_OUTPUT) else {
        return text.to_owned();
    };
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = text.get(from..).unwrap_or_default();
    format!("[…]\n{}", end.split_once('\n').map_or(end, |(_, lines)| lines))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[derive(Debug)]
    struct Fixed(String);
    impl Watched for Fixed {
        fn printed(&self) -> String {
            self.0.clone()
        }
    }

    #[test]
    fn tells_what_ended_and_what_still_runs() {
        let journal = Journal::new();
        let first = journal.begin("root@web1# id".into(), Arc::new(Fixed("uid=0\n".into())));
        journal.begin("root@web1# sshd".into(), Arc::new(Fixed(String::new())));
        journal.end(first, Status::Exited(3));
        let told = journal.tell(0);
        assert!(told.contains("id   (exit 3") && told.contains("| uid=0") && told.contains("sshd   (still"), "{told}");
        assert!(!journal.tell(1).contains("uid=0"));
    }

    #[test]
    fn keeps_the_end_of_a_long_output() {
        let told = tail(&format!("{}last\n", "some line\n".repeat(1000)));
        assert!(told.len() <= KEPT_OUTPUT + 10 && told.starts_with("[…]\nsome") && told.ends_with("last\n"), "{told}");
    }
}
