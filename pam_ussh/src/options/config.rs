//! `pam_ussh.toml`: options for whatever the line leaves open, for all services (`[default]`) and for one (`[service.sudo]`).
//!
//! It is looked through whole each time: an unknown table or key, wherever it stands, is an error.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use ussh_core::trusted_file::read_trusted;

use super::line::Given;
use super::table::{Kind, OPTIONS, Spec};
use super::{AccountOptions, AuthOptions, FromLine, OptionError, Origin, Problem, SessionOptions};

/// Where the file is looked for when a line names none.
pub const DEFAULT_CONFIG: &str = "/etc/ussh/pam_ussh.toml";

/// Longest file, in bytes.
const MAX_FILE: usize = 64 * 1024;

/// A file, read and found to hold nothing but options of ours.
#[derive(Clone, Debug)]
pub struct Config {
    default: Table,
    services: BTreeMap<String, Table>,
}

type Table = BTreeMap<&'static str, Given>;

impl Config {
    /// Reads a file that root alone can change.
    /// # Errors
    /// [`OptionError`]
    pub fn read(path: &Path) -> Result<Self, OptionError> {
        let data = read_trusted(path, MAX_FILE).map_err(|error| Problem::File(error.to_string()).on_line())?;
        Self::of_file(path, &data)
    }

    fn of_file(path: &Path, data: &[u8]) -> Result<Self, OptionError> {
        let text = std::str::from_utf8(data).map_err(|_| Place::file(path).error(Problem::File("not UTF-8".into())))?;
        // TOML has no end of its own: what is half written reads as less, and demands less.
        if !text.ends_with('\n') {
            let what =
                "it is empty, or its last line has no end: is it half written? Put it in place whole, by a rename";
            return Err(Place::file(path).error(Problem::File(what.into())));
        }
        Self::parse(path, text)
    }

    /// The same; `None` if there is nothing of this name. A link that leads nowhere is something.
    pub(super) fn read_if_present(path: &Path) -> Result<Option<Self>, OptionError> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            _ => Self::read(path).map(Some),
        }
    }

    /// From its text. `path` is for errors.
    /// # Errors
    /// [`OptionError`]
    pub fn parse(path: &Path, text: &str) -> Result<Self, OptionError> {
        let top = Place::file(path);
        let document = DeTable::parse(text).map_err(|error| top.error(Problem::File(one_line(&error, text))))?;
        let mut config = Config { default: Table::new(), services: BTreeMap::new() };
        for (name, value) in document.get_ref() {
            match name.get_ref().as_ref() {
                "default" => config.default = read_table(&top.table("default"), value)?,
                "service" => {
                    for (service, value) in top.as_table("service", value)? {
                        let table = read_table(&top.table(&format!("service.{}", service.get_ref())), value)?;
                        config.services.insert(service.get_ref().clone().into_owned(), table);
                    }
                }
                other => {
                    let is_table = value.get_ref().is_table();
                    let write =
                        if is_table { "[default] or [service.NAME]" } else { "it below [default] or [service.NAME]" };
                    return Err(top.error(Problem::Misnamed { name: other.into(), write: write.into() }));
                }
            }
        }
        Ok(config)
    }

    /// Looks at every value, as a line of each service would that says nothing else. For tools: a hook looks at those of its own service only.
    /// # Errors
    /// [`OptionError`]. Not for options that contradict each other, or lack one that the line may give.
    pub fn check(&self) -> Result<(), OptionError> {
        let services = self.services.keys().map(String::as_str);
        for service in services.chain([""]) {
            let results = [
                AuthOptions::parse_with(service, Some(&[]), Some(self)).map(drop),
                AccountOptions::parse_with(service, Some(&[]), Some(self)).map(drop),
                SessionOptions::parse_with(service, Some(&[]), Some(self)).map(drop),
            ];
            for result in results {
                match result {
                    Err(OptionError { problem: Problem::Contradiction { .. }, .. }) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The names of all services that have a table.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// The one that wins first.
    pub(super) fn tables_of(&self, service: &str) -> impl Iterator<Item = &Table> {
        self.services.get(service).into_iter().chain([&self.default])
    }
}

/// A place in a file.
struct Place<'a> {
    path: &'a Path,
    table: String,
}

impl<'a> Place<'a> {
    fn file(path: &'a Path) -> Self {
        Place { path, table: String::new() }
    }

    fn table(&self, table: &str) -> Self {
        Place { path: self.path, table: table.into() }
    }

    fn origin(&self) -> Origin {
        Origin::File { path: PathBuf::from(self.path), table: self.table.clone() }
    }

    fn error(&self, problem: Problem) -> OptionError {
        OptionError { origin: self.origin(), problem }
    }

    fn as_table<'t, 'i>(&self, name: &str, value: &'t Spanned<DeValue<'i>>) -> Result<&'t DeTable<'i>, OptionError> {
        value.get_ref().as_table().ok_or_else(|| self.error(Problem::Value(name.into(), "a table")))
    }
}

fn read_table(place: &Place<'_>, value: &Spanned<DeValue<'_>>) -> Result<Table, OptionError> {
    let mut table = Table::new();
    for (key, value) in place.as_table(&place.table, value)? {
        let key = key.get_ref().as_ref();
        let spec = Spec::by_key(key).ok_or_else(|| place.error(unknown(key)))?;
        let value = read_value(spec, value.get_ref()).map_err(|what| place.error(Problem::Value(key.into(), what)))?;
        table.insert(spec.name, Given { value, origin: place.origin() });
    }
    Ok(table)
}

/// As a line writes it; a flag as `yes` or `no`, so that one service can take back what the default says.
fn read_value(spec: &Spec, value: &DeValue<'_>) -> Result<String, &'static str> {
    match spec.kind {
        Kind::Text => {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or("a string that is not empty")
        }
        Kind::Names => read_names(value).ok_or("an array of names, none of them empty or with a comma in it"),
        Kind::YesNo | Kind::Flag => match value.as_bool() {
            Some(true) => Ok("yes".into()),
            Some(false) => Ok("no".into()),
            None => Err("true or false"),
        },
        Kind::Time => {
            let seconds = value.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
            seconds.filter(|n| *n > 0).map(|n| n.to_string()).ok_or("an integer above 0")
        }
    }
}

fn read_names(value: &DeValue<'_>) -> Option<String> {
    let names: Option<Vec<&str>> = value.as_array()?.iter().map(|name| name.get_ref().as_str()).collect();
    let names = names.filter(|names| !names.is_empty() && !names.iter().any(|n| n.is_empty() || n.contains(',')))?;
    Some(names.join(","))
}

/// A key that is none; if it is what a line calls it, with what to write.
fn unknown(key: &str) -> Problem {
    match OPTIONS.iter().find(|spec| spec.in_file && spec.name == key) {
        Some(spec) => Problem::Misnamed { name: key.into(), write: format!("{}_seconds = (an integer)", spec.name) },
        None => Problem::Unknown(key.into()),
    }
}

/// The parser's words on one line, without the text that it shows.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    format!("line {line}: {}", error.message().replace('\n', ", "))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
