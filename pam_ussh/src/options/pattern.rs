//! `authorized_principals_file=`: a path for each account.

use std::path::{Path, PathBuf};

/// A path with `%u` (user name), `%U` (uid) and `%%` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    UserName,
    UserId,
}

impl FilePattern {
    /// `None`: not absolute, or a `%` with something else behind it.
    pub fn parse(pattern: &str) -> Option<Self> {
        if !Path::new(pattern).is_absolute() {
            return None;
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                '%' => match characters.next()? {
                    '%' => {
                        text.push('%');
                        continue;
                    }
                    'u' => Part::UserName,
                    'U' => Part::UserId,
                    _ => return None,
                },
                other => {
                    text.push(other);
                    continue;
                }
            };
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push(part);
        }
        parts.push(Part::Text(text));
        Some(FilePattern(parts))
    }

    /// The path for an account. `None`: the name would not stay one part of the path.
    pub fn expand(&self, name: &str, uid: u32) -> Option<PathBuf> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::UserName if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) => {
                    return None;
                }
                Part::UserName => path.push_str(name),
                Part::UserId => path.push_str(&uid.to_string()),
            }
        }
        Some(path.into())
    }
}
