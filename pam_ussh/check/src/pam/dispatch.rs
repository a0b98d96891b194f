//! What a chain says, for what its modules say (libpam/pam_dispatch.c `_pam_dispatch_aux`, for a chain that is not resumed and not frozen: pam_authenticate, pam_acct_mgmt,
//! pam_open_session).

use super::code::{Action, Code};
use super::stack::{Handler, Kind};

/// Deepest substack (PAM_SUBSTACK_MAX_LEVEL).
const LEVELS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Impression {
    Undefined,
    Positive,
    Negative,
}

/// Between two lines of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    position: usize,
    previous_level: usize,
    impression: Impression,
    status: Code,
    /// What was when a level was entered.
    entered: [(Impression, Code); LEVELS],
}

impl State {
    /// Before the first line.
    pub fn start() -> Self {
        let nothing = (Impression::Undefined, Code::PERM_DENIED);
        State { position: 0, previous_level: 0, impression: nothing.0, status: nothing.1, entered: [nothing; LEVELS] }
    }

    /// The line whose module is called next; lines that call none are passed. `None`: the chain is at its end, see [`State::result`].
    pub fn next_module(&mut self, chain: &[Handler]) -> Option<usize> {
        loop {
            let handler = chain.get(self.position)?;
            if self.previous_level < handler.level
                && let Some(entered) = self.entered.get_mut(handler.level)
            {
                *entered = (self.impression, self.status);
            }
            match handler.kind {
                Kind::Module => return Some(self.position),
                Kind::MustFail => {
                    self.returned(chain, Code::PERM_DENIED);
                }
                Kind::Substack => {
                    self.previous_level = handler.level;
                    self.position += 1;
                }
            }
        }
    }

    /// Goes on from the line of [`State::next_module`], whose module has returned `code`. Gives what was done with it, and whether it was a jump to nowhere.
    pub fn returned(&mut self, chain: &[Handler], code: Code) -> (Action, BadJump) {
        let Some(handler) = chain.get(self.position) else { return (Action::Bad, BadJump::No) };
        let level = handler.level;
        let action = handler.actions.on(code);
        let mut bad_jump = BadJump::No;
        let mut at = self.position;
        match action {
            Action::Ignore => {}
            Action::Reset => {
                (self.impression, self.status) =
                    self.entered.get(level).copied().unwrap_or((Impression::Negative, Code::PERM_DENIED));
            }
            Action::Ok | Action::Done => {
                if self.impression == Impression::Undefined
                    || (self.impression == Impression::Positive && self.status == Code::SUCCESS)
                {
                    self.impression = Impression::Positive;
                    self.status = code;
                }
                if self.impression == Impression::Positive && action == Action::Done {
                    at = end_of_level(chain, at, level);
                }
            }
            Action::Bad | Action::Die => {
                if self.impression != Impression::Negative {
                    self.impression = Impression::Negative;
                    self.status = if code == Code::IGNORE { Code::PERM_DENIED } else { code };
                }
                if action == Action::Die {
                    at = end_of_level(chain, at, level);
                }
            }
            Action::Jump(lines) => match jump(chain, at, lines) {
                Some(target) => at = target,
                None => {
                    at = end_of_level(chain, at, level);
                    bad_jump = BadJump::Yes;
                    self.impression = Impression::Negative;
                    self.status = Code::PERM_DENIED;
                }
            },
        }
        self.previous_level = level;
        self.position = at + 1;
        (action, bad_jump)
    }

    /// What the application is told at the end.
    pub fn result(&self) -> Code {
        match (self.status, self.impression) {
            (Code::SUCCESS, Impression::Undefined | Impression::Negative) => Code::PERM_DENIED,
            (status, _) => status,
        }
    }
}

/// Whether a jump had too few lines before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadJump {
    /// "bad jump in stack" in the log: the stack has failed.
    Yes,
    /// All is well.
    No,
}

/// The last line that a jump of this length from `at` skips. A substack counts as one line. `None`: there are not so many.
pub fn jump(chain: &[Handler], mut at: usize, lines: u32) -> Option<usize> {
    let level = chain.get(at)?.level;
    let deeper = |position: usize, than: usize| chain.get(position).is_some_and(|handler| handler.level > than);
    for _ in 0..lines {
        chain.get(at + 1).filter(|next| next.level >= level)?;
        at += 1;
        while deeper(at + 1, level) {
            at += 1;
        }
    }
    Some(at)
}

/// The last line of the substack that `at` stands in, or of the chain.
fn end_of_level(chain: &[Handler], at: usize, level: usize) -> usize {
    let rest = chain.iter().skip(at + 1);
    at + rest.take_while(|handler| handler.level >= level).count()
}

/// Runs the chain: `module` says what each module that is called returns.
pub fn run(chain: &[Handler], mut module: impl FnMut(&Handler) -> Code) -> Code {
    if chain.is_empty() {
        return Code::PERM_DENIED;
    }
    let mut state = State::start();
    while let Some(position) = state.next_module(chain) {
        let code = chain.get(position).map_or(Code::PERM_DENIED, &mut module);
        state.returned(chain, code);
    }
    state.result()
}
