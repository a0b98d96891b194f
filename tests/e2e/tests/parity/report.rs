//! What the table says when all have spoken.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::deviations::{WEBAUTHN, documented};
use crate::hosts::{Table, Word, Words};
use crate::row::{Followed, Row, Verdict};

/// Rows of docs/deviations.md about OpenSSH 10.5, which no host here has.
const ELSEWHERE: [&str; 1] = [WEBAUTHN];

/// Prints the table and ends the program: with status 1 if anything is not as it must be.
pub fn conclude(rows: &[(&str, Row)], table: &Table, is_whole: bool, started: Instant) {
    let mut faults = Vec::new();
    let mut theme = "";
    println!("theirs: {} and {}", table.versions[0], table.versions[1]);
    for ((of, row), words) in rows.iter().zip(&table.words) {
        if theme != *of {
            theme = of;
            println!("\n{theme:<78} 9.2  10.0 ours in sshd");
        }
        let found = check(row, words);
        println!(
            "  {:<76} {}{}",
            row.name,
            marks(words),
            if found.is_empty() { String::new() } else { " <-- ".to_owned() + &found.join("; ") }
        );
        if !found.is_empty() {
            faults.push(format!("{of}: {}: {}\n{}", row.name, found.join("; "), said(words)));
        }
    }
    if is_whole {
        faults.extend(check_coverage(rows));
    }
    println!("\n{}", counts(rows, table, started));
    if faults.is_empty() {
        println!("test every_certificate_is_judged_as_sshd_judges_it ... ok");
        return;
    }
    println!("test every_certificate_is_judged_as_sshd_judges_it ... FAILED\n\n{}", faults.join("\n"));
    std::process::exit(1);
}

/// What is wrong with one row.
fn check(row: &Row, words: &Words) -> Vec<String> {
    let mut faults = Vec::new();
    let mut judge = |who: &str, word: &Word, wanted: Verdict, says: &dyn Fn(&Word, Verdict) -> bool| {
        if word.accepted != wanted.is_yes() {
            faults.push(format!("{who} {}", if word.accepted { "accepts" } else { "refuses" }));
        } else if !says(word, wanted) {
            faults.push(format!("{who} for another reason than {wanted:?}"));
        }
    };
    judge("9.2", &words.theirs_9, row.theirs_9, &theirs_says);
    judge("10.0", &words.theirs_10, row.theirs_10, &theirs_says);
    judge("pam_ussh", &words.ours, row.ours, &ours_says);
    if let Some(within) = &words.within_sshd {
        judge("pam_ussh in sshd", within, row.within_sshd, &ours_says);
    }
    faults.extend(check_parity(row, words));
    faults
}

/// What holds whatever the table wants: we are never laxer, and stricter only where that is written down.
fn check_parity(row: &Row, words: &Words) -> Vec<String> {
    let mut faults = Vec::new();
    let theirs = [words.theirs_9.accepted, words.theirs_10.accepted];
    let within = words.within_sshd.as_ref().is_none_or(|word| word.accepted);
    let followed = match row.follows {
        Some((Followed::Nine, _)) => &theirs[..1],
        Some((Followed::Ten, _)) => &theirs[1..],
        None => &theirs[..],
    };
    if words.ours.accepted && followed.contains(&false) {
        faults.push("LAXER THAN SSHD".to_owned());
    }
    let is_stricter = theirs.contains(&true) && !(words.ours.accepted && within);
    match row.deviation {
        None if is_stricter => faults.push("stricter than sshd, and no row of docs/deviations.md is named".to_owned()),
        Some(key) if !documented().iter().any(|cell| cell == key) => {
            faults.push(format!("docs/deviations.md has no row {key:?}"))
        }
        Some(_) if !is_stricter => faults.push("a deviation is named, and there is none".to_owned()),
        None | Some(_) => {}
    }
    if (theirs[0] != theirs[1]) != row.follows.is_some() {
        faults.push("whom we follow must be said where the versions differ, and only there".to_owned());
    }
    faults
}

/// Each row of the document is shown by a row of the table.
fn check_coverage(rows: &[(&str, Row)]) -> Vec<String> {
    let shown: BTreeSet<&str> = rows.iter().filter_map(|(_, row)| row.deviation).chain(ELSEWHERE).collect();
    let missing = documented().into_iter().filter(|cell| !shown.contains(cell.as_str()));
    missing.map(|cell| format!("docs/deviations.md: no row of the table shows {cell:?}\n")).collect()
}

fn theirs_says(word: &Word, wanted: Verdict) -> bool {
    match wanted {
        Verdict::Accepted => {
            word.log.contains("Accepted certificate ID") && word.log.contains("Accepted publickey for alice")
        }
        Verdict::Refused(why) => word.log.contains(why),
    }
}

fn ours_says(word: &Word, wanted: Verdict) -> bool {
    match wanted {
        Verdict::Accepted => word.log.contains(": Accepted certificate ID "),
        Verdict::Refused(why) => {
            let said = word.log.split_once(word.mark.as_str()).and_then(|(_, said)| said.strip_prefix(": "));
            let why = why.replace("DIR", &word.folder);
            let is_said = |said: &str| match why.split_once('…') {
                Some((start, end)) => said.starts_with(start) && said.ends_with(end),
                None => said == why,
            };
            word.log.contains(": Refusing ") && said.is_some_and(is_said)
        }
    }
}

fn marks(words: &Words) -> String {
    let mark = |word: &Word| if word.accepted { "yes" } else { "no" };
    let within = words.within_sshd.as_ref().map_or("-", mark);
    let agent = if words.ours.real_agent { "" } else { "*" };
    format!(
        "{:<4} {:<4} {:<4} {within:<4}",
        mark(&words.theirs_9),
        mark(&words.theirs_10),
        mark(&words.ours).to_owned() + agent
    )
}

/// What the judges of one row had to say.
fn said(words: &Words) -> String {
    let mut text = String::new();
    for (who, word) in [("9.2", &words.theirs_9), ("10.0", &words.theirs_10)] {
        for line in word.log.lines().filter(|line| !is_noise(line)) {
            text += &format!("    {who:<5} {line}\n");
        }
    }
    text += &format!("    ours  {}\n", words.ours.log);
    if let Some(within) = &words.within_sshd {
        text += &format!("    sshd  {}\n", within.log);
    }
    text
}

/// Lines of sshd's about something else than the certificate.
fn is_noise(line: &str) -> bool {
    const TELLING: [&str; 12] = [
        "principal",
        "revoke",
        "KRL",
        "krl",
        "parse key",
        "invalid",
        "refus",
        "source",
        "cert:",
        "Certificate",
        "CA ",
        "key type",
    ];
    const BESIDE: [&str; 5] = ["Connection", "Transferred", "Closing", "permanently", "valid user"];
    let is_debug = line.starts_with("debug") || line.starts_with("Server listening");
    BESIDE.iter().any(|noise| line.contains(noise)) || (is_debug && !TELLING.iter().any(|word| line.contains(word)))
}

/// The closing line.
fn counts(rows: &[(&str, Row)], table: &Table, started: Instant) -> String {
    let words = &table.words;
    let yes = words.iter().filter(|w| w.ours.accepted && w.theirs_9.accepted && w.theirs_10.accepted).count();
    let no = words.iter().filter(|w| !w.ours.accepted && !w.theirs_9.accepted && !w.theirs_10.accepted).count();
    let stricter = rows.iter().filter(|(_, row)| row.deviation.is_some()).count();
    let differing = words.iter().filter(|w| w.theirs_9.accepted != w.theirs_10.accepted).count();
    let real = words.iter().filter(|w| w.ours.real_agent).count();
    format!(
        "PARITY: {} rows; {yes} accepted by all, {no} refused by all, {stricter} where we are stricter; {differing} on which 9.2 and 10.0 differ; \
         {real} from a real ssh-agent, {} from a scripted one (*); {:.1} s",
        rows.len(),
        rows.len() - real,
        started.elapsed().as_secs_f64()
    )
}
