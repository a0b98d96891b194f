//! Accounts of a host: the system accounts of its base, and the people that the test names.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};

use crate::error::{Doing, LabError, Result};
use crate::wait::locked;

/// Accounts of people in Debian: left out of what the base has, given to what the test names (UID_MIN to UID_MAX).
const PEOPLE: std::ops::RangeInclusive<u32> = 1000..=59_999;

/// First number of the groups that a test names.
const FIRST_GROUP: u32 = 3000;

/// One person, with the same account on each host of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub name: String,
    /// In clear.
    pub password: String,
    /// Beside the one of the same name.
    pub groups: Vec<String>,
}

/// What /etc/passwd, /etc/group and /etc/shadow hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    pub passwd: String,
    pub group: String,
    pub shadow: String,
}

impl Accounts {
    /// Without the people of the base.
    pub(crate) fn of_system(passwd: &str, group: &str, shadow: &str) -> Self {
        let gone: Vec<&str> = passwd.lines().filter(|line| is_person(line)).map(name).collect();
        let keep = |text: &str, wanted: &dyn Fn(&&str) -> bool| {
            text.lines().filter(wanted).fold(String::new(), |kept, line| kept + line + "\n")
        };
        Accounts {
            passwd: keep(passwd, &|line| !is_person(line)),
            group: keep(group, &|line| !is_person(line)),
            shadow: keep(shadow, &|line| !gone.contains(&name(line))),
        }
    }

    /// Adds `people`, numbered from 1000 in this order, and the groups they name. `hash` makes a password hash.
    pub(crate) fn with(mut self, people: &[Person], hash: impl Fn(&str) -> Result<String>) -> Result<Self> {
        for (uid, person) in PEOPLE.zip(people) {
            let Person { name, password, groups } = person;
            self.passwd += &format!("{name}:x:{uid}:{uid}:{name}:/home/{name}:/bin/bash\n");
            self.group += &format!("{name}:x:{uid}:\n");
            self.shadow += &format!("{name}:{}:19000:0:99999:7:::\n", hash(password)?);
            for group in groups {
                self.join(group, name);
            }
        }
        Ok(self)
    }

    fn join(&mut self, group: &str, member: &str) {
        let mut found = false;
        let mut next = FIRST_GROUP;
        let mut lines: Vec<String> = Vec::new();
        for line in self.group.lines() {
            next = next.max(number(line).filter(|gid| PEOPLE.contains(gid)).map_or(0, |gid| gid + 1));
            if name(line) == group {
                found = true;
                let separator = if line.ends_with(':') { "" } else { "," };
                lines.push(format!("{line}{separator}{member}"));
            } else {
                lines.push(line.to_owned());
            }
        }
        if !found {
            lines.push(format!("{group}:x:{next}:{member}"));
        }
        self.group = lines.join("\n") + "\n";
    }
}

/// First field of a line of any of the three files.
fn name(line: &str) -> &str {
    line.split(':').next().unwrap_or(line)
}

/// Third field of a line of passwd or group.
fn number(line: &str) -> Option<u32> {
    line.split(':').nth(2)?.parse().ok()
}

fn is_person(line: &str) -> bool {
    number(line).is_some_and(|number| PEOPLE.contains(&number))
}

/// Number of the user or group `wanted` in the text of passwd or group.
pub(crate) fn number_of(wanted: &str, text: &str) -> Option<u32> {
    text.lines().find(|line| name(line) == wanted).and_then(number)
}

/// SHA-512 crypt of a password, as Debian's PAM takes it. Made once per password: it is slow on purpose.
pub(crate) fn hash_password(password: &str) -> Result<String> {
    static KNOWN: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    let mut known = locked(&KNOWN);
    if let Some(hash) = known.get(password) {
        return Ok(hash.clone());
    }
    let mut child = Command::new("openssl")
        .args(["passwd", "-6", "-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .doing("running openssl")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(password.as_bytes()).doing("writing to openssl")?;
    }
    let output = child.wait_with_output().doing("waiting for openssl")?;
    let hash = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !hash.starts_with("$6$") {
        return Err(LabError::setup("openssl passwd -6 gave no hash"));
    }
    known.insert(password.to_owned(), hash.clone());
    Ok(hash)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn base() -> Accounts {
        Accounts::of_system(
            "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
            "root:x:0:\nsudo:x:27:alice\nalice:x:1000:\nnogroup:x:65534:\n",
            "root:*:1::::::\nalice:$6$of-the-machine:1::::::\nnobody:*:1::::::\n",
        )
    }

    fn person(name: &str, groups: &[&str]) -> Person {
        Person {
            name: name.into(),
            password: "secret".into(),
            groups: groups.iter().map(|&group| group.into()).collect(),
        }
    }

    #[test]
    fn leaves_the_people_of_the_machine_out() {
        let accounts = base();
        assert!(!accounts.passwd.contains("alice") && !accounts.shadow.contains("alice"), "{accounts:?}");
        assert!(accounts.passwd.contains("nobody:x:65534") && accounts.shadow.contains("root:*"), "{accounts:?}");
    }

    #[test]
    fn gives_people_their_own_number_password_and_groups() {
        let people = [person("bob", &[]), person("carol", &["admins", "backup"]), person("dan", &["admins"])];
        let accounts = base().with(&people, |password| Ok(format!("hash-of-{password}"))).unwrap();
        assert_eq!(number_of("carol", &accounts.passwd), Some(1001));
        assert!(accounts.shadow.contains("carol:hash-of-secret:"), "{accounts:?}");
        assert!(accounts.group.contains("admins:x:3000:carol,dan\n"), "{accounts:?}");
        assert!(accounts.group.contains("backup:x:3001:carol\n"), "{accounts:?}");
        assert!(accounts.group.contains("bob:x:1000:\n"), "{accounts:?}");
    }

    #[test]
    fn joins_a_group_of_the_base() {
        let accounts = base().with(&[person("bob", &["root"])], |_| Ok("x".into())).unwrap();
        assert!(accounts.group.contains("root:x:0:bob\n"), "{accounts:?}");
    }

    #[test]
    fn hashes_with_salt_and_only_once() {
        let hash = hash_password("secret").unwrap();
        assert!(hash.starts_with("$6$") && hash.len() > 90, "{hash}");
        assert_eq!(hash_password("secret").unwrap(), hash);
    }
}
