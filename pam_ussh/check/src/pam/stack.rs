//! A service's chains of modules, with what is included (libpam/pam_handlers.c, with Debian's `@include`, 031_pam_include).

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::code::{Action, Actions};
use super::control::{self, Control};
use super::line::{self, Line};

/// Where installed stacks lie, and what they include.
pub const PAM_D: &str = "/etc/pam.d";

/// Longest stack file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// PAM_SUBSTACK_MAX_LEVEL. libpam 1.5 counts substacks only, 1.6 includes too.
const MAX_DEPTH: usize = 16;

/// The first field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Facility {
    /// `auth`
    Auth,
    /// `account`
    Account,
    /// `password`
    Password,
    /// `session`
    Session,
}

impl Facility {
    /// In the order in which an application calls them.
    pub const ALL: [Facility; 4] = [Facility::Auth, Facility::Account, Facility::Password, Facility::Session];

    /// As in a line.
    pub fn name(self) -> &'static str {
        match self {
            Facility::Auth => "auth",
            Facility::Account => "account",
            Facility::Password => "password",
            Facility::Session => "session",
        }
    }

    fn parse(word: &[u8]) -> Option<Self> {
        Facility::ALL.into_iter().find(|facility| word.eq_ignore_ascii_case(facility.name().as_bytes()))
    }
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: Rc<Path>,
    /// From 1. 0: the file as a whole.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// What a line of a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It calls a module.
    Module,
    /// It cannot be read, and refuses (PAM_HT_MUST_FAIL).
    MustFail,
    /// `substack`: what it holds follows, one level deeper (PAM_HT_SUBSTACK).
    Substack,
}

/// A line of a chain.
#[derive(Clone, Debug)]
pub struct Handler {
    /// Where it stands.
    pub at: Place,
    /// What it is.
    pub kind: Kind,
    /// How many substacks it stands in.
    pub level: usize,
    /// The control field as written, without brackets.
    pub control: String,
    /// What it says.
    pub actions: Actions,
    /// The module's path as written.
    pub module: String,
    /// As libpam hands them over.
    pub arguments: Vec<Vec<u8>>,
    /// `-auth …`: that the module is missing is not logged.
    pub silent: bool,
}

impl Handler {
    /// The module's file name without `.so` and folder.
    pub fn module_name(&self) -> &str {
        let name = self.module.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".so").unwrap_or(name)
    }

    /// `None`: an argument is no text.
    pub fn text_arguments(&self) -> Option<Vec<String>> {
        self.arguments.iter().map(|argument| String::from_utf8(argument.clone()).ok()).collect()
    }

    /// For people: its module, or what it is instead.
    pub fn label(&self) -> String {
        match self.kind {
            Kind::Module => self.module.clone(),
            Kind::MustFail => "a line that cannot be read".into(),
            Kind::Substack => format!("substack {}", self.module),
        }
    }
}

/// Something that libpam cannot read as it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// What, and what comes of it.
    pub what: String,
}

/// All of a service.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// PAM_SERVICE.
    pub service: String,
    chains: [Vec<Handler>; 4],
    /// In the order of the lines.
    pub problems: Vec<Problem>,
    /// libpam refuses the whole service because of this line.
    pub given_up: Option<Place>,
    /// What is included in this line may be read by others, libpam among them, but not by whoever runs this: what it holds is missing here.
    pub hidden: Option<Problem>,
    /// Files that were read, the service's own first.
    pub files: Vec<Rc<Path>>,
}

impl Stack {
    /// One facility's lines, in the order in which they run.
    pub fn chain(&self, facility: Facility) -> &[Handler] {
        self.chains.get(facility as usize).map_or(&[], Vec::as_slice)
    }

    /// Reads the stacks of a file: one, named like the file; or all that a `pam.conf` holds, in the order of their first lines.
    /// # Errors
    /// The file itself cannot be read. Files that it includes are problems of the stack.
    pub fn read(file: &Path) -> io::Result<Vec<Stack>> {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text = read_file(file)?;
        let file: Rc<Path> = file.into();
        if name != "pam.conf" {
            let mut reader = Reader::new(name, &file);
            reader.text(&file, &text, None, 0);
            return Ok(vec![reader.stack]);
        }
        let mut services: Vec<String> = Vec::new();
        for line in line::assemble(&text).lines {
            let service = line::words(&line.text).first().map(|word| text_of(word).to_lowercase()).unwrap_or_default();
            if !services.contains(&service) {
                services.push(service);
            }
        }
        let stack_of = |service: String| {
            let mut reader = Reader::new(service.clone(), &file);
            reader.service_field = Some(service);
            reader.text(&file, &text, None, 0);
            reader.stack
        };
        Ok(services.into_iter().map(stack_of).collect())
    }
}

struct Reader {
    stack: Stack,
    /// Where to look for what is included.
    folders: Vec<PathBuf>,
    /// In a pam.conf: the service whose lines count. Files that it includes have no such field.
    service_field: Option<String>,
    /// Being read just now, the outermost first.
    open: Vec<Rc<Path>>,
}

/// libpam refuses the service as a whole.
struct GivenUp;

impl Reader {
    fn new(service: String, file: &Path) -> Self {
        let beside = match file.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => PathBuf::from("/"),
        };
        let folders = vec![beside.clone(), beside.join("pam.d"), PathBuf::from(PAM_D)];
        Reader { stack: Stack { service, ..Stack::default() }, folders, service_field: None, open: Vec::new() }
    }

    fn text(&mut self, file: &Rc<Path>, text: &[u8], wanted: Option<Facility>, level: usize) {
        if self.included(file, text, wanted, level).is_err() && self.stack.given_up.is_none() {
            self.stack.given_up = Some(Place { file: file.clone(), line: 0 });
        }
    }

    fn included(
        &mut self,
        file: &Rc<Path>,
        text: &[u8],
        wanted: Option<Facility>,
        level: usize,
    ) -> Result<(), GivenUp> {
        let read = line::assemble(text);
        // A file that is included once for each facility is complained of once.
        if !self.stack.files.contains(file) {
            for complaint in &read.complaints {
                self.problem(&Place { file: file.clone(), line: complaint.number }, complaint.what.to_owned());
            }
            self.stack.files.push(file.clone());
        }
        self.open.push(file.clone());
        let done = read.lines.iter().try_for_each(|line| self.line(file, line, wanted, level));
        self.open.pop();
        done?;
        if read.broken_off { Err(GivenUp) } else { Ok(()) }
    }

    fn line(&mut self, file: &Rc<Path>, line: &Line, wanted: Option<Facility>, level: usize) -> Result<(), GivenUp> {
        let at = Place { file: file.clone(), line: line.number };
        let mut words = line::words(&line.text).into_iter();
        if let (Some(service), 1) = (&self.service_field, self.open.len()) {
            let of = words.next().map(|word| text_of(&word)).unwrap_or_default();
            if !of.eq_ignore_ascii_case(service) {
                return Ok(());
            }
        }
        let first = words.next().unwrap_or_default();
        let (silent, word) = match first.strip_prefix(b"-") {
            Some(word) => (true, word),
            None => (false, first.as_slice()),
        };
        if word.eq_ignore_ascii_case(b"@include") {
            return self.debian_include(&at, words.next(), wanted, level);
        }
        let facility = Facility::parse(word);
        if facility.is_some() && wanted.is_some() && facility != wanted {
            return Ok(());
        }
        let mut must_fail = false;
        if facility.is_none() {
            must_fail = true;
            let instead = wanted.unwrap_or(Facility::Auth);
            let word = text_of(word);
            self.problem(&at, format!("`{word}` is none of auth, account, password, session: libpam takes the line for an `{instead}` line that refuses everybody"));
        }
        let facility = facility.or(wanted).unwrap_or(Facility::Auth);
        let written = words.next();
        if written.is_none() {
            must_fail = true;
            self.problem(&at, format!("no control field: the `{facility}` line refuses everybody"));
        }
        let written = written.unwrap_or_default();
        let (control, complaint) = control::parse(&written);
        if let (Some(complaint), false) = (complaint, written.is_empty()) {
            self.problem(
                &at,
                format!(
                    "control `{}`: {complaint}; libpam makes it `default=bad`, which refuses everybody",
                    text_of(&written)
                ),
            );
        }
        let module = words.next();
        let mut handler = Handler {
            at: at.clone(),
            kind: Kind::Module,
            level,
            control: text_of(&written),
            actions: Actions::new(&[], Action::Bad),
            module: module.as_deref().map(text_of).unwrap_or_default(),
            arguments: words.collect(),
            silent,
        };
        match control {
            Control::Actions(actions) => handler.actions = actions,
            Control::Include | Control::Substack => {
                let substack = control == Control::Substack;
                if substack {
                    self.push(facility, Handler { kind: Kind::Substack, ..handler.clone() });
                }
                if self.load(&at, module.as_deref(), Some(facility), level + usize::from(substack)) {
                    return Ok(());
                }
                must_fail = true;
            }
        }
        if module.is_none() && !must_fail {
            must_fail = true;
            self.problem(&at, format!("no module: the `{facility}` line refuses everybody"));
        }
        if must_fail {
            handler.kind = Kind::MustFail;
        }
        self.push(facility, handler);
        Ok(())
    }

    /// Of all facilities unless one is wanted. Without a facility there is no chain that could be made to fail: libpam gives up.
    fn debian_include(
        &mut self,
        at: &Place,
        name: Option<Vec<u8>>,
        wanted: Option<Facility>,
        level: usize,
    ) -> Result<(), GivenUp> {
        if self.load(at, name.as_deref(), wanted, level) {
            return Ok(());
        }
        let Some(facility) = wanted else {
            self.stack.given_up.get_or_insert_with(|| at.clone());
            return Err(GivenUp);
        };
        // 031_pam_include jumps over what fills `actions`: what the line before it left there is what counts.
        self.problem(
            at,
            format!("an @include that fails, in a file that is included for `{facility}`: what Debian's libpam does then is undefined, and it may pass over it"),
        );
        let module = name.as_deref().map(text_of).unwrap_or_default();
        self.push(
            facility,
            Handler {
                at: at.clone(),
                kind: Kind::MustFail,
                level,
                control: "@include".into(),
                actions: Actions::new(&[], Action::Bad),
                module,
                arguments: Vec::new(),
                silent: false,
            },
        );
        Ok(())
    }

    /// Whether it could be had; a problem if not.
    fn load(&mut self, at: &Place, name: Option<&[u8]>, wanted: Option<Facility>, level: usize) -> bool {
        let Some(name) = name.map(text_of) else {
            self.problem(at, "an include of no file: libpam refuses everybody".into());
            return false;
        };
        if self.open.len() >= MAX_DEPTH || level >= MAX_DEPTH {
            self.problem(
                at,
                format!("`{name}` is included more than {MAX_DEPTH} levels deep: libpam refuses everybody"),
            );
            return false;
        }
        let candidates: Vec<PathBuf> = if name.starts_with('/') {
            vec![name.clone().into()]
        } else {
            self.folders.iter().map(|f| f.join(&name)).collect()
        };
        let found = candidates.iter().map(|path| (path, read_file(path))).find(|(_, read)| match read {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
        match found {
            None => {
                self.problem(at, format!("`{name}` is included and not there: libpam refuses everybody"));
                false
            }
            Some((path, Err(error))) if error.kind() == io::ErrorKind::PermissionDenied => {
                let what = format!("`{name}` is included and not for you to read ({})", path.display());
                self.stack.hidden.get_or_insert_with(|| Problem { at: at.clone(), what });
                true
            }
            Some((path, Err(error))) => {
                self.problem(at, format!("`{name}` is included and cannot be read ({}: {error})", path.display()));
                false
            }
            Some((path, Ok(text))) => {
                let path: Rc<Path> = path.as_path().into();
                if self.open.iter().any(|open| same_file(open, &path)) {
                    self.problem(at, format!("`{name}` includes itself: libpam gives the service up"));
                    return false;
                }
                self.included(&path, &text, wanted, level).is_ok()
            }
        }
    }

    fn push(&mut self, facility: Facility, handler: Handler) {
        if let Some(chain) = self.stack.chains.get_mut(facility as usize) {
            chain.push(handler);
        }
    }

    fn problem(&mut self, at: &Place, what: String) {
        let problem = Problem { at: at.clone(), what };
        if !self.stack.problems.contains(&problem) {
            self.stack.problems.push(problem);
        }
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let special = || io::Error::other("not a regular file");
    // To open a FIFO would wait for somebody who writes.
    if !fs::metadata(path)?.is_file() {
        return Err(special());
    }
    let file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(special());
    }
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
