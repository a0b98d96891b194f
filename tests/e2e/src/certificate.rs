//! What `ssh-keygen -Lf` says of certificates, read.

/// One certificate as ssh-keygen shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// `ssh-ed25519-cert-v01@openssh.com user certificate`.
    pub kind: String,
    /// In its quotes.
    pub key_id: String,
    /// The serial.
    pub serial: u64,
    /// `from … to …`, or `forever`.
    pub validity: String,
    /// The principals.
    pub principals: Vec<String>,
    /// Critical options, with their value; `(none)` is left out.
    pub critical_options: Vec<String>,
    /// Extensions, likewise.
    pub extensions: Vec<String>,
}

impl Shown {
    /// Seconds between start and end, both in the zone in which ssh-keygen printed them; `None` for `forever`.
    pub fn validity_seconds(&self) -> Option<i64> {
        let (from, to) = self.validity.strip_prefix("from ")?.split_once(" to ")?;
        Some(seconds(to)? - seconds(from)?)
    }
}

/// `2026-01-31T12:00:00` as seconds since an arbitrary day (days by the civil calendar, Howard Hinnant's formula).
fn seconds(time: &str) -> Option<i64> {
    let (date, clock) = time.trim().split_once('T')?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut clock = clock.split(':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let year = if month <= 2 { year - 1 } else { year };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Reads what `ssh-keygen -Lf` printed for one or more certificates.
pub fn shown_certificates(text: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let mut list = "";
    for line in text.lines().map(str::trim) {
        if let Some(kind) = line.strip_prefix("Type: ") {
            all.push(Shown { kind: kind.to_owned(), ..Shown::default() });
            list = "";
            continue;
        }
        let Some(shown) = all.last_mut() else { continue };
        if let Some(key_id) = line.strip_prefix("Key ID: ") {
            shown.key_id = key_id.trim_matches('"').to_owned();
        } else if let Some(serial) = line.strip_prefix("Serial: ") {
            shown.serial = serial.parse().unwrap_or(0);
        } else if let Some(validity) = line.strip_prefix("Valid: ") {
            shown.validity = validity.to_owned();
        } else if line.starts_with("Principals:")
            || line.starts_with("Critical Options:")
            || line.starts_with("Extensions:")
        {
            list = line.split(':').next().unwrap_or("");
        } else if line.starts_with("Public key:")
            || line.starts_with("Signing CA:")
            || line == "(none)"
            || line.is_empty()
        {
        } else if list == "Principals" {
            shown.principals.push(line.to_owned());
        } else if list == "Critical Options" {
            shown.critical_options.push(line.to_owned());
        } else if list == "Extensions" {
            shown.extensions.push(line.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn reads_what_ssh_keygen_shows() {
        let text = "(stdin):1:\n        Type: ssh-ed25519-cert-v01@openssh.com user certificate\n        Public key: ED25519-CERT SHA256:x\n        Signing CA: ED25519 SHA256:y (using ssh-ed25519)\n        Key ID: \"alice\"\n        Serial: 7\n        Valid: from 2026-01-01T00:00:00 to 2026-01-01T08:00:00\n        Principals: \n                alice\n                web\n        Critical Options: (none)\n        Extensions: \n                permit-pty\n                login-time@ussh UNKNOWN OPTION (len 8)\n";
        let shown = shown_certificates(text);
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0].key_id.as_str(), shown[0].serial), ("alice", 7));
        assert_eq!(shown[0].principals, ["alice", "web"]);
        assert!(shown[0].critical_options.is_empty());
        assert_eq!(shown[0].extensions.len(), 2);
    }
}
