//! Options as they are given: the arguments of a line, what the file adds, and a typed look at each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::config::{Config, DEFAULT_CONFIG};
use super::table::{Kind, OPTIONS, Spec};
use super::{Facility, OptionError, Origin, Problem};
use crate::sshd::SERVICE;

/// A value as a line writes it (a flag's: `yes` or `no`), and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub value: String,
    pub origin: Origin,
}

/// The options that have not been asked for yet, by their names on a line. Each is for this facility, and has a value.
#[derive(Debug)]
pub struct Options(BTreeMap<&'static str, Given>);

/// Where the options come from that a line leaves open.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// From the file that `config=` names, or else from the usual one, if there is one.
    Usual,
    /// From this one, whatever `config=` says.
    Read(Option<&'a Config>),
}

/// Options of one facility, made of what is given.
pub trait Facet: Sized {
    /// Which.
    const FACILITY: Facility;
    /// Takes what is its own out of `given`.
    /// # Errors
    /// [`OptionError`]
    fn take(given: &mut Options) -> Result<Self, OptionError>;
}

/// How the options of every facility are read.
pub trait FromLine: Facet {
    /// From the arguments as libpam splits them (`None`: one was no text), and from the file for what they leave open.
    /// # Errors
    /// [`OptionError`]
    fn parse(service: &str, arguments: Option<&[String]>) -> Result<Self, OptionError> {
        read(service, arguments, Source::Usual)
    }

    /// As [`Self::parse`], with this file whatever `config=` says; `None`: with none.
    /// # Errors
    /// [`OptionError`]
    fn parse_with(service: &str, arguments: Option<&[String]>, config: Option<&Config>) -> Result<Self, OptionError> {
        read(service, arguments, Source::Read(config))
    }
}

impl<T: Facet> FromLine for T {}

/// A line that is not understood whole gives nothing.
fn read<T: Facet>(service: &str, arguments: Option<&[String]>, source: Source<'_>) -> Result<T, OptionError> {
    let mut given = Options::collect(T::FACILITY, service, arguments, source)?;
    let options = T::take(&mut given)?;
    given.finish()?;
    Ok(options)
}

impl Options {
    /// All that is given for this service: the line, then the file's table of the service, then its default table.
    pub(super) fn collect(
        facility: Facility,
        service: &str,
        arguments: Option<&[String]>,
        source: Source<'_>,
    ) -> Result<Self, OptionError> {
        let mut options = Options::split(facility, arguments)?;
        let file = options.path("config")?;
        let read;
        let config = match source {
            Source::Read(config) => config,
            Source::Usual => {
                read = match file {
                    Some(path) => Some(Config::read(&path)?),
                    None => Config::read_if_present(DEFAULT_CONFIG.as_ref())?,
                };
                read.as_ref()
            }
        };
        for table in config.iter().flat_map(|config| config.tables_of(service)) {
            options.add_below(facility, table);
        }
        options.demand_a_session_to_bind_to(service)?;
        Ok(options)
    }

    fn split(facility: Facility, arguments: Option<&[String]>) -> Result<Self, OptionError> {
        let mut options = BTreeMap::new();
        for argument in arguments.ok_or_else(|| Problem::NotText.on_line())? {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            let spec = Spec::by_name(name).ok_or_else(|| unknown(name).on_line())?;
            let value = check(spec, facility, value).map_err(Problem::on_line)?;
            let given = Given { value: value.into(), origin: Origin::Line };
            if options.insert(spec.name, given).is_some() {
                return Err(Problem::Repeated { name: spec.name }.on_line());
            }
        }
        Ok(Options(options))
    }

    /// sshd judges the certificate of the login that it opens: there is no older one. What stands in the file for all services is meant for those that can.
    fn demand_a_session_to_bind_to(&mut self, service: &str) -> Result<(), OptionError> {
        let Some(given) = self.0.get("bind_session").filter(|given| service == SERVICE && given.value == "yes") else {
            return Ok(());
        };
        if !matches!(&given.origin, Origin::File { table, .. } if table == "default") {
            return Err(OptionError { origin: given.origin.clone(), problem: NO_SESSION });
        }
        self.0.remove("bind_session");
        Ok(())
    }

    /// What is given already wins. The two ways to a list of principals are one option in this.
    fn add_below(&mut self, facility: Facility, table: &BTreeMap<&'static str, Given>) {
        let has_list = PRINCIPALS.iter().any(|name| self.0.contains_key(name));
        for (name, given) in table {
            let is_for = Spec::by_name(name).is_some_and(|spec| spec.is_for(facility));
            if is_for && !(has_list && PRINCIPALS.contains(name)) {
                self.0.entry(name).or_insert_with(|| given.clone());
            }
        }
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<Given> {
        self.0.remove(name)
    }

    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.take(name).map(|given| given.value)
    }

    /// `None`: neither said nor taken back.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.take(name).map(|given| given.value == FLAG)
    }

    pub fn path(&mut self, name: &'static str) -> Result<Option<PathBuf>, OptionError> {
        let Some(given) = self.take(name) else { return Ok(None) };
        let path = PathBuf::from(&given.value);
        if path.is_absolute() { Ok(Some(path)) } else { Err(given.is_not(name, "an absolute path")) }
    }

    pub fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        what: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, OptionError> {
        let Some(given) = self.take(name) else { return Ok(None) };
        match choices.iter().find(|(word, _)| *word == given.value) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => Err(given.is_not(name, what)),
        }
    }

    pub fn yes_or_no(&mut self, name: &'static str) -> Result<Option<bool>, OptionError> {
        self.choice(name, "yes or no", &[("yes", true), ("no", false)])
    }

    pub fn time(&mut self, name: &'static str) -> Result<Option<Duration>, OptionError> {
        let Some(given) = self.take(name) else { return Ok(None) };
        match ussh_core::clock::seconds(&given.value) {
            Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
            None => Err(given.is_not(name, "seconds above 0, or a number with s, m, h or d behind it")),
        }
    }

    /// [`Self::time`], at most [`LONGEST_WAIT`].
    pub fn wait(&mut self, name: &'static str) -> Result<Option<Duration>, OptionError> {
        let origin = self.0.get(name).map(|given| given.origin.clone());
        match (self.time(name)?, origin) {
            (Some(time), Some(origin)) if time > LONGEST_WAIT => {
                Err(OptionError { origin, problem: Problem::Value(name.into(), "at most 5m") })
            }
            (time, _) => Ok(time),
        }
    }

    /// After everything was asked for: what is left was forgotten by us, and must not be passed over.
    pub fn finish(self) -> Result<(), OptionError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, given)) => {
                Err(OptionError { origin: given.origin, problem: Problem::Unknown(name.to_owned()) })
            }
        }
    }
}

impl Given {
    /// The value is not one of this option.
    pub fn is_not(&self, name: &'static str, what: &'static str) -> OptionError {
        OptionError { origin: self.origin.clone(), problem: Problem::Value(name.into(), what) }
    }
}

const NO_SESSION: Problem = Problem::NotHere {
    name: "bind_session",
    text: "bind_session=yes in sshd: the login is opened there, and asks no agent; its place is auth and account of sudo and su",
};

/// The value of a flag that is there.
const FLAG: &str = "yes";
/// Of which one at most is given.
const PRINCIPALS: [&str; 2] = ["authorized_principals", "authorized_principals_file"];
/// An agent that takes longer is no agent, and who has not touched a key by then has left; sudo must end some time.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The shape: whether it may stand here, and whether there is a value where one must be and none where none is.
fn check<'a>(spec: &'static Spec, facility: Facility, value: Option<&'a str>) -> Result<&'a str, Problem> {
    if !spec.is_for(facility) {
        return Err(Problem::WrongFacility { name: spec.name, facilities: spec.facilities });
    }
    match (spec.kind, value) {
        (Kind::Flag, None) => Ok(FLAG),
        (Kind::Flag, Some(_)) => Err(Problem::NeedlessValue(spec.name.into())),
        (_, None | Some("")) => Err(Problem::NoValue(spec.name.into())),
        (_, Some(value)) => Ok(value),
    }
}

/// A name that is none; if it is the file's or nearly one of ours, with what to write.
fn unknown(name: &str) -> Problem {
    let write = match (Spec::by_key(name), name.strip_prefix("no_").and_then(Spec::by_name)) {
        (Some(spec), _) => format!("{}=", spec.name),
        (None, Some(spec)) if spec.kind == Kind::YesNo => format!("{}=no", spec.name),
        (None, _) => match OPTIONS.iter().find(|spec| folded(spec.name).eq(folded(name))) {
            Some(spec) if spec.kind == Kind::Flag => spec.name.to_owned(),
            Some(spec) => format!("{}=", spec.name),
            None => return Problem::Unknown(name.into()),
        },
    };
    Problem::Misnamed { name: name.into(), write }
}

/// A name without what is easily mistaken in it: `cafile`, `max-age`, `revoked_key`.
fn folded(name: &str) -> impl Iterator<Item = char> {
    let name = name.strip_suffix('s').unwrap_or(name);
    name.chars().filter(|c| !matches!(c, '_' | '-'))
}
