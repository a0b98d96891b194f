//! What would change in a file, as `diff -u` shows it: one hunk from the first line that differs to the last.

use std::path::Path;

use ussh_core::escape::escape;

/// Lines around it.
const CONTEXT: usize = 3;
/// Most of a line that is shown, bytes.
const MAX_SHOWN: usize = 4096;

/// Empty if nothing would. `None` for a file that is not there.
pub fn unified(path: &Path, old: Option<&[u8]>, new: Option<&[u8]>) -> String {
    if old == new {
        return String::new();
    }
    let (before, after) = (lines(old), lines(new));
    let alike = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let rest = before.len().min(after.len()) - alike;
    let alike_behind = before.iter().rev().zip(after.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let start = alike.saturating_sub(CONTEXT);
    let end = |lines: &[&[u8]]| (lines.len() - alike_behind + CONTEXT).min(lines.len());
    let name = |there: bool| if there { path.display().to_string() } else { "/dev/null".to_owned() };
    let span = |lines: &[&[u8]]| {
        let count = end(lines) - start;
        format!("{},{count}", if count == 0 { start } else { start + 1 })
    };
    let mut text = format!("--- {}\n+++ {}\n", name(old.is_some()), name(new.is_some()));
    text += &format!("@@ -{} +{} @@\n", span(&before), span(&after));
    let part = |lines: &[&[u8]], from: usize, to: usize, sign: char| {
        lines.get(from..to).unwrap_or_default().iter().fold(String::new(), |text, line| text + &shown(line, sign))
    };
    let behind = before.len() - alike_behind;
    text += &part(&before, start, alike, ' ');
    text += &part(&before, alike, behind, '-');
    text += &part(&after, alike, after.len() - alike_behind, '+');
    text + &part(&before, behind, end(&before), ' ')
}

fn lines(file: Option<&[u8]>) -> Vec<&[u8]> {
    file.unwrap_or_default().split_inclusive(|byte| *byte == b'\n').collect()
}

/// What steers a terminal is shown escaped.
fn shown(line: &[u8], sign: char) -> String {
    match line.strip_suffix(b"\n") {
        Some(line) => format!("{sign}{}\n", visible(line)),
        None => format!("{sign}{}\n\\ No newline at end of file\n", visible(line)),
    }
}

fn visible(line: &[u8]) -> String {
    line.split(|byte| *byte == b'\t').map(|part| escape(part, MAX_SHOWN)).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn patch_makes_the_one_of_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        for (old, new) in [
            ("a\n", "a\nb\n"),
            ("a", "a\nb\n"),
            ("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nd\nx\ne\nf\n"),
            ("a\nb\nc\nd\ne\nf\ng\nh", "a\nb\nc\nd\nh"),
            ("a\na\na\n", "a\na\n"),
            ("\tx\n", "\tx\ny"),
            ("", "a\n"),
        ] {
            std::fs::write(&path, old).unwrap();
            let diff = unified(&path, Some(old.as_bytes()), Some(new.as_bytes()));
            // git, since patch(1) need not be there.
            let mut git = Command::new("git");
            git.args(["apply", "--unidiff-zero", "--unsafe-paths", "-"]).current_dir(folder.path());
            let relative = diff.replace(path.to_str().unwrap(), "config").replace("--- config", "--- a/config");
            let relative = relative.replace("+++ config", "+++ b/config");
            let mut child = git.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(relative.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success(), "{diff}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), new, "{diff}");
        }
    }

    #[test]
    fn nothing_is_nothing_a_new_file_comes_from_nowhere_and_a_terminal_is_not_steered() {
        let path = Path::new("/f");
        assert_eq!(unified(path, Some(b"a"), Some(b"a")), "");
        assert_eq!(unified(path, None, Some(b"a\n")), "--- /dev/null\n+++ /f\n@@ -0,0 +1,1 @@\n+a\n");
        assert_eq!(unified(path, Some(b"a\n"), None), "--- /f\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n");
        assert!(!unified(path, None, Some(b"\x1b[2J\n")).contains('\x1b'));
    }
}
