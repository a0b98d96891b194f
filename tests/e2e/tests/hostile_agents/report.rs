//! What came of the agents against what was to come of them.

use std::time::{Duration, Instant};

use crate::cases::{Expected, Spends};
use crate::hosts::Tried;
use crate::kit::GOOD_SERIAL;
use crate::user::{Seen, Sudo};

// security/_pam_types.h
const SUCCESS: i32 = 0;
const AUTH_ERR: i32 = 7;
const UNAVAILABLE: i32 = 9;
/// PAM_ERROR_MSG
const ERROR: i32 = 3;

const NOT_GOOD: &str = "No certificate that is good for this: see \"ssh-add -l\", get a new one with \"ussh --login\" on your own machine, or log in again with \"ssh -A\".";
const NOT_SIGNED: &str =
    "Your SSH agent has not signed for your certificate: try again, and touch its key, or say yes, when you are asked.";
const AGENT_SILENT: &str =
    "Your SSH agent does not answer: see \"ssh-add -l\", or log in again with \"ussh\" or \"ssh -A\".";
/// Said when a signature takes more than a second, which on a busy machine any may do.
const HINT: &str = "Touch your security key, or confirm at your agent.";

/// Longest line of the log, bytes.
const MAX_LINE: usize = 1024;
/// How much more than its deadlines an attempt may take on a machine that is busy.
const SLACK: Duration = Duration::from_secs(10);
/// How much larger than with an honest agent the process may get, KiB: an answer of 256 KiB as it is read, and what it holds.
const GROWTH: u64 = 1024;
/// The same where that answer is full of certificates, each of which is taken apart and kept until the end.
const GROWTH_WITH_MUCH: u64 = 10 * 256;

/// Prints what is wrong, and ends the program if anything is.
pub fn conclude(tried: &[Tried], started: Instant) {
    let honest = tried[0].seat.seen.peak;
    let mut wrong = Vec::new();
    let mut largest = [(0, ""); 2];
    for one in tried {
        let growth = one.seat.seen.peak.saturating_sub(honest);
        let most = &mut largest[usize::from(one.case.holds_much)];
        *most = (*most).max((growth, one.case.name));
        let faults = [check_answers(one), check_log(one), check_times(one), check_growth(one, growth)].concat();
        let verdict = if faults.is_empty() { "ok" } else { "WRONG" };
        println!("test {} ... {verdict}", one.case.name);
        if !faults.is_empty() {
            wrong.push(format!(
                "{}:\n  {}\n  log: {:#?}\n  {:?}",
                one.case.name,
                faults.join("\n  "),
                one.log,
                one.seat
            ));
        }
    }
    println!("{} agents in {:.1} s", tried.len(), started.elapsed().as_secs_f64());
    println!("PAM's process has {honest} KiB with an honest one, and with others at most {largest:?} more");
    if !wrong.is_empty() {
        println!("{} of {} are wrong:\n{}", wrong.len(), tried.len(), wrong.join("\n"));
        std::process::exit(1);
    }
}

impl Expected {
    fn code(self) -> i32 {
        match self {
            Expected::Accepted => SUCCESS,
            Expected::Unreachable(_) => UNAVAILABLE,
            Expected::NoCertificate | Expected::Refused(_) | Expected::Forged(_) => AUTH_ERR,
        }
    }

    /// What the user reads.
    fn sentence(self) -> Option<&'static str> {
        match self {
            Expected::Accepted => None,
            Expected::Unreachable(_) => Some(AGENT_SILENT),
            Expected::Refused(reason) if reason.starts_with("agent: ") || reason.starts_with("the agent refused") => {
                Some(NOT_SIGNED)
            }
            Expected::NoCertificate | Expected::Refused(_) | Expected::Forged(_) => Some(NOT_GOOD),
        }
    }
}

/// PAM's answers, what the users read, and what is left of it in the process.
fn check_answers(one: &Tried) -> Vec<String> {
    let expected = one.case.expected;
    let mut faults = Vec::new();
    if let Some(rehearsal) = &one.seat.rehearsal {
        faults.extend(check_seen("rehearsal", rehearsal, Expected::Accepted));
    } else if one.case.is_rehearsed {
        faults.push("there was no rehearsal".to_owned());
    }
    faults.extend(check_seen("program", &one.seat.seen, expected));
    let Sudo { code, stdout, stderr, .. } = &one.seat.sudo;
    let (wanted_code, wanted_out) = if expected == Expected::Accepted { (0, "0\n") } else { (1, "") };
    if *code != Some(wanted_code) || stdout != wanted_out {
        faults.push(format!("sudo: not {wanted_code} and {wanted_out:?}"));
    }
    let read: Vec<&str> = stderr.lines().filter(|line| *line != HINT).collect();
    let wanted = expected.sentence().map(|sentence| [sentence, "sudo: 1 incorrect password attempt"]);
    if read != wanted.iter().flatten().copied().collect::<Vec<_>>() {
        faults.push(format!("sudo: its user does not read {wanted:?}"));
    }
    faults
}

fn check_seen(what: &str, seen: &Seen, expected: Expected) -> Vec<String> {
    let mut faults = Vec::new();
    if seen.code != Some(expected.code()) {
        faults.push(format!("{what}: PAM does not say {}", expected.code()));
    }
    if seen.again != Some(SUCCESS) {
        faults.push(format!("{what}: the same process gets nowhere with an honest agent afterwards"));
    }
    if seen.peak == 0 {
        faults.push(format!("{what}: does not say how large it was"));
    }
    if !seen.changes.is_empty() {
        faults.push(format!("{what}: left in the process: {:?}", seen.changes));
    }
    let told: Vec<(i32, &str)> =
        seen.told.iter().map(|(style, text)| (*style, text.as_str())).filter(|(_, text)| *text != HINT).collect();
    let wanted: Vec<(i32, &str)> = expected.sentence().map(|sentence| (ERROR, sentence)).into_iter().collect();
    if told != wanted {
        faults.push(format!("{what}: its user is not told {wanted:?}"));
    }
    faults
}

/// One line for each attempt, with the reason.
fn check_log(one: &Tried) -> Vec<String> {
    let service = one.case.pace.service();
    let (program, sudo) =
        (format!(" via {service}"), format!(" via {} ruser {}", one.case.pace.sudo_service(), one.user));
    let mut wanted = Vec::new();
    if one.case.is_rehearsed {
        wanted.extend([(Expected::Accepted, &program), (Expected::Accepted, &program)]);
    }
    wanted.extend([(one.case.expected, &program), (Expected::Accepted, &program), (one.case.expected, &sudo)]);
    if wanted.len() != one.log.len() {
        return vec![format!("{} lines in the log, not {}", one.log.len(), wanted.len())];
    }
    let pairs = one.log.iter().zip(wanted);
    pairs.filter_map(|(line, (expected, via))| check_line(line, one, expected, via)).collect()
}

fn check_line(line: &str, one: &Tried, expected: Expected, via: &str) -> Option<String> {
    let user = &one.user;
    let wrong = |what: &str| Some(format!("the log does not say {what}: {line}"));
    let Some((before, after)) = line.split_once(via) else { return wrong(via) };
    let of_certificate = format!("certificate ID \"{user}\" (serial ");
    let begins = match expected {
        Expected::Accepted => format!("Accepted {of_certificate}{GOOD_SERIAL}) signed by ED25519 CA SHA256:"),
        Expected::Refused(_) | Expected::Forged(_) => format!("Refusing {of_certificate}"),
        Expected::Unreachable(_) | Expected::NoCertificate => format!("Refusing for {user}"),
    };
    if !before.starts_with(&begins) || !before.ends_with(&format!(" for {user}")) {
        return wrong(&begins);
    }
    let is_signed = before.contains(") signed by ED25519 CA SHA256:");
    if is_signed != matches!(expected, Expected::Accepted | Expected::Refused(_)) {
        return wrong("by whom a certificate is signed, or says so of one that is not");
    }
    if line.len() > MAX_LINE || !line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return wrong("it in one line of printable characters");
    }
    let reason = match expected {
        Expected::Accepted => String::new(),
        Expected::Unreachable(why) => format!(": agent: /home/{user}/agent.sock: {why}"),
        Expected::NoCertificate => ": no certificate".to_owned(),
        Expected::Refused(why) | Expected::Forged(why) => format!(": {why}"),
    };
    let fits = match reason.strip_suffix('*') {
        Some(beginning) => after.starts_with(beginning),
        None => after == reason,
    };
    if fits { None } else { wrong(&reason) }
}

/// No attempt outlives its deadlines, and one that they are to end does not end before.
fn check_times(one: &Tried) -> Vec<String> {
    let (timeout, touch) = (one.case.pace.timeout(), one.case.pace.touch_timeout());
    let (least, most) = match one.case.spends {
        Spends::Nothing => (Duration::ZERO, timeout),
        Spends::Talk => (timeout, timeout),
        Spends::Signatures(count) => (touch * count, timeout + touch * count),
    };
    let most = most + SLACK;
    let all = [("program", one.seat.seen.took), ("sudo", one.seat.sudo.took)];
    let late = all.into_iter().filter(|(_, took)| *took < least || *took > most);
    late.map(|(what, took)| format!("{what}: took {took:?}, not {least:?} to {most:?}")).collect()
}

fn check_growth(one: &Tried, growth: u64) -> Vec<String> {
    let most = if one.case.holds_much { GROWTH_WITH_MUCH } else { GROWTH };
    let fault = || format!("PAM's process is {growth} KiB larger than with an honest agent, and not {most} at most");
    if growth <= most { Vec::new() } else { vec![fault()] }
}
