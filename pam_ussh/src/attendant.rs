//! The person at the key, while the agent is waited for: is told to touch it, and may give up.

use std::cell::Cell;

use ussh_core::decision::Person;
use ussh_os::interrupt::is_interrupted;
use ussh_os::pam_module::PamHandle;

use crate::answer::{Subject, may_speak};

/// What is said when a signature takes its time, unless a cue was given.
const HINT: &str = "Touch your security key, or confirm at your agent.";

/// Says things to the user through the application's conversation, where that is wanted.
pub struct Speaker<'a> {
    say: Box<dyn Fn(&str) + 'a>,
}

impl<'a> Speaker<'a> {
    /// Silent where the application wants that (PAM_SILENT, but for sudo).
    pub fn new(handle: &'a PamHandle, silent: bool, subject: &Subject) -> Self {
        let may_speak = may_speak(silent, &subject.service);
        let say = move |text: &str| {
            if may_speak {
                handle.say(text);
            }
        };
        Speaker { say: Box::new(say) }
    }

    /// On standard error, for a program that nobody calls through PAM.
    pub fn terminal() -> Self {
        Speaker { say: Box::new(|text| eprintln!("{text}")) }
    }
}

/// The one for whom a decision is made: is told at most one thing.
pub struct AtTheKey<'a> {
    speaker: &'a Speaker<'a>,
    cue: Option<&'a str>,
    has_heard: Cell<bool>,
}

impl<'a> AtTheKey<'a> {
    /// `cue`: what is said before a security key is asked; `None`: nothing.
    pub fn new(speaker: &'a Speaker<'a>, cue: Option<&'a str>) -> Self {
        AtTheKey { speaker, cue, has_heard: Cell::new(false) }
    }

    fn say(&self, text: &str) {
        if !self.has_heard.replace(true) {
            (self.speaker.say)(text);
        }
    }
}

impl Person for AtTheKey<'_> {
    fn before_touch(&self) {
        if let Some(cue) = self.cue {
            self.say(cue);
        }
    }

    fn waiting(&self) {
        self.say(HINT);
    }

    fn gave_up(&self) -> bool {
        is_interrupted()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use std::cell::RefCell;

    /// What is said in the course of this.
    fn said(cue: Option<&str>, course: impl Fn(&AtTheKey<'_>)) -> Vec<String> {
        let heard = RefCell::new(Vec::new());
        let speaker = Speaker { say: Box::new(|text| heard.borrow_mut().push(text.to_owned())) };
        course(&AtTheKey::new(&speaker, cue));
        drop(speaker);
        heard.into_inner()
    }

    #[test]
    fn a_cue_comes_before_a_security_key_is_asked_and_no_hint_after_it() {
        let course = |person: &AtTheKey<'_>| {
            person.before_touch();
            person.before_touch();
            person.waiting();
        };
        assert_eq!(said(Some("Touch it."), course), ["Touch it."]);
        assert_eq!(said(None, course), [HINT]);
    }

    #[test]
    fn a_key_of_another_kind_is_not_cued_and_the_hint_comes_once() {
        let course = |person: &AtTheKey<'_>| {
            person.waiting();
            person.waiting();
        };
        assert_eq!(said(Some("Touch it."), course), [HINT]);
    }
}
