//! `usshca status`: how the running CA is.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use usshca_ipc::layout::Layout;

use crate::admin::{self, Link, layout_flag, utc};
use crate::cli::StatusArgs;
use crate::failure::Failure;
use crate::prepare::PAM_GAP;
use crate::serve::counters::Report;

/// How long the supervisor's loop may take to come round.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest report, in bytes.
const MAX_REPORT: u64 = 1 << 20;
/// So long before its end a host certificate is to be renewed, in seconds.
const RENEW_BEFORE: u64 = 7 * 24 * 3600;
/// An error is of interest for so long, in seconds.
const RECENT: u64 = 15 * 60;

/// Prints it. A failure if something needs an administrator.
pub fn run(layout: &Layout, args: &StatusArgs) -> Result<(), Failure> {
    let text = ask(layout)?;
    let report = read(&text)?;
    let shown = if args.json { text } else { show(&report) };
    // Nothing can be done about a closed stdout here.
    let _ = io::stdout().write_all(shown.as_bytes());
    let asked = || -> Result<Option<String>, Failure> {
        let link = Link::open(layout)?;
        Ok(admin::ahead(layout, &link)?.or(admin::own_certificate_revoked(layout, &link)?))
    };
    match complaint(&report).or_else(|| asked().ok().flatten()) {
        None => Ok(()),
        Some(complaint) => Err(Failure::refused(complaint)),
    }
}

/// What the running CA says of itself.
pub fn report(layout: &Layout) -> Result<Report, Failure> {
    read(&ask(layout)?)
}

fn read(text: &str) -> Result<Report, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::internal(format!("the CA's status cannot be read: {e}")))
}

fn ask(layout: &Layout) -> Result<String, Failure> {
    let path = layout.status_socket();
    let stream = UnixStream::connect(&path).map_err(|e| {
        let shown = path.display();
        if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            Failure::unavailable(format!("the CA does not run; try: usshca{} serve", layout_flag(layout)))
        } else if e.kind() == ErrorKind::PermissionDenied {
            Failure::refused(format!("{shown}: {e}; this is for root, or for the account that runs the CA; a monitor of its own account reads the metrics (docs/operations.md)"))
        } else {
            Failure::unavailable(format!("{shown}: {e}"))
        }
    })?;
    let mut text = String::new();
    let read =
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| (&stream).take(MAX_REPORT).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            Err(Failure::unavailable("the CA runs, and gives no answer; look at its log"))
        }
        Err(e) => Err(Failure::unavailable(format!("{}: {e}", path.display()))),
    }
}

/// The first thing that needs an administrator.
fn complaint(report: &Report) -> Option<String> {
    if report.stopping {
        return Some("it is stopping, and lets nobody in".to_owned());
    }
    if report.signer != "up" {
        return Some(format!("its signer is not up ({}): nobody gets a certificate", report.signer));
    }
    if let Some(trouble) = report.key_troubles.first() {
        return Some(trouble.clone());
    }
    if let Some(why) = &report.inventory_trouble {
        return Some(inventory_complaint(why));
    }
    let recent = |at: u64| report.now.saturating_sub(at) < RECENT;
    let last_error = report.last_error.as_ref().filter(|_| report.last_error_at.is_some_and(recent));
    // Why PAM is not asked is worth more than that it was not.
    if let Some(gap) = last_error.filter(|line| line.starts_with(PAM_GAP)) {
        return Some(gap.clone());
    }
    if let Some(at) = report.last_pam_trouble.filter(|at| recent(*at) && report.last_pam_answer.is_none_or(|a| a < *at))
    {
        return Some(format!(
            "PAM could not check the last login ({} ago): look at the log for that attempt, and try: usshca check",
            span(report.now.saturating_sub(at))
        ));
    }
    let left = report.host_certificate_valid_before.map(|end| end.saturating_sub(report.now));
    if let Some(left) = left.filter(|left| *left < RENEW_BEFORE) {
        let how = match left {
            0 => "its host certificate is over: nobody who trusts the host CA can connect",
            _ => "its host certificate ends soon",
        };
        return Some(format!(
            "{how}: sign the host key again (usshca host sign), and let the CA read it (SIGHUP; systemctl reload usshca)"
        ));
    }
    last_error.map(|line| format!("an error in the last quarter of an hour: {line}"))
}

/// For people.
pub fn inventory_complaint(why: &str) -> String {
    format!("nothing can be written to the inventory, so that nobody gets a certificate: {why}; is its disk full?")
}

fn show(report: &Report) -> String {
    let ago = |at: u64| format!("{} ({} ago)", utc(at), span(report.now.saturating_sub(at)));
    let or_none = |at: Option<u64>| at.map_or_else(|| "none since the start".to_owned(), ago);
    let host = report.host_certificate_valid_before.map_or_else(
        || "for ever".to_owned(),
        |end| match end.saturating_sub(report.now) {
            0 => format!("over since {} ({} ago)", utc(end), span(report.now.saturating_sub(end))),
            left => format!("until {} ({})", utc(end), span(left)),
        },
    );
    let turned_away: u64 = report.turned_away.values().sum();
    let mut text = String::new();
    for (name, value) in [
        ("running since", format!("{}, pid {}, version {}", ago(report.since), report.pid, report.version)),
        ("listening on", report.listening.join(", ")),
        (
            "connections",
            format!(
                "{} ({} logging in), {} PAM workers; {} so far, {turned_away} turned away",
                report.connections, report.logging_in, report.workers, report.accepted
            ),
        ),
        ("penalties", format!("{} sources", report.sources_with_penalties)),
        (
            "logins by PAM",
            format!(
                "{} passed, {} refused, {} could not be checked{}",
                report.attempts_passed,
                report.attempts_refused,
                report.attempts_unavailable.saturating_add(report.attempts_broke_down),
                report.last_pam_trouble.map_or_else(String::new, |at| format!(", the last one {}", ago(at)))
            ),
        ),
        ("signer", format!("{}, started anew {} times", report.signer, report.signer_restarts)),
        (
            "CA keys",
            if report.key_troubles.is_empty() { "all sign".to_owned() } else { report.key_troubles.join("; ") },
        ),
        ("inventory", report.inventory_trouble.as_ref().map_or_else(|| "takes rows".to_owned(), Clone::clone)),
        (
            "certificates",
            format!(
                "{} for users, {} for hosts, {} refused",
                report.certificates_issued_user, report.certificates_issued_host, report.certificates_refused
            ),
        ),
        ("last certificate", or_none(report.last_certificate)),
        ("host certificate", host),
        (
            "last error",
            match (&report.last_error, report.last_error_at) {
                (Some(line), Some(at)) => format!("{}: {line}", ago(at)),
                _ => "none that stands".to_owned(),
            },
        ),
    ] {
        text += &format!("{name:<17}{value}\n");
    }
    text
}

/// `3d 4h`, `5m`, `12s`: the two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn report() -> Report {
        let mut report = crate::serve::sample_report();
        report.now = 1_000_000;
        report.host_certificate_valid_before = Some(report.now + RENEW_BEFORE);
        report.last_error_at = Some(report.now - RECENT);
        report
    }

    #[test]
    fn all_is_well_until_one_thing_is_not() {
        assert_eq!(complaint(&report()), None);
        let of = |change: fn(&mut Report)| {
            let mut changed = report();
            change(&mut changed);
            complaint(&changed).unwrap()
        };
        assert!(of(|r| r.signer = "down".to_owned()).contains("signer"));
        assert!(of(|r| r.stopping = true).contains("stopping"));
        assert!(of(|r| r.host_certificate_valid_before = Some(r.now + RENEW_BEFORE - 1)).contains("ends soon"));
        assert!(of(|r| r.host_certificate_valid_before = Some(r.now + 1)).contains("ends soon"));
        let over = "its host certificate is over: nobody who trusts the host CA can connect";
        assert!(of(|r| r.host_certificate_valid_before = Some(r.now)).contains(over));
        assert!(of(|r| r.host_certificate_valid_before = Some(r.now - 60)).contains(over));
        assert!(
            of(|r| r.inventory_trouble = Some("no room".to_owned())).contains("nobody gets a certificate: no room")
        );
        assert!(of(|r| r.last_error_at = Some(r.now - RECENT + 1)).contains("quarter"));
        assert_eq!(of(|r| r.key_troubles = vec!["user_ca: gone".to_owned()]), "user_ca: gone");
        assert!(of(|r| r.last_pam_trouble = Some(r.now - 9)).contains("PAM could not check the last login (9s ago)"));
        assert!(
            of(|r| {
                r.last_pam_trouble = Some(r.now - 9);
                (r.last_error_at, r.last_error) = (Some(r.now), Some("PAM service: x is missing".to_owned()));
            })
            .contains("x is missing")
        );
        // It has answered since, or it is long ago.
        let mut mended = report();
        (mended.last_pam_trouble, mended.last_pam_answer) = (Some(mended.now - 9), Some(mended.now - 9));
        assert_eq!(complaint(&mended), None);
        (mended.last_pam_trouble, mended.last_pam_answer) = (Some(mended.now - RECENT), None);
        assert_eq!(complaint(&mended), None);
    }

    #[test]
    fn a_host_certificate_that_is_over_is_shown_as_that() {
        let mut over = report();
        over.host_certificate_valid_before = Some(over.now - 61);
        assert!(
            show(&over).contains("host certificate over since 1970-01-12T13:45:39Z (1m 1s ago)\n"),
            "{}",
            show(&over)
        );
    }

    #[test]
    fn a_span_has_its_two_largest_units() {
        assert_eq!([59, 61, 3 * 3600 + 60, 90_000].map(span), ["59s", "1m 1s", "3h 1m", "1d 1h"]);
    }

    #[test]
    fn what_is_shown_says_all_of_it_a_line_each() {
        let text = show(&report());
        assert_eq!(text.lines().count(), 12, "{text}");
        assert!(text.contains("certificates     9 for users, 10 for hosts, 11 refused\n"), "{text}");
    }
}
