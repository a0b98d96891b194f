//! What the PAM module reads: its line, its file, and sshd's word.

use std::path::Path;

use pam_ussh::options::{AccountOptions, AuthOptions, Config, FromLine, SessionOptions};
use pam_ussh::parse_auth_info;

/// The words of a PAM line, one per line of the input; all of it once more as `pam_ussh.toml`.
pub fn options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(options) = AuthOptions::parse_with("sudo", Some(&words), None) {
        assert!(options.ca_file.is_absolute());
        assert_eq!(AuthOptions::parse_with("sudo", Some(&words), None).as_ref(), Ok(&options));
        let twice: Vec<String> = words.iter().chain(&words).cloned().collect();
        assert!(words.is_empty() || AuthOptions::parse_with("sudo", Some(&twice), None).is_err(), "a repeated option");
    }
    // Whether they are good is theirs to say; they say it without a panic.
    let _ = (
        AccountOptions::parse_with("sudo", Some(&words), None),
        SessionOptions::parse_with("sshd", Some(&words), None),
    );
    if let Ok(config) = Config::parse(Path::new("/etc/ussh/pam_ussh.toml"), text) {
        let _ = (config.check(), AuthOptions::parse_with("sudo", Some(&[]), Some(&config)));
    }
}

/// SSH_AUTH_INFO_0: one answer for each line that calls itself a certificate from publickey, and no other.
pub fn auth_info(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let found = parse_auth_info(text);
    assert!(found.len() <= text.lines().filter(|line| line.starts_with("publickey ")).count());
    for certificate in found.into_iter().flatten() {
        assert!(text.contains(certificate.type_name()));
    }
}
