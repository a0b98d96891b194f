//! Metrics in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::serve::counters::Report;

/// An HTTP answer (RFC 9112).
pub fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    (head + body).into_bytes()
}

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = Page(String::new());
    page.gauge("usshca_start_time_seconds", "When the CA started, seconds since the epoch.", report.since);
    page.gauge("usshca_connections", "Connections.", count(report.connections));
    page.gauge("usshca_connections_logging_in", "Connections on which nobody has logged in.", count(report.logging_in));
    page.gauge("usshca_pam_workers", "PAM workers.", count(report.workers));
    let help = "Sources of connections that have a penalty to serve.";
    page.gauge("usshca_sources_with_penalties", help, count(report.sources_with_penalties));
    page.counter("usshca_connections_accepted_total", "Connections that were let in.", report.accepted);
    let help = "Connections that were not let in, by the limit that was met.";
    page.labelled("usshca_connections_turned_away_total", help, "why", &report.turned_away);
    page.counter("usshca_connections_evicted_total", "Connections that were ended to make room.", report.evicted);
    page.labelled("usshca_penalties_total", "Penalties, by what they were for.", "offence", &report.penalties);
    page.counter("usshca_fronts_broken_total", "Fronts that broke down.", report.fronts_broken);
    page.counter("usshca_attempts_total", "PAM workers that were started.", report.attempts);
    let outcomes = [
        ("passed", report.attempts_passed),
        ("looked_up", report.attempts_looked_up),
        ("refused", report.attempts_refused),
        ("unavailable", report.attempts_unavailable),
        ("broke_down", report.attempts_broke_down),
        ("turned_away", report.attempts_turned_away),
    ];
    let outcomes = outcomes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    page.labelled("usshca_attempt_outcomes_total", "How attempts to log in ended.", "outcome", &outcomes);
    let kinds = [("user", report.certificates_issued_user), ("host", report.certificates_issued_host)];
    let kinds = kinds.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    page.labelled("usshca_certificates_issued_total", "Certificates that were issued.", "kind", &kinds);
    let help = "Requests for a certificate that were refused.";
    page.counter("usshca_certificates_refused_total", help, report.certificates_refused);
    if let Some(at) = report.last_certificate {
        let help = "When the last certificate was issued, seconds since the epoch.";
        page.gauge("usshca_last_certificate_time_seconds", help, at);
    }
    page.gauge("usshca_signer_up", "1: the signer is up.", u64::from(report.signer == "up"));
    let help = "CA keys by which nothing can be signed now.";
    page.gauge("usshca_ca_keys_out_of_order", help, count(report.key_troubles.len()));
    let help = "1: nothing can be written to the inventory, and nobody gets a certificate.";
    page.gauge("usshca_inventory_out_of_order", help, u64::from(report.inventory_trouble.is_some()));
    page.counter("usshca_signer_restarts_total", "How often the signer was started anew.", report.signer_restarts);
    if let Some(at) = report.host_certificate_valid_before {
        let help = "End of the CA machine's own host certificate, seconds since the epoch.";
        page.gauge("usshca_host_certificate_valid_before_seconds", help, at);
    }
    if let Some(at) = report.last_error_at {
        let help = "When the last error was logged, seconds since the epoch.";
        page.gauge("usshca_last_error_time_seconds", help, at);
    }
    let memory = [("supervisor", report.supervisor_resident_bytes), ("signer", report.signer_resident_bytes)];
    let memory = memory.into_iter().filter_map(|(name, bytes)| Some((name.to_owned(), bytes?))).collect();
    page.series("usshca_resident_memory_bytes", "Memory of the processes that stay.", "gauge", "process", &memory);
    page.0
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

struct Page(String);

/// Writing to a string cannot fail.
impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled(&mut self, name: &str, help: &str, label: &str, values: &BTreeMap<String, u64>) {
        self.series(name, help, "counter", label, values);
    }

    /// Values of labels are words of ours.
    fn series(&mut self, name: &str, help: &str, kind: &str, label: &str, values: &BTreeMap<String, u64>) {
        self.head(name, help, kind);
        for (of, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    pub fn report() -> Report {
        Report {
            version: "0".to_owned(),
            pid: 1,
            since: 2,
            now: 3,
            stopping: false,
            listening: vec!["0.0.0.0:22".to_owned()],
            connections: 4,
            logging_in: 5,
            workers: 6,
            sources_with_penalties: 7,
            signer: "up".to_owned(),
            signer_restarts: 8,
            certificates_issued_user: 9,
            certificates_issued_host: 10,
            certificates_refused: 11,
            last_certificate: Some(12),
            accepted: 13,
            turned_away: [("penalty".to_owned(), 14)].into(),
            evicted: 15,
            penalties: [("crash".to_owned(), 16)].into(),
            fronts_broken: 17,
            attempts: 18,
            attempts_turned_away: 19,
            attempts_passed: 20,
            attempts_looked_up: 27,
            attempts_refused: 21,
            attempts_unavailable: 22,
            attempts_broke_down: 23,
            last_pam_trouble: None,
            last_pam_answer: None,
            key_troubles: Vec::new(),
            inventory_trouble: None,
            host_certificate_valid_before: Some(24),
            last_error_at: Some(25),
            last_error: Some("alice's secret \"line\"".to_owned()),
            supervisor_resident_bytes: Some(26),
            signer_resident_bytes: None,
        }
    }

    #[test]
    fn every_line_is_a_comment_or_a_name_with_one_number_and_no_line_names_a_person() {
        let page = page(&report());
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("usshca_") && value.parse::<u64>().is_ok(), "{line}");
        }
        for line in [
            "usshca_attempt_outcomes_total{outcome=\"passed\"} 20",
            "usshca_certificates_issued_total{kind=\"user\"} 9",
        ] {
            assert!(page.lines().any(|l| l == line), "{page}");
        }
        assert!(!page.contains("alice"));
        // All of one name are in one place, after its help.
        let helps = page.matches("# HELP ").count();
        assert_eq!((helps, page.matches("# TYPE ").count()), (helps, helps));
        assert_eq!(page.matches("# HELP usshca_attempt_outcomes_total ").count(), 1);
    }
}
