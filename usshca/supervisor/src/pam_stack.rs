//! What in the CA's PAM stack lets in who proves nothing, and what keeps everybody out that was hardly meant to. Not a judgement of the stack as a whole: that is PAM's.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

mod nobody;
mod unread;

/// Where PAM looks for a service's stack, the administrator's folder first.
pub const FOLDERS: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];
/// Longest file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// Files within files, as libpam has it (PAM_SUBSTACK_MAX_LEVEL).
const MAX_DEPTH: usize = 16;
/// What lines are about.
const FACILITIES: [&str; 4] = ["auth", "account", "password", "session"];

/// What a line that decides who is let in turns out to be.
enum Found<'a> {
    Call(Call<'a>),
    /// What is wrong with it.
    Unread(String),
}

/// A line that calls a module.
struct Call<'a> {
    /// `account`, else `auth`.
    is_account: bool,
    /// As it is written.
    path: &'a str,
    /// Without folder and `.so`.
    module: &'a str,
    arguments: Vec<&'a str>,
    /// `-auth`: PAM is silent if it is not there, and goes on.
    may_be_missing: bool,
}

/// What an administrator should look at in a service's stack, includes followed. `own`: a folder that comes before PAM's. `as_root`: whether PAM is asked by uid 0.
pub fn warnings(service: &str, own: Option<&Path>, as_root: bool) -> Vec<String> {
    let folders: Vec<&Path> = own.into_iter().chain(FOLDERS.map(Path::new)).collect();
    warnings_in(&folders, service, as_root)
}

/// What a service leaves to PAM's service `other`, which must not decide who gets a certificate: all of it where it has no file, and the kind of which it has no line. `own` as in
/// [`warnings`]. `None`: nothing.
pub fn left_to_other(service: &str, own: Option<&Path>) -> Option<String> {
    let folders: Vec<&Path> = own.into_iter().chain(FOLDERS.map(Path::new)).collect();
    left_in(&folders, service)
}

fn left_in(folders: &[&Path], service: &str) -> Option<String> {
    // As libpam, which takes the first that there is; a folder of that name is a file without lines to it.
    let there = folders.iter().map(|folder| folder.join(service)).find(|path| path.exists());
    let Some(path) = there else {
        let path = folders.iter().map(|folder| folder.join(service)).find(|path| path.symlink_metadata().is_ok());
        let target = path.as_deref().and_then(|path| path.read_link().ok());
        let what = match target {
            Some(target) => format!("is a link to {}, which is not there", target.display()),
            None => "is missing".to_owned(),
        };
        let path = path.or_else(|| folders.first().map(|folder| folder.join(service))).unwrap_or_default();
        return Some(format!("{} {what}, and PAM would fall back to the service \"other\"", path.display()));
    };
    let shown = path.display();
    if !path.is_file() {
        return Some(format!("{shown} is no file, and PAM would fall back to the service \"other\""));
    }
    if let Err(e) = File::open(&path) {
        return Some(format!("{shown}: {e}, and PAM would fall back to the service \"other\""));
    }
    let (mut has_auth, mut has_account) = (false, false);
    walk(folders, service, None, MAX_DEPTH, &mut |_, line| match line {
        Found::Call(Call { is_account: true, .. }) => has_account = true,
        Found::Call(_) => has_auth = true,
        // It stands for one that refuses.
        Found::Unread(_) => (has_auth, has_account) = (true, true),
    });
    let kinds = match (has_auth, has_account) {
        (true, true) => return None,
        (true, false) => "account",
        (false, true) => "auth",
        (false, false) => "auth and no account",
    };
    Some(format!("{shown} has no {kinds} line, and PAM would take those of the service \"other\""))
}

fn warnings_in(folders: &[&Path], service: &str, as_root: bool) -> Vec<String> {
    let mut found = Vec::new();
    let modules = module_folders();
    walk(folders, service, None, MAX_DEPTH, &mut |place, line| match line {
        Found::Call(call) => {
            found.extend(complaint(&call, as_root).map(|what| format!("{place}: {what}")));
            found.extend(missing(&call, &modules).map(|what| format!("{place}: {what}")));
        }
        Found::Unread(what) => {
            found.push(format!("{place}: libpam cannot read this ({what}): it lets nobody in"));
        }
    });
    found.extend(nobody::complaint(folders, service));
    // A file that is included for `auth` and for `account` is read twice.
    found.sort();
    found.dedup();
    found
}

fn complaint(call: &Call<'_>, as_root: bool) -> Option<String> {
    match call.module {
        "pam_rootok" if as_root => {
            Some("pam_rootok lets everybody in: the one who asks PAM here is the CA, which is root".to_owned())
        }
        // Debian's own stack has it there, where it gives way to the CA's PAM_DISALLOW_NULL_AUTHTOK (pam_unix, support.c `_set_ctrl`).
        "pam_unix" => None,
        module if call.arguments.iter().any(|argument| argument.starts_with("nullok")) => {
            Some(format!("{module} with nullok asks nothing of who has set nothing up for it"))
        }
        _ => None,
    }
}

/// libpam takes a module that is not there for one that fails, whatever its line says but for the `-` before it (pam_handlers.c, `_pam_load_module`).
fn missing(call: &Call<'_>, folders: &[PathBuf]) -> Option<String> {
    // Where libpam's own folder is not known nothing can be said of a bare name.
    let is_there = match call.path.starts_with('/') {
        true => Path::new(call.path).exists(),
        false => folders.is_empty() || folders.iter().any(|folder| folder.join(call.path).exists()),
    };
    let complaint = || format!("the module {} is not there: logins cannot be checked", call.path);
    (!is_there && !call.may_be_missing).then(complaint)
}

/// Folders of modules: those with the one that every Linux-PAM has. Which of them is libpam's own was said when that was built.
fn module_folders() -> Vec<PathBuf> {
    let usual = ["/lib/security", "/lib64/security", "/usr/lib/security", "/usr/lib64/security"].map(PathBuf::from);
    let of_debian = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|at| at.path().join("security"));
    usual.into_iter().chain(of_debian).filter(|folder| folder.join("pam_deny.so").exists()).collect()
}

/// All lines that decide who is let in (`auth`, `account`), with their places. `wanted`: what alone counts in a file that is included for it.
fn walk(folders: &[&Path], name: &str, wanted: Option<&str>, depth: usize, each: &mut impl FnMut(&str, Found<'_>)) {
    let Some((path, text)) = read(folders, name) else { return };
    for (number, line) in lines(&text) {
        let words = words(&line);
        let place = format!("{}:{number}", path.display());
        let facility = words.first().map(|kind| kind.trim_start_matches('-').to_ascii_lowercase()).unwrap_or_default();
        if FACILITIES.contains(&&*facility) && wanted.is_some_and(|wanted| wanted != facility) {
            continue;
        }
        if let Some(what) = unread::complaint(&words) {
            each(&place, Found::Unread(what));
            continue;
        }
        let mut words = words.iter().map(String::as_str);
        let may_be_missing = words.next().is_some_and(|kind| kind.starts_with('-'));
        let mut wanted = wanted;
        let included = match facility.as_str() {
            "@include" => words.next(),
            "auth" | "account" => match (words.next(), words.next()) {
                (Some(control), file)
                    if ["include", "substack"].iter().any(|word| control.eq_ignore_ascii_case(word)) =>
                {
                    wanted = Some(&facility);
                    file
                }
                (Some(_), Some(module)) => {
                    let (is_account, arguments) = (facility == "account", words.collect());
                    let call =
                        Call { is_account, path: module, module: module_name(module), arguments, may_be_missing };
                    each(&place, Found::Call(call));
                    None
                }
                _ => None,
            },
            _ => None,
        };
        match included {
            Some(file) if read(folders, file).is_none() => {
                each(&place, Found::Unread(format!("there is no file {file} to include")));
            }
            Some(file) if depth > 0 => walk(folders, file, wanted, depth - 1, each),
            Some(_) | None => {}
        }
    }
}

/// Without folder and `.so`.
fn module_name(path: &str) -> &str {
    let module = path.rsplit('/').next().unwrap_or_default();
    module.strip_suffix(".so").unwrap_or(module)
}

fn read(folders: &[&Path], name: &str) -> Option<(PathBuf, String)> {
    folders.iter().find_map(|folder| {
        let path = folder.join(name);
        let mut bytes = Vec::new();
        File::open(&path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        Some((path, String::from_utf8_lossy(&bytes).into_owned()))
    })
}

/// Lines without comments, joined where one ends in a backslash; each with the number of its first.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (line, number) in text.lines().zip(1..) {
        // To libpam a line ends at a NUL (pam_handlers.c, `_pam_assemble_line`): a file that a crash left is full of them.
        let line = line.split(['#', '\0']).next().unwrap_or_default().trim_end();
        let (part, ends_open) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match all.last_mut() {
            Some((_, before)) if goes_on => before.extend([" ", part]),
            _ => all.push((number, part.to_owned())),
        }
        goes_on = ends_open;
    }
    all
}

/// Split at blanks, but not within brackets.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut bracketed = false;
    for c in line.chars() {
        bracketed = (bracketed || c == '[') && c != ']';
        match words.last_mut() {
            Some(word) if !c.is_whitespace() || bracketed => word.push(c),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    struct Stacks {
        folder: tempfile::TempDir,
    }

    impl Stacks {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            Stacks { folder }
        }

        /// Those of one line, without the folder.
        fn warnings(&self, as_root: bool) -> Vec<String> {
            let folder = format!("{}/", self.folder.path().display());
            let found = warnings_in(&[self.folder.path()], "usshca", as_root);
            found.iter().filter_map(|warning| warning.strip_prefix(&folder)).map(str::to_owned).collect()
        }

        /// Without the folder.
        fn left_to_other(&self) -> Option<String> {
            let folder = format!("{}/", self.folder.path().display());
            left_in(&[self.folder.path()], "usshca").map(|what| what.replace(&folder, ""))
        }
    }

    const DEBIAN: &str = "# here are the per-package modules\nauth\t[success=1 default=ignore]\tpam_unix.so nullok\nauth\trequisite\tpam_deny.so\nauth\trequired\tpam_permit.so\n";

    #[test]
    fn debians_own_stack_is_not_complained_of() {
        let stacks = Stacks::new(&[
            ("usshca", "@include common-auth\n@include common-account\n#auth sufficient pam_rootok.so\n"),
            ("common-auth", DEBIAN),
            ("common-account", "account required pam_permit.so\n"),
        ]);
        assert_eq!(stacks.warnings(true), [""; 0]);
    }

    #[test]
    fn pam_rootok_is_found_however_it_is_written_and_wherever_it_stands() {
        for (line, number) in [
            ("auth sufficient pam_rootok.so", 1),
            ("auth sufficient pam_rootok.so debug # as in su", 1),
            ("-AUTH [success=done  default=ignore] /usr/lib/security/pam_rootok.so", 1),
            ("\n\nauth sufficient \\\n  pam_rootok.so", 3),
            ("account sufficient pam_rootok.so", 1),
        ] {
            let said = format!("common:{number}: pam_rootok lets everybody in");
            for include in [
                "@include common",
                "auth include common\naccount include common",
                "auth substack common\naccount substack common",
            ] {
                let stacks = Stacks::new(&[("usshca", include), ("common", line)]);
                let found = stacks.warnings(true);
                assert!(matches!(&found[..], [one] if one.starts_with(&said)), "{include}: {line}: {found:?}");
                assert_eq!(stacks.warnings(false), [""; 0], "of a CA that is not root's");
            }
        }
        assert_eq!(Stacks::new(&[("usshca", "session optional pam_rootok.so")]).warnings(true), [""; 0]);
    }

    #[test]
    fn nullok_is_found_where_nothing_overrides_it() {
        let stacks = Stacks::new(&[("usshca", "-auth required pam_google_authenticator.so nullok\n")]);
        for as_root in [true, false] {
            let said = "usshca:1: pam_google_authenticator with nullok asks nothing of who has set nothing up for it";
            assert_eq!(stacks.warnings(as_root), [said]);
        }
    }

    #[test]
    fn a_module_that_is_not_there_is_named_unless_it_may_be_missing() {
        let stacks = Stacks::new(&[(
            "usshca",
            "auth required pam_unix.so\nauth required pam_no_such.so\n-auth optional pam_no_such_either.so\nsession required pam_neither.so\naccount required /no/such/pam_unix.so\n",
        )]);
        let said = [
            "usshca:2: the module pam_no_such.so is not there: logins cannot be checked",
            "usshca:5: the module /no/such/pam_unix.so is not there: logins cannot be checked",
        ];
        assert_eq!(stacks.warnings(true), said);
    }

    #[test]
    fn what_libpam_cannot_read_is_said_to_let_nobody_in() {
        for (stack, said) in [
            (
                "garbage\n",
                "1: libpam cannot read this (garbage is none of auth, account, password and session): it lets nobody in",
            ),
            ("auth required\n", "1: libpam cannot read this (it names no module): it lets nobody in"),
            (
                "account required pam_unix.so\nauth [success=ok\n",
                "2: libpam cannot read this (there is no ] to its [): it lets nobody in",
            ),
            (
                "@include nosuchfile\n",
                "1: libpam cannot read this (there is no file nosuchfile to include): it lets nobody in",
            ),
            (
                "auth Include nosuchfile\n",
                "1: libpam cannot read this (there is no file nosuchfile to include): it lets nobody in",
            ),
        ] {
            let stacks = Stacks::new(&[("usshca", stack)]);
            assert_eq!(stacks.warnings(true), [format!("usshca:{said}")]);
            // Nothing is left to the service `other`: such a line refuses before that.
            assert_eq!(stacks.left_to_other(), None, "{stack}");
        }
        let of_sessions =
            "auth required pam_unix.so\naccount required pam_unix.so\nsession include nosuchfile\nsession\n";
        assert_eq!(Stacks::new(&[("usshca", of_sessions)]).warnings(true), [""; 0]);
    }

    #[test]
    fn a_stack_without_auth_or_account_lines_leaves_them_to_the_service_other() {
        for (stack, kinds) in [
            ("account required pam_unix.so", Some("auth")),
            ("auth required pam_unix.so", Some("account")),
            ("session required pam_unix.so", Some("auth and no account")),
            ("auth include common", Some("account")),
            ("@include common", None),
            ("", Some("auth and no account")),
            ("\0\0\0\0", Some("auth and no account")),
            ("auth required pam_unix.so\naccount\0 required pam_unix.so", None),
            ("auth required pam_unix.so\n#account required pam_unix.so", Some("account")),
        ] {
            let common = "auth required pam_unix.so\naccount required pam_unix.so";
            let stacks = Stacks::new(&[("usshca", stack), ("common", common)]);
            // `auth include common` takes its `auth` lines alone.
            let said =
                |kinds: &str| format!("usshca has no {kinds} line, and PAM would take those of the service \"other\"");
            assert_eq!(stacks.left_to_other(), kinds.map(said), "{stack:?}");
        }
    }

    #[test]
    fn a_service_without_a_file_leaves_all_of_it_to_the_service_other() {
        let stacks = Stacks::new(&[]);
        let path = stacks.folder.path().join("usshca");
        let said = |what: &str| Some(format!("{what}, and PAM would fall back to the service \"other\""));
        assert_eq!(stacks.left_to_other(), said("usshca is missing"));
        std::os::unix::fs::symlink("gone", &path).unwrap();
        assert_eq!(stacks.left_to_other(), said("usshca is a link to gone, which is not there"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(stacks.left_to_other(), said("usshca is no file"));
        // libpam opens the folder, and looks no further.
        let vendor = Stacks::new(&[("usshca", DEBIAN)]);
        let both = left_in(&[stacks.folder.path(), vendor.folder.path()], "usshca").unwrap();
        assert!(both.contains("usshca is no file"), "{both}");
    }

    #[test]
    fn a_stack_that_includes_itself_ends() {
        let stacks = Stacks::new(&[("usshca", "@include usshca\nauth sufficient pam_rootok.so\n")]);
        assert_eq!(stacks.warnings(true).len(), 1);
        assert_eq!(Stacks::new(&[]).warnings(true), [""; 0]);
    }
}
