//! By which options a decision is taken: those that are given, or those of our line in the installed stack.

use std::path::Path;

use pam_ussh::terminal;
use serde::Serialize;

use crate::lint;
use crate::modules::is_ours;
use crate::pam::line;
use crate::pam::stack::{Facility, Handler, Kind, Stack};

/// The options, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// As libpam hands them over; none if one is no text.
    pub arguments: Option<Vec<String>>,
    /// Where they come from, or why these are the defaults.
    pub from: String,
    /// The file with options that is read besides, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether the service judges by them, as far as is known: they are given, or its line was found.
    pub are_the_services: bool,
    /// Whether the module that this line calls is not on this host, so that the service does not judge at all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub module_is_missing: bool,
}

impl Judged {
    /// By those of the command line, each in brackets or not, as a stack file writes them.
    pub fn given(arguments: &[String]) -> Self {
        let arguments = arguments.iter().map(|argument| unbracketed(argument)).collect();
        Judged::new(Some(arguments), "the command line".into(), true)
    }

    /// By those of our one line for this facility in the stack of `service`, which lies in `folder`. Where there is no such line by the defaults.
    pub fn installed(folder: &Path, service: &str, facility: Facility) -> Self {
        match find(folder, service, facility) {
            Ok((arguments, from, module)) => {
                let module_is_missing = lint::is_missing_module(&module);
                Judged { module_is_missing, ..Judged::new(arguments, from, true) }
            }
            Err(why) => Judged::new(Some(Vec::new()), format!("the defaults: {why}"), false),
        }
    }

    fn new(arguments: Option<Vec<String>>, from: String, are_the_services: bool) -> Self {
        let file =
            terminal::config_files(arguments.as_deref()).into_iter().find(|file| file.symlink_metadata().is_ok());
        Judged {
            file: file.map(|file| file.display().to_string()),
            arguments,
            from,
            are_the_services,
            module_is_missing: false,
        }
    }

    /// For people.
    pub fn line(&self) -> String {
        let options = match self.arguments.as_deref() {
            None => "options that are no text".into(),
            Some([]) => "no options".into(),
            Some(arguments) => arguments.iter().map(|argument| bracketed(argument)).collect::<Vec<_>>().join(" "),
        };
        let file = self.file.as_ref().map(|file| format!(", and {file}")).unwrap_or_default();
        format!("judged by {options} (from {}){file}", self.from)
    }
}

/// The arguments, where they stand, and the module's path as written.
type Found = (Option<Vec<String>>, String, String);

/// Our line, or why there is none to go by.
fn find(folder: &Path, service: &str, facility: Facility) -> Result<Found, String> {
    if service.is_empty() || service.contains('/') {
        return Err(format!("`{service}` is no name of a stack in {}", folder.display()));
    }
    let file = folder.join(service);
    let shown = file.display();
    let stacks = Stack::read(&file).map_err(|error| format!("{shown}: {error}"))?;
    let stack = stacks.first().ok_or_else(|| format!("{shown} holds no stack"))?;
    if let Some(at) = &stack.given_up {
        return Err(format!("{at}: libpam cannot read the stack of {service}"));
    }
    let ours: Vec<_> = stack.chain(facility).iter().filter(|line| is_ours(line) && line.kind == Kind::Module).collect();
    match (ours.as_slice(), &stack.hidden) {
        ([_] | [], Some(hidden)) => Err(format!("{}: {}", hidden.at, hidden.what)),
        (ours, _) => one_of(ours, &shown, facility),
    }
}

fn one_of(ours: &[&Handler], shown: &impl std::fmt::Display, facility: Facility) -> Result<Found, String> {
    match ours {
        [] => Err(format!("{shown} has no {facility} line of pam_ussh")),
        [one] => Ok((one.text_arguments(), one.at.to_string(), one.module.clone())),
        several => {
            let places: Vec<String> = several.iter().map(|line| line.at.to_string()).collect();
            Err(format!("{shown} has {} {facility} lines of pam_ussh ({})", several.len(), places.join(", ")))
        }
    }
}

/// `[cue_prompt=Touch the key]` as libpam would hand it over.
fn unbracketed(argument: &str) -> String {
    if !argument.starts_with('[') {
        return argument.to_owned();
    }
    match line::words(argument.as_bytes()).as_slice() {
        [one] => String::from_utf8_lossy(one).into_owned(),
        _ => argument.to_owned(),
    }
}

/// As a line would have to write it.
fn bracketed(argument: &str) -> String {
    let plain = !argument.is_empty() && !argument.starts_with('[') && !argument.contains([' ', '\t', '\n']);
    if plain { argument.to_owned() } else { format!("[{}]", argument.replace(']', "\\]")) }
}
