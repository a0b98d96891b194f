//! The ways in which a line of ours stands in a stack.

use crate::Seat;

/// The file that the others include.
pub const INCLUDED: &str = "truth-included";

/// A control, with what belongs behind it. Behind each stands a pam_permit that would make a success of an answer that does not count (PAM_IGNORE), or a pam_deny that catches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    Required,
    Requisite,
    Sufficient,
    Jump,
    AtInclude,
    Include,
    IncludeSufficient,
    Substack,
}

pub const STACKS: [Stack; 8] = [
    Stack::Required,
    Stack::Requisite,
    Stack::Sufficient,
    Stack::Jump,
    Stack::AtInclude,
    Stack::Include,
    Stack::IncludeSufficient,
    Stack::Substack,
];

impl Stack {
    /// The lines of `facility`, and those of the file that they include.
    fn lines(self, facility: &str, line: &str) -> (String, String) {
        let permit = format!("{facility} required pam_permit.so\n");
        let deny = format!("{facility} required pam_deny.so\n");
        let required = format!("{facility} required {line}\n");
        let sufficient = format!("{facility} sufficient {line}\n");
        let jump = format!("{facility} [success=1 default=ignore] {line}\n{facility} requisite pam_deny.so\n{permit}");
        let none = String::new();
        match self {
            Stack::Required => (required + &permit, none),
            Stack::Requisite => (format!("{facility} requisite {line}\n{permit}"), none),
            Stack::Sufficient => (sufficient + &deny, none),
            Stack::Jump => (jump, none),
            Stack::AtInclude => (format!("@include {INCLUDED}\n{permit}"), required),
            Stack::Include => (format!("{facility} include {INCLUDED}\n{permit}"), required),
            Stack::IncludeSufficient => (format!("{facility} include {INCLUDED}\n{deny}"), sufficient),
            Stack::Substack => (format!("{facility} substack {INCLUDED}\n{permit}"), jump),
        }
    }

    /// Whether the application gets our own code for a refusal, and not pam_deny's.
    pub fn passes_code_on(self) -> bool {
        match self {
            Stack::Required | Stack::Requisite | Stack::AtInclude | Stack::Include => true,
            Stack::Sufficient | Stack::Jump | Stack::IncludeSufficient | Stack::Substack => false,
        }
    }

    /// Writes it for a service; `rest` is for the other facilities.
    pub fn write(self, seat: &Seat, service: &str, facility: &str, line: &str, rest: &str) {
        let (lines, included) = self.lines(facility, line);
        seat.write_pam(INCLUDED, &included);
        seat.write_pam(service, &format!("{lines}{rest}session required pam_permit.so\n"));
    }
}
