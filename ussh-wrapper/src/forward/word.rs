//! Whether ssh_config can have a word on agent forwarding at all. Mostly no file says it; then `ssh -G` need be asked once and not twice, each of which takes longer than all else that `ussh` does.
//!
//! Only `no` is sure: where a file cannot be read, or includes what is not understood here, it may have one.

use std::io;
use std::path::{Path, PathBuf};

/// As deep as ssh follows Include (readconf.h, READCONF_MAX_DEPTH).
const MAX_DEPTH: u32 = 16;
/// Most files that are looked at.
const MAX_FILES: u32 = 256;
/// The option.
const WORD: &[u8] = b"forwardagent";

/// Looks through one file after the other.
pub struct Search<'a> {
    home: &'a Path,
    files: u32,
}

impl<'a> Search<'a> {
    /// `home`: what `~` stands for.
    pub fn new(home: &'a Path) -> Self {
        Search { home, files: 0 }
    }
    /// Whether a file, or one that it includes, may say it. `base`: where its relative Includes lead (`~/.ssh` for the user's, `/etc/ssh` for the system's).
    pub fn may_say(&mut self, file: &Path, base: &Path) -> bool {
        self.file(file, base, 0)
    }

    fn file(&mut self, file: &Path, base: &Path, depth: u32) -> bool {
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return true;
        }
        match std::fs::read(file) {
            Ok(text) => text.split(|byte| *byte == b'\n').any(|line| self.line(line, base, depth)),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    fn line(&mut self, as_written: &[u8], base: &Path, depth: u32) -> bool {
        let line = as_written.to_ascii_lowercase();
        if line.trim_ascii_start().starts_with(b"#") {
            return false;
        }
        if line.windows(WORD.len()).any(|window| window == WORD) {
            return true;
        }
        // Quotes around the keyword are ssh's to take off.
        let is_include = line.windows(7).any(|window| window == b"include");
        is_include && self.include(as_written, base, depth)
    }

    fn include(&mut self, line: &[u8], base: &Path, depth: u32) -> bool {
        let Ok(line) = std::str::from_utf8(line) else { return true };
        let mut words = line.split_ascii_whitespace();
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("include")) {
            return true;
        }
        words.any(|word| match self.paths(word, base) {
            Some(paths) => paths.iter().any(|path| self.file(path, base, depth + 1)),
            None => true,
        })
    }

    /// The files that a word stands for; `None`: not understood.
    fn paths(&self, word: &str, base: &Path) -> Option<Vec<PathBuf>> {
        if word.contains(['"', '\'', '\\', '%', '$', '[', ']', '{', '#', '=']) {
            return None;
        }
        let path = match word.strip_prefix("~/") {
            Some(below) => self.home.join(below),
            None if word.starts_with('~') => return None,
            None => base.join(word),
        };
        if !word.contains(['*', '?']) {
            return Some(vec![path]);
        }
        // `*.conf` in a folder, as everybody writes it.
        let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
        let end = name.strip_prefix('*').filter(|end| !end.contains(['*', '?']))?;
        if folder.to_str()?.contains(['*', '?']) {
            return None;
        }
        match folder.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
            Err(_) => None,
            // More than glob(3) finds, which leaves out names with a dot in front, is no harm.
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .filter(|path| path.as_ref().map_or(true, |path| path.as_os_str().to_string_lossy().ends_with(end)))
                .collect::<Result<_, _>>()
                .ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn may_say(text: &str, other: &str) -> bool {
        let home = tempfile::tempdir().unwrap();
        let base = home.path().join(".ssh");
        std::fs::create_dir_all(base.join("d")).unwrap();
        std::fs::write(base.join("config"), text.replace("HOME", home.path().to_str().unwrap())).unwrap();
        std::fs::write(base.join("other"), other).unwrap();
        std::fs::write(base.join("d/x.conf"), other).unwrap();
        Search::new(home.path()).may_say(&base.join("config"), &base)
    }

    #[test]
    fn the_word_is_found_wherever_ssh_would_read_it() {
        for text in [
            "ForwardAgent yes\n",
            "Host x\n\tforwardagent=no",
            "  \"FORWARDAGENT\" no\r\n",
            "Include other\n",
            "include d/*.conf\n",
            "Include ~/.ssh/other\n",
            "Include HOME/.ssh/d/x.conf nothing\n",
            "Include nothing d/*\n",
        ] {
            assert!(may_say(text, "Host y\n ForwardAgent no\n"), "{text:?}");
        }
    }

    #[test]
    fn without_the_word_in_any_of_them_nobody_has_said_it() {
        for text in [
            "",
            "Host x\n User y\n",
            "# ForwardAgent yes\n",
            "Include other\nInclude d/*.conf nothing e/*.conf ~/.ssh/other\n",
        ] {
            assert!(!may_say(text, "#ForwardAgent no\nHost y\n User z\n"), "{text:?}");
        }
        let home = tempfile::tempdir().unwrap();
        assert!(!Search::new(home.path()).may_say(&home.path().join("none"), home.path()), "no file");
    }

    #[test]
    fn what_is_not_understood_may_say_it() {
        for text in [
            "Include \"other\"\n",
            "Include=other\n",
            "Include %d/other\n",
            "Include ${X}\n",
            "Include */x.conf\n",
            "Include */*.conf\n",
            "Include d/x*.conf\n",
            "Include ~u/x\n",
            "Include config\n",
            "Include d\n",
        ] {
            assert!(may_say(text, ""), "{text:?}");
        }
    }
}
