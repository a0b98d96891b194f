//! What sshd is told about PAM: the few words of sshd_config that decide whether its stack is asked (sshd_config(5); servconf.c `process_server_config_line`).
//!
//! sshd itself is asked (`sshd -T`) where that can be; what is read here tells in which line a word stands, and what holds in `Match` blocks only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian has it.
const SSHD: &str = "/usr/sbin/sshd";
/// SERVCONF_MAX_DEPTH
const MAX_DEPTH: usize = 16;

/// A word's value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The arguments.
    pub values: Vec<String>,
    /// The file and its line; none: sshd's default, or from `sshd -T` alone.
    pub at: Option<(PathBuf, usize)>,
}

/// AuthenticationMethods in a `Match` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// The criteria as written.
    pub criteria: String,
    /// Its lists.
    pub methods: Setting,
}

impl Matched {
    /// Whether its criteria hold for every connection: patterns that leave nobody out (sshd_config(5), PATTERNS in ssh_config(5)).
    pub fn is_for_everybody(&self) -> bool {
        let words: Vec<&str> = self.criteria.split(' ').collect();
        words.chunks(2).all(|pair| match pair {
            [name, patterns] => {
                let of_addresses = name.to_ascii_lowercase().ends_with("address");
                let is_all = |pattern: &str| match pattern {
                    "0.0.0.0/0" | "::/0" => of_addresses,
                    stars => !stars.is_empty() && stars.bytes().all(|byte| byte == b'*'),
                };
                let mut patterns = patterns.split(',');
                patterns.clone().any(is_all) && !patterns.any(|pattern| pattern.starts_with('!'))
            }
            [only] => only.eq_ignore_ascii_case("all"),
            _ => false,
        })
    }
}

/// What counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshdConfig {
    /// `UsePAM`
    pub use_pam: Setting,
    /// `KbdInteractiveAuthentication`
    pub keyboard_interactive: Setting,
    /// `AuthenticationMethods`; `any` by default.
    pub methods: Setting,
    /// `AuthenticationMethods` for some connections only.
    pub matched: Vec<Matched>,
    /// Why sshd does not start with it, in its own words; none: it does, or could not be asked.
    pub refused: Option<String>,
}

impl SshdConfig {
    /// Reads a file with its includes; asks sshd if it can be asked.
    /// # Errors
    /// The file, or one that it includes, cannot be read.
    pub fn read(file: &Path) -> io::Result<Self> {
        Self::read_asking(file, ask_sshd)
    }

    fn read_asking(file: &Path, ask: impl FnOnce(&Path) -> Asked) -> io::Result<Self> {
        let mut reader = Reader {
            folder: file.parent().map(Path::to_owned).unwrap_or_default(),
            settings: Vec::new(),
            for_all: Vec::new(),
            matched: Vec::new(),
        };
        reader.file(file, None, 0)?;
        let (asked, refused) = match ask(file) {
            Asked::Says(settings) => (settings, None),
            Asked::Refuses(why) => (Vec::new(), Some(why)),
            Asked::CannotSay => (Vec::new(), None),
        };
        let setting = |name: &str, default: &str| {
            // What a `Match` says wins over what stands before the first of them.
            let first =
                |all: &[(String, Setting)]| all.iter().find(|(word, _)| word == name).map(|(_, one)| one.clone());
            let read = first(&reader.for_all).or_else(|| first(&reader.settings));
            let read = read.unwrap_or(Setting { values: vec![default.into()], at: None });
            match asked.iter().find(|(word, _)| word == name) {
                Some((_, values)) => Setting { values: values.clone(), at: read.at },
                None => read,
            }
        };
        Ok(SshdConfig {
            use_pam: setting("usepam", "no"),
            keyboard_interactive: setting("kbdinteractiveauthentication", "yes"),
            methods: setting("authenticationmethods", "any"),
            matched: reader.matched,
            refused,
        })
    }
}

struct Reader {
    folder: PathBuf,
    /// The first of each name counts.
    settings: Vec<(String, Setting)>,
    /// The same, of `Match all`.
    for_all: Vec<(String, Setting)>,
    matched: Vec<Matched>,
}

impl Reader {
    /// `condition`: the `Match` that the file is included in.
    fn file(&mut self, file: &Path, condition: Option<&str>, depth: usize) -> io::Result<()> {
        let text =
            fs::read(file).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        let mut condition = condition.map(str::to_owned);
        for (line, number) in String::from_utf8_lossy(&text).lines().zip(1..) {
            let mut words = words(line).into_iter();
            let Some(keyword) = words.next().map(|word| word.to_ascii_lowercase()) else { continue };
            let values: Vec<String> = words.collect();
            let name = match keyword.as_str() {
                "challengeresponseauthentication" => "kbdinteractiveauthentication",
                other => other,
            };
            match name {
                "match" => condition = Some(values.join(" ")),
                "include" if depth < MAX_DEPTH => {
                    let included: Vec<PathBuf> =
                        values.iter().flat_map(|pattern| glob(&self.folder.join(pattern))).collect();
                    for included in included {
                        self.file(&included, condition.as_deref(), depth + 1)?;
                    }
                }
                "usepam" | "kbdinteractiveauthentication" | "authenticationmethods" => {
                    let setting = Setting { values, at: Some((file.to_owned(), number)) };
                    match &condition {
                        None => self.settings.push((name.to_owned(), setting)),
                        Some(criteria) if criteria.eq_ignore_ascii_case("all") => {
                            self.for_all.push((name.to_owned(), setting));
                        }
                        Some(criteria) if name == "authenticationmethods" => {
                            self.matched.push(Matched { criteria: criteria.clone(), methods: setting });
                        }
                        Some(_) => {}
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A keyword and its arguments: parted by blanks, the first also by `=`; `"…"` keeps blanks; `#` at the start of a word ends the line.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => {
                let end = |c: char| c.is_ascii_whitespace() || (words.is_empty() && c == '=');
                rest.split_at(rest.find(end).unwrap_or(rest.len()))
            }
        };
        rest = behind.trim_start();
        if words.is_empty() {
            rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        }
        words.push(word.to_owned());
    }
    words
}

/// glob(3) with `*` and `?`, in order. A path without them is itself if it is there.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str().to_string_lossy();
        found = if name.contains(['*', '?']) {
            let mut matching: Vec<PathBuf> = found.iter().flat_map(|folder| entries(folder, &name)).collect();
            matching.sort();
            matching
        } else {
            found.into_iter().map(|folder| folder.join(part)).collect()
        };
    }
    found.retain(|path| path.exists());
    found
}

fn entries(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    names
        .filter(|name| fits(name.to_string_lossy().as_bytes(), pattern.as_bytes(), true))
        .map(|name| folder.join(name))
        .collect()
}

fn fits(name: &[u8], pattern: &[u8], first: bool) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, _) => name.is_empty(),
        (Some((b'*' | b'?', _)), Some((b'.', _))) if first => false,
        (Some((b'*', rest)), Some((_, behind))) => fits(name, rest, false) || fits(behind, pattern, false),
        (Some((b'*', rest)), None) => fits(name, rest, false),
        (Some((b'?', rest)), Some((_, behind))) => fits(behind, rest, false),
        (Some((one, rest)), Some((other, behind))) => one == other && fits(behind, rest, false),
        (Some(_), None) => false,
    }
}

/// What sshd makes of a file.
enum Asked {
    /// What holds outside of `Match` blocks.
    Says(Vec<(String, Vec<String>)>),
    /// It does not start with this file.
    Refuses(String),
    /// It is not there, or cannot be asked for another reason than the file: it takes root (it reads the host keys) and a folder that its unit makes.
    CannotSay,
}

/// `sshd -T`.
fn ask_sshd(file: &Path) -> Asked {
    if ussh_os::process::effective_uid() != 0 {
        return Asked::CannotSay;
    }
    let output = Command::new(SSHD).arg("-T").arg("-f").arg(file).stdin(Stdio::null()).output();
    let Ok(output) = output else { return Asked::CannotSay };
    if !output.status.success() {
        return refusal(&String::from_utf8_lossy(&output.stderr)).map_or(Asked::CannotSay, Asked::Refuses);
    }
    let Ok(text) = String::from_utf8(output.stdout) else { return Asked::CannotSay };
    let one = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        words.next().map(|name| (name, words.collect()))
    };
    Asked::Says(text.lines().filter_map(one).collect())
}

/// Of what sshd prints the line that complains of its configuration: it names a line of a file (servconf.c). Other complaints are the host's.
fn refusal(text: &str) -> Option<String> {
    let of_a_line = |line: &&str| {
        let behind = line.split_once(" line ").map(|(_, behind)| behind);
        behind.is_some_and(|behind| behind.starts_with(|c: char| c.is_ascii_digit()))
    };
    let first = text.lines().find(of_a_line)?;
    let deprecated = |line: &str| line.contains("Deprecated option") || line.contains("Unsupported option");
    text.lines().filter(of_a_line).find(|line| !deprecated(line)).or(Some(first)).map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn read(files: &[(&str, &str)]) -> SshdConfig {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        // Includes that are not absolute sshd looks for in /etc/ssh.
        SshdConfig::read_asking(&folder.path().join("sshd_config"), |_| Asked::CannotSay).unwrap()
    }

    #[test]
    fn the_first_word_counts_and_includes_come_where_they_stand() {
        let config = read(&[
            ("sshd_config", "Include d/*.conf\nUsePAM yes\nAuthenticationMethods password\n"),
            ("d/b.conf", "authenticationmethods publickey\n"),
            (
                "d/a.conf",
                "# none\nAuthenticationMethods = \"publickey,keyboard-interactive:pam\" hostbased # two\nMatch User x\n",
            ),
            ("d/.hidden.conf", "AuthenticationMethods none\n"),
        ]);
        assert_eq!(config.methods.values, ["publickey,keyboard-interactive:pam", "hostbased"]);
        assert_eq!(config.methods.at.as_ref().unwrap().1, 2);
        assert_eq!(config.use_pam.values, ["yes"]);
        assert_eq!(config.keyboard_interactive, Setting { values: vec!["yes".into()], at: None });
    }

    #[test]
    fn a_match_for_all_wins_and_one_that_leaves_nobody_out_is_told_from_others() {
        let config = read(&[(
            "sshd_config",
            "AuthenticationMethods publickey,password\nMatch all\nAuthenticationMethods publickey\n",
        )]);
        assert_eq!((config.methods.values.as_slice(), config.matched.len()), (&["publickey".to_owned()][..], 0));
        let is_for_everybody = |criteria: &str| {
            let methods = Setting { values: Vec::new(), at: None };
            Matched { criteria: criteria.into(), methods }.is_for_everybody()
        };
        for criteria in ["User *", "Group **", "Address 0.0.0.0/0", "address ::/0", "User x,* Host *", "All"] {
            assert!(is_for_everybody(criteria), "{criteria}");
        }
        for criteria in ["User robot", "User *,!root", "User * Address 10.0.0.0/8", "User 0.0.0.0/0", "Group ops*"] {
            assert!(!is_for_everybody(criteria), "{criteria}");
        }
    }

    #[test]
    fn what_stands_in_a_match_is_for_some_only() {
        let config = read(&[(
            "sshd_config",
            "KbdInteractiveAuthentication no\nMatch User robot Address 10.0.0.0/8\n  AuthenticationMethods publickey\n  KbdInteractiveAuthentication yes\nMatch all\nAuthenticationMethods publickey,keyboard-interactive\n",
        )]);
        assert_eq!(config.methods.values, ["publickey,keyboard-interactive"]);
        assert_eq!(config.keyboard_interactive.values, ["no"]);
        assert_eq!(config.use_pam.values, ["no"]);
        assert_eq!(config.matched.len(), 1);
        assert_eq!(config.matched[0].criteria, "User robot Address 10.0.0.0/8");
        assert_eq!(config.matched[0].methods.values, ["publickey"]);
    }

    #[test]
    fn what_sshd_says_of_a_line_is_why_it_refuses_and_other_complaints_are_none() {
        let garbage = "/etc/ssh/sshd_config: line 3: Bad configuration option: garbage\r\n/etc/ssh/sshd_config: terminating, 1 bad configuration options\r\n";
        assert_eq!(refusal(garbage).unwrap(), "/etc/ssh/sshd_config: line 3: Bad configuration option: garbage");
        let deprecated = "/etc/ssh/sshd_config line 2: Deprecated option RSAAuthentication\n/etc/ssh/sshd_config line 9: unsupported option \"maybe\".\n";
        assert_eq!(refusal(deprecated).unwrap(), "/etc/ssh/sshd_config line 9: unsupported option \"maybe\".");
        for other in
            ["Missing privilege separation directory: /run/sshd\n", "sshd: no hostkeys available -- exiting.\n", ""]
        {
            assert_eq!(refusal(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = SshdConfig::read(Path::new("/nonexistent/sshd_config")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/sshd_config"), "{error}");
    }
}
