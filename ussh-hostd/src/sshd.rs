//! sshd on this host: whether its configuration is good, what it comes to, and having it read anew.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ussh_core::escape::escape;

use crate::child::{Bounds, ChildError, program, run};
use crate::sshd_processes::{self, Sshd};

const SSHD: &str = "/usr/sbin/sshd";
/// What it goes by unless `-f` names another one.
const CONFIG: &str = "/etc/ssh/sshd_config";
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(30), bytes: 1 << 20 };
/// How long sshd may take to listen again.
const RELOAD: Duration = Duration::from_secs(20);
/// How long one may be looked for that is just becoming itself anew.
const FIND: Duration = Duration::from_secs(3);
/// From one look at it to the next.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is wrong with sshd.
#[derive(Debug, thiserror::Error)]
pub enum SshdError {
    /// `sshd -t` fails.
    #[error("sshd's configuration is not good: {0}")]
    Test(ChildError),
    /// What is in its files is not what it goes by.
    #[error("sshd does not go by {file}: `sshd -T` says {keyword} {found}, not {wanted}. Its configuration needs the line `Include {}/*.conf`, before any {keyword} of its own", folder.display())]
    Ignored {
        /// Our file.
        file: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// In small letters.
        keyword: &'static str,
        /// What holds.
        found: String,
        /// What should.
        wanted: String,
    },
    /// Nothing includes our file.
    #[error("sshd does not read {file}: its configuration needs the line `Include {}/*.conf`, at the top of {CONFIG}", folder.display())]
    NotIncluded {
        /// Our file.
        file: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The one that runs was started with `-f`.
    #[error(
        "the sshd that runs (process {pid}) goes by {file} (`-f`), and not by {CONFIG}, which is the one that `sshd -T` and this program look at: move its settings there, and start it without `-f`"
    )]
    OtherConfig {
        /// Process ID.
        pid: u32,
        /// Its configuration file.
        file: String,
    },
    /// It ended when it was to read its configuration anew.
    #[error("sshd has ended instead of reading its configuration anew: look at its log, and start it")]
    Died,
    /// It does not come back.
    #[error("sshd does not listen again after {} s", RELOAD.as_secs())]
    Hangs,
    /// One runs, by process ID and start time, but which of its files are its own is not known.
    #[error(
        "sshd runs (process {}), but neither does its pid file name it nor does it listen on a port of its configuration, so that it cannot be reloaded with certainty: restart it, or set `PidFile` and `Port` in sshd_config to what it was started with",
        pids(_0)
    )]
    Unclear(Vec<(u32, u64)>),
    /// It could not be told.
    #[error("sshd cannot be told: {0}")]
    Signal(std::io::Error),
}

fn pids(processes: &[(u32, u64)]) -> String {
    processes.iter().map(|(pid, _)| pid.to_string()).collect::<Vec<_>>().join(", ")
}

/// Its configuration as a whole, by `sshd -T`.
#[derive(Debug)]
pub struct Effective {
    settings: String,
    /// Patterns of its `Include` lines. `None`: it was not asked, or has not said it in words that are known here.
    includes: Option<Vec<String>>,
}

/// `sshd -t`.
/// # Errors
/// [`SshdError::Test`]
pub fn test() -> Result<(), SshdError> {
    run(&mut program(SSHD, ["-t"]), BOUNDS).and_then(|ended| ended.ok()).map(drop).map_err(SshdError::Test)
}

/// What its configuration comes to.
/// # Errors
/// [`SshdError::Test`]
pub fn effective() -> Result<Effective, SshdError> {
    let text = run(&mut program(SSHD, ["-T"]), BOUNDS).and_then(|ended| ended.ok()).map_err(SshdError::Test)?;
    Ok(Effective { settings: String::from_utf8_lossy(&text).into_owned(), includes: None })
}

/// The same, and what it includes.
/// # Errors
/// [`SshdError::Test`]
pub fn effective_and_includes() -> Result<Effective, SshdError> {
    let ended = run(&mut program(SSHD, ["-T", "-dd"]), BOUNDS).map_err(SshdError::Test)?;
    if !ended.status.success() {
        // Its own words, without what -dd adds.
        return effective();
    }
    let includes = includes(&ended.stderr());
    Ok(Effective { settings: String::from_utf8_lossy(&ended.stdout).into_owned(), includes })
}

/// From what `sshd -T -dd` says (servconf.c, load_server_config and process_server_config_line_depth), which begins with the file itself. Include lines of Match blocks are among them.
fn includes(said: &str) -> Option<Vec<String>> {
    if !said.starts_with("debug2: load_server_config: filename ") {
        return None;
    }
    let lines = said.lines().filter(|line| line.starts_with("debug2: "));
    Some(lines.filter_map(|line| Some(line.split_once(": new include ")?.1.to_owned())).collect())
}

impl Effective {
    /// All values of a keyword, which is written in small letters.
    pub fn values<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a str> {
        self.settings
            .lines()
            .filter_map(move |line| line.split_once(' ').filter(|(word, _)| *word == keyword))
            .map(|(_, rest)| rest.trim())
    }

    /// Whether `wanted` is among the values of a keyword that our file sets.
    /// # Errors
    /// [`SshdError::Ignored`]
    pub fn demand(&self, file: &Path, keyword: &'static str, wanted: &Path) -> Result<(), SshdError> {
        if self.values(keyword).any(|value| Path::new(value) == wanted) {
            return Ok(());
        }
        let found = self.values(keyword).collect::<Vec<_>>().join(" ");
        Err(SshdError::Ignored {
            file: file.into(),
            folder: file.parent().unwrap_or(Path::new("/")).into(),
            keyword,
            found: if found.is_empty() { "nothing".to_owned() } else { escape(found.as_bytes(), 256) },
            wanted: wanted.display().to_string(),
        })
    }

    /// Whether an Include line names our file, be it there yet or not: the settings alone might stand elsewhere. Nothing is refused on a guess.
    /// # Errors
    /// [`SshdError::NotIncluded`]
    pub fn demand_include(&self, file: &Path) -> Result<(), SshdError> {
        match &self.includes {
            Some(patterns) if !patterns.iter().any(|pattern| names(pattern, file)) => Err(SshdError::NotIncluded {
                file: file.into(),
                folder: file.parent().unwrap_or(Path::new("/")).into(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether what runs goes by the configuration that was looked at.
    /// # Errors
    /// [`SshdError::OtherConfig`]: none of those that would be reloaded does.
    pub fn demand_own_config(&self) -> Result<(), SshdError> {
        let (ours, others) = self.look();
        let sshds = if ours.is_empty() { others } else { ours };
        let elsewhere = |sshd: &Sshd| Some((sshd.pid, sshd.own_config().filter(|file| !is_same(file, CONFIG))?));
        let found: Option<Vec<(u32, PathBuf)>> = sshds.iter().map(elsewhere).collect();
        match found.unwrap_or_default().into_iter().next() {
            Some((pid, file)) => {
                Err(SshdError::OtherConfig { pid, file: escape(file.as_os_str().as_encoded_bytes(), 256) })
            }
            None => Ok(()),
        }
    }

    /// Has each running sshd of this configuration read it and its certificates anew, and waits until it listens again. False: none runs (one that is started for each connection needs nothing).
    /// # Errors
    /// [`SshdError`]
    pub fn reload(&self) -> Result<bool, SshdError> {
        let sshds = self.running()?;
        for sshd in &sshds {
            self.reload_one(sshd)?;
        }
        Ok(!sshds.is_empty())
    }

    /// The one that the pid file names, and those that listen on a port of this configuration.
    /// # Errors
    /// [`SshdError::Unclear`]: one runs, and is neither.
    pub fn running(&self) -> Result<Vec<Sshd>, SshdError> {
        let deadline = Instant::now() + FIND;
        loop {
            let (ours, others) = self.look();
            if !ours.is_empty() || others.is_empty() {
                return Ok(ours);
            }
            // One that becomes itself anew has neither a file nor a socket for a moment.
            if Instant::now() >= deadline {
                return Err(SshdError::Unclear(others.iter().map(|sshd| (sshd.pid, sshd.start_time)).collect()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look(&self) -> (Vec<Sshd>, Vec<Sshd>) {
        let named = self.pid_file().and_then(running);
        let (mut ours, others): (Vec<Sshd>, Vec<Sshd>) = sshd_processes::all()
            .into_iter()
            .filter(|sshd| named.as_ref().is_none_or(|named| named.pid != sshd.pid))
            .partition(|sshd| self.listens(sshd));
        ours.extend(named);
        (ours, others)
    }

    fn listens(&self, sshd: &Sshd) -> bool {
        let addresses = self.values("listenaddress").filter_map(|address| Some(address.rsplit_once(':')?.1));
        let ports: Vec<u16> = self.values("port").chain(addresses).filter_map(|port| port.parse().ok()).collect();
        sshd.sockets().is_ok_and(|sockets| sockets.iter().any(|socket| ports.contains(&socket.port)))
    }

    /// `None`: it writes none.
    fn pid_file(&self) -> Option<&Path> {
        self.values("pidfile").next().filter(|file| *file != "none").map(Path::new)
    }

    fn reload_one(&self, sshd: &Sshd) -> Result<(), SshdError> {
        let names_it = |file: &Path| running(file).is_some_and(|named| named.pid == sshd.pid);
        let file = self.pid_file().filter(|file| names_it(file)).map(|file| (file, written(file)));
        let sockets = sshd.sockets().unwrap_or_default();
        sshd.handle.signal(nix::libc::SIGHUP).map_err(SshdError::Signal)?;
        // It becomes itself anew under the same number, listens on sockets of its own, and then writes the file (sshd.c, sighup_restart and main).
        let is_anew = || match file {
            Some((file, before)) => written(file) != before && names_it(file),
            None => sshd.sockets().is_ok_and(|now| !now.is_empty() && now.is_disjoint(&sockets)),
        };
        let deadline = Instant::now() + RELOAD;
        while Instant::now() < deadline {
            if is_anew() {
                return Ok(());
            }
            if sshd.handle.wait_end(LOOK_EVERY).map_err(SshdError::Signal)? {
                return Err(SshdError::Died);
            }
        }
        Err(SshdError::Hangs)
    }
}

fn is_same(file: &Path, other: &str) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    real(file) == real(Path::new(other))
}

/// Whether a pattern of an Include line, as glob(7), fits this file. One with what is not looked at here (`[`, `\`) may.
fn names(pattern: &str, file: &Path) -> bool {
    let file = file.to_string_lossy();
    let parts = |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (patterns, file) = (parts(pattern), parts(&file));
    let fits = |(pattern, name): (&String, &String)| fits(pattern.as_bytes(), name.as_bytes());
    pattern.contains(['[', '\\']) || (patterns.len() == file.len() && patterns.iter().zip(&file).all(fits))
}

/// `*` and `?` in the name of one file.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|at| fits(rest, name.get(at..).unwrap_or_default())),
        (Some((b'?', pattern)), Some((_, name))) => fits(pattern, name),
        (Some((one, pattern)), Some((other, name))) => one == other && fits(pattern, name),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// What tells that a file was written anew. `None`: it is not there.
fn written(file: &Path) -> Option<(u64, i64, i64)> {
    std::fs::metadata(file).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()))
}

/// The sshd of a pid file, if it lives and is one.
fn running(file: &Path) -> Option<Sshd> {
    Sshd::of(std::fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn of(settings: &str) -> Effective {
        Effective { settings: settings.into(), includes: None }
    }

    const DROP_IN: &str = "/etc/ssh/sshd_config.d/ussh-host.conf";

    #[test]
    fn a_file_that_no_include_line_names_is_not_read() {
        let of = |said: &str| Effective { settings: String::new(), includes: includes(said) };
        // OpenSSH 9.2 and 10.0.
        let said = "debug2: load_server_config: filename /etc/ssh/sshd_config\ndebug2: load_server_config: done config len = 167\n\
                    debug2: parse_server_config_depth: config /etc/ssh/sshd_config len 167\n";
        let with = |pattern: &str| {
            let line = format!("debug2: /etc/ssh/sshd_config line 2: new include {pattern}\n");
            let none = format!("debug2: /etc/ssh/sshd_config line 2: no match for {pattern}\n");
            of(&format!("{said}{line}{none}")).demand_include(Path::new(DROP_IN))
        };
        for pattern in [
            "/etc/ssh/sshd_config.d/*.conf",
            DROP_IN,
            "/etc/ssh/sshd_config.d/*",
            "/etc/ssh/*.d/ussh-????.conf",
            "/etc/ssh/sshd_config.d//[a-z]*.conf",
        ] {
            with(pattern).unwrap();
        }
        for pattern in
            ["/etc/ssh/sshd_config.d/50-*.conf", "/etc/ssh/*.conf", "/etc/ssh/sshd_config.d", "/etc/ssh/x.d/*.conf"]
        {
            assert!(matches!(with(pattern), Err(SshdError::NotIncluded { .. })), "{pattern}");
        }
        let error = of(said).demand_include(Path::new(DROP_IN)).unwrap_err().to_string();
        assert!(
            error
                .contains("needs the line `Include /etc/ssh/sshd_config.d/*.conf`, at the top of /etc/ssh/sshd_config"),
            "{error}"
        );
        // Words that are not known tell nothing.
        for said in ["", "debug2: /etc/ssh/sshd_config line 2: new include /x\n", "debug3: other words\n"] {
            of(said).demand_include(Path::new(DROP_IN)).unwrap();
        }
    }

    #[test]
    fn what_sshd_goes_by_is_compared_with_what_was_written() {
        let effective =
            of("port 22\nhostcertificate /a-cert.pub\nhostcertificate /b-cert.pub\ntrustedusercakeys none\n");
        let file = Path::new("/etc/ssh/sshd_config.d/x.conf");
        effective.demand(file, "hostcertificate", Path::new("/b-cert.pub")).unwrap();
        for (keyword, said) in [
            ("trustedusercakeys", "says trustedusercakeys none, not /ca"),
            ("revokedkeys", "says revokedkeys nothing, not /ca"),
        ] {
            let error = effective.demand(file, keyword, Path::new("/ca")).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("`Include /etc/ssh/sshd_config.d/*.conf`"), "{error}");
        }
    }

    #[test]
    fn a_pid_file_that_names_something_else_is_no_sshds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sshd.pid");
        assert!(running(&file).is_none());
        std::fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert!(running(&file).is_none(), "a test is no sshd");
        let effective = of(&format!("pidfile {}\n", file.display()));
        assert!(!effective.reload().unwrap());
    }
}
