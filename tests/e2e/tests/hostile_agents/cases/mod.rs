//! The agents, and what is to come of each.

mod listing;
mod many;
mod place;
mod signature;
mod signing;
mod time;
mod unasked;

use std::time::Duration;

use crate::kit::Kit;
use crate::script::Agent;

/// The one that all others are compared with.
pub const HONEST: &str = "an honest agent";

/// What is to come of an agent. Reasons are those of the log, to the end of the line; one that ends with `*` is only its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The good certificate was found.
    Accepted,
    /// The agent could not be asked.
    Unreachable(&'static str),
    /// It holds no certificate.
    NoCertificate,
    /// It was asked, and this certificate did not do.
    Refused(&'static str),
    /// The same, and the CA has not signed it, whatever it says.
    Forged(&'static str),
}

/// Deadlines of the PAM line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So short that it is they that end it.
    Brisk,
    /// So long that they end nothing, on a machine that is busy.
    Leisurely,
}

impl Pace {
    pub const ALL: [Pace; 2] = [Pace::Brisk, Pace::Leisurely];

    /// `timeout=`, for all talk but signatures. Whoever connects anew between eight keys has to do with it.
    pub fn timeout(self) -> Duration {
        match self {
            Pace::Brisk => Duration::from_secs(3),
            Pace::Leisurely => Duration::from_secs(30),
        }
    }

    /// `touch_timeout=`, for each signature.
    pub fn touch_timeout(self) -> Duration {
        match self {
            Pace::Brisk => Duration::from_secs(1),
            Pace::Leisurely => Duration::from_secs(30),
        }
    }

    /// PAM service of the set-uid program.
    pub fn service(self) -> &'static str {
        match self {
            Pace::Brisk => "brisk",
            Pace::Leisurely => "leisurely",
        }
    }

    /// PAM service of sudo: a login shell of sudo's has another.
    pub fn sudo_service(self) -> &'static str {
        match self {
            Pace::Brisk => "sudo",
            Pace::Leisurely => "sudo-i",
        }
    }

    pub fn sudo_options(self) -> &'static [&'static str] {
        match self {
            Pace::Brisk => &[],
            Pace::Leisurely => &["-i"],
        }
    }
}

/// Who listens at the agent's socket, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The user's agent.
    Own,
    /// The same, which accepts nobody; somebody waits already.
    FullQueue,
    /// The same, stopped as soon as it listens.
    Frozen,
    /// An honest agent of another user's, who lets everybody at it.
    Anothers,
}

/// What an agent spends to the end, and no less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spends {
    Nothing,
    /// The time for all talk.
    Talk,
    /// The time for so many signatures.
    Signatures(u32),
}

/// One agent.
pub struct Case {
    pub name: &'static str,
    /// Makes it, in the host.
    pub agent: Box<dyn Fn(&Kit) -> Agent + Send + Sync>,
    pub expected: Expected,
    pub pace: Pace,
    pub spends: Spends,
    pub place: Place,
    /// It is asked once before, honest as it seems.
    pub is_rehearsed: bool,
    /// Its listing is full of certificates that are taken apart.
    pub holds_much: bool,
}

fn case(name: &'static str, expected: Expected, agent: impl Fn(&Kit) -> Agent + Send + Sync + 'static) -> Case {
    Case {
        name,
        agent: Box::new(agent),
        expected,
        pace: Pace::Leisurely,
        spends: Spends::Nothing,
        place: Place::Own,
        is_rehearsed: false,
        holds_much: false,
    }
}

impl Case {
    /// A deadline ends it.
    fn until(mut self, spends: Spends) -> Self {
        (self.pace, self.spends) = (Pace::Brisk, spends);
        self
    }

    fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    fn holding_much(mut self) -> Self {
        self.holds_much = true;
        self
    }

    fn rehearsed(mut self) -> Self {
        self.is_rehearsed = true;
        self
    }
}

/// All of them; those that take their time first.
pub fn all() -> Vec<Case> {
    let honest = case(HONEST, Expected::Accepted, Agent::good);
    let themes = [
        vec![honest],
        time::cases(),
        place::cases(),
        listing::cases(),
        many::cases(),
        signing::cases(),
        signature::cases(),
        unasked::cases(),
    ];
    themes.into_iter().flatten().collect()
}

pub fn named(name: &str) -> Case {
    all().into_iter().find(|case| case.name == name).unwrap()
}
