//! Every way through a chain, for all that its modules may return.

use std::collections::HashSet;

use super::code::{Action, Code};
use super::dispatch::{BadJump, State};
use super::stack::Handler;

/// Most states of one chain: a stack of hundreds of lines stays far below.
const MAX_STATES: usize = 200_000;

/// What a result of a module says beside its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// Nothing that counts.
    Nothing,
    /// Somebody else has authenticated the user.
    Proof,
    /// The administrator excepts some people here.
    Exemption,
    /// The module that is looked at has said no.
    Refused,
    /// The module that is looked at has said yes.
    Accepted,
}

/// What was said on a way, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Facts {
    /// [`Meaning::Proof`]
    pub proof: bool,
    /// [`Meaning::Exemption`]
    pub exemption: bool,
    /// [`Meaning::Refused`]
    pub refused: bool,
    /// [`Meaning::Accepted`]
    pub accepted: bool,
}

impl Facts {
    fn and(mut self, meaning: Meaning) -> Self {
        match meaning {
            Meaning::Nothing => {}
            Meaning::Proof => self.proof = true,
            Meaning::Exemption => self.exemption = true,
            Meaning::Refused => self.refused = true,
            Meaning::Accepted => self.accepted = true,
        }
        self
    }
}

/// A module that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its line in the chain.
    pub position: usize,
    /// What it returned.
    pub code: Code,
    /// What was done with that.
    pub action: Action,
    /// Whether that was a jump to nowhere.
    pub bad_jump: BadJump,
    /// What it said.
    pub meaning: Meaning,
}

/// A way through the chain.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was said.
    pub facts: Facts,
    /// What the application is told.
    pub result: Code,
    /// The modules that were called.
    pub steps: Vec<Step>,
}

/// More than can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyStates;

/// For each pair of facts and result that can come out a shortest way to it. `possible`: what the module of a line may return; of results that the line treats alike one is tried.
/// # Errors
/// [`TooManyStates`]
pub fn explore(
    chain: &[Handler],
    possible: impl Fn(usize, &Handler) -> Vec<(Code, Meaning)>,
) -> Result<Vec<Run>, TooManyStates> {
    struct Node {
        state: State,
        facts: Facts,
        from: Option<(usize, Step)>,
    }
    let mut nodes = vec![Node { state: State::start(), facts: Facts::default(), from: None }];
    let mut seen: HashSet<(State, Facts)> = HashSet::new();
    let mut ends: Vec<(usize, Facts, Code)> = Vec::new();
    let mut current = 0;
    while let Some(node) = nodes.get_mut(current) {
        let facts = node.facts;
        let Some(position) = node.state.next_module(chain) else {
            let result = node.state.result();
            if !ends.iter().any(|(_, f, r)| *f == facts && *r == result) {
                ends.push((current, facts, result));
            }
            current += 1;
            continue;
        };
        let state = node.state.clone();
        let Some(handler) = chain.get(position) else { break };
        let mut tried: HashSet<(Action, bool, bool, Meaning)> = HashSet::new();
        for (code, meaning) in possible(position, handler) {
            if !tried.insert((handler.actions.on(code), code == Code::SUCCESS, code == Code::IGNORE, meaning)) {
                continue;
            }
            let mut state = state.clone();
            let (action, bad_jump) = state.returned(chain, code);
            let facts = facts.and(meaning);
            if seen.insert((state.clone(), facts)) {
                let step = Step { position, code, action, bad_jump, meaning };
                nodes.push(Node { state, facts, from: Some((current, step)) });
            }
        }
        if nodes.len() > MAX_STATES {
            return Err(TooManyStates);
        }
        current += 1;
    }
    let steps_to = |end: usize| {
        let mut steps = Vec::new();
        let mut at = nodes.get(end).and_then(|node| node.from);
        while let Some((before, step)) = at {
            steps.push(step);
            at = nodes.get(before).and_then(|node| node.from);
        }
        steps.reverse();
        steps
    };
    Ok(ends.into_iter().map(|(end, facts, result)| Run { facts, result, steps: steps_to(end) }).collect())
}
