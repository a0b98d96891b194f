//! Our lines at the end of somebody's ssh_config, between two marks; and that file again as it was.
//!
//! At the end, since the first word on a matter counts in ssh_config: whatever the file says already holds.

/// Begins the first of our lines; what follows says what else of the file is ours.
const BEGIN: &str = "# ussh --write-config begins here; ussh --remove-config takes it out";
/// The file had no newline at its end.
const WITH_NEWLINE: &str = " with the newline before it";
/// There was no file.
const WITH_FILE: &str = " with the file";
/// The last of our lines.
const END: &str = "# ussh --write-config ends here";

/// A file that somebody has cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A mark without the other.
    #[error("line {0}: one of the two lines that mark what ussh wrote is missing")]
    HalfMarked(usize),
    /// More than one pair.
    #[error("line {0}: what ussh wrote is there twice")]
    Twice(usize),
}

/// Our lines in a file.
struct Found {
    /// Of the first.
    start: usize,
    /// Behind the last.
    end: usize,
    newline_is_ours: bool,
    file_is_ours: bool,
}

/// The file with our lines: where they are already, else at its end. `None` for a file that is not there.
/// # Errors
/// [`Broken`]
pub fn insert(file: Option<&[u8]>, include: &str) -> Result<Vec<u8>, Broken> {
    let text = file.unwrap_or_default();
    // `Match all`: the last section of the file ends here.
    let lines = |what: &str| format!("{BEGIN}{what}\nMatch all\nInclude {include}\n{END}\n");
    let (before, what, after) = match find(text)? {
        Some(found) => {
            let what = match (found.file_is_ours, found.newline_is_ours) {
                (true, _) => WITH_FILE,
                (false, true) => WITH_NEWLINE,
                (false, false) => "",
            };
            (text.get(..found.start), what, text.get(found.end..))
        }
        None if file.is_none() => (None, WITH_FILE, None),
        None if text.is_empty() || text.ends_with(b"\n") => (Some(text), "", None),
        None => {
            let whole = [text, b"\n", lines(WITH_NEWLINE).as_bytes()].concat();
            return Ok(whole);
        }
    };
    Ok([before.unwrap_or_default(), lines(what).as_bytes(), after.unwrap_or_default()].concat())
}

/// The file without our lines; `None`: there was none before.
/// # Errors
/// [`Broken`]
pub fn remove(text: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
    let Some(found) = find(text)? else { return Ok(Some(text.to_vec())) };
    let (mut before, after) = (text.get(..found.start).unwrap_or_default(), text.get(found.end..).unwrap_or_default());
    // What somebody has written below goes on standing on a line of its own.
    if found.newline_is_ours && after.is_empty() {
        before = before.strip_suffix(b"\n").unwrap_or(before);
    }
    let rest = [before, after].concat();
    Ok((!found.file_is_ours || !rest.is_empty()).then_some(rest))
}

fn find(text: &[u8]) -> Result<Option<Found>, Broken> {
    let mut open: Option<(usize, Found)> = None;
    let mut whole: Option<Found> = None;
    let mut at = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = number + 1;
        let words = line.trim_ascii();
        if words.starts_with(BEGIN.as_bytes()) {
            let what = words.get(BEGIN.len()..).unwrap_or_default();
            if whole.is_some() {
                return Err(Broken::Twice(number));
            }
            if let Some((first, _)) = open {
                return Err(Broken::HalfMarked(first));
            }
            let found = Found {
                start: at,
                end: at,
                newline_is_ours: what == WITH_NEWLINE.as_bytes(),
                file_is_ours: what == WITH_FILE.as_bytes(),
            };
            open = Some((number, found));
        } else if words == END.as_bytes() {
            let (_, found) = open.take().ok_or(Broken::HalfMarked(number))?;
            whole = Some(Found { end: at + line.len(), ..found });
        }
        at += line.len();
    }
    match open {
        Some((number, _)) => Err(Broken::HalfMarked(number)),
        None => Ok(whole),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn inserted(file: Option<&[u8]>) -> Vec<u8> {
        insert(file, "/etc/ussh/ssh_config").unwrap()
    }

    #[test]
    fn what_was_there_comes_back_byte_for_byte() {
        for file in [
            &b""[..],
            b"\n",
            b"Host x\n",
            b"Host x",
            b"Host x\r\n  User y\r\n",
            b"Host x\r\n  User y",
            b"\xff\xfe\0",
            b"# \xc3\xa9\n\n\n",
            b"Host x\r",
        ] {
            let with = inserted(Some(file));
            assert!(find(&with).unwrap().is_some() && with.starts_with(file), "{file:?}");
            assert_eq!(remove(&with).unwrap().as_deref(), Some(file), "{file:?}");
        }
        assert_eq!(remove(&inserted(None)).unwrap(), None, "there was no file");
    }

    #[test]
    fn twice_is_once_and_another_include_takes_the_place_of_the_first() {
        for file in [Some(&b"Host x"[..]), Some(b"Host x\n"), None] {
            let once = inserted(file);
            assert_eq!(insert(Some(&once), "/etc/ussh/ssh_config").unwrap(), once);
            let other = insert(Some(&once), "/other").unwrap();
            assert_eq!(remove(&other).unwrap().as_deref(), file);
        }
    }

    #[test]
    fn what_was_written_above_and_below_since_stays() {
        for (file, above, below, wanted) in [
            (Some(&b"a"[..]), &b"above\n"[..], &b"below\n"[..], Some(&b"above\na\nbelow\n"[..])),
            (Some(b"a"), b"above\n", b"", Some(b"above\na")),
            (Some(b"a\n"), b"", b"below", Some(b"a\nbelow")),
            (None, b"", b"below", Some(b"below")),
            (None, b"above\n", b"", Some(b"above\n")),
        ] {
            let with = [above, inserted(file).as_slice(), below].concat();
            assert_eq!(remove(&with).unwrap().as_deref(), wanted);
        }
        // By an editor that ends all lines alike.
        let with = String::from_utf8(inserted(Some(b"a\n"))).unwrap().replace('\n', "\r\n");
        assert_eq!(remove(with.as_bytes()).unwrap().as_deref(), Some(&b"a\r\n"[..]));
    }

    #[test]
    fn a_file_in_which_a_mark_is_missing_or_double_is_left_alone() {
        let whole = String::from_utf8(inserted(Some(b"a\n"))).unwrap();
        let without =
            |mark: &str| whole.lines().filter(|line| !line.starts_with(mark)).fold(String::new(), |t, l| t + l + "\n");
        for (text, wanted) in [
            (without(BEGIN), Broken::HalfMarked(4)),
            (without(END), Broken::HalfMarked(2)),
            (format!("{whole}{whole}"), Broken::Twice(7)),
            (without(END) + &whole, Broken::HalfMarked(2)),
        ] {
            assert_eq!(insert(Some(text.as_bytes()), "/x"), Err(wanted), "{text}");
            assert_eq!(remove(text.as_bytes()), Err(wanted), "{text}");
        }
    }
}
