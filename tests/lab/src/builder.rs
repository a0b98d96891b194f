//! What a lab is to hold.

use std::path::{Path, PathBuf};

use crate::accounts::Person;
use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::wire::Bind;

/// One host to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    pub(crate) name: String,
    pub(crate) base: PathBuf,
    pub(crate) binds: Vec<Bind>,
}

impl HostPlan {
    /// A host over the machine's own root.
    pub fn new(name: &str) -> Self {
        HostPlan { name: name.to_owned(), base: PathBuf::from("/"), binds: Vec::new() }
    }

    /// Over another root, a debootstrapped one for instance. It is only read.
    #[must_use]
    pub fn base(mut self, root: impl AsRef<Path>) -> Self {
        self.base = root.as_ref().to_path_buf();
        self
    }

    /// Shows a file or folder of the machine in the host, read only.
    #[must_use]
    pub fn bind(mut self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        self.binds.push(Bind { source: source.as_ref().to_path_buf(), target: target.as_ref().to_path_buf() });
        self
    }

    /// As [`HostPlan::bind`], for several.
    #[must_use]
    pub fn binds(mut self, binds: impl IntoIterator<Item = Bind>) -> Self {
        self.binds.extend(binds);
        self
    }
}

/// A lab to be started. Made by [`Lab::new`].
#[derive(Clone, Debug)]
pub struct LabBuilder {
    pub(crate) name: String,
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) people: Vec<Person>,
}

impl LabBuilder {
    pub(crate) fn new(name: &str) -> Self {
        LabBuilder { name: name.to_owned(), hosts: Vec::new(), people: Vec::new() }
    }

    /// A host over the machine's own root.
    #[must_use]
    pub fn host(self, name: &str) -> Self {
        self.plan(HostPlan::new(name))
    }

    /// A host that will run the CA. The lab makes no difference; it reads better.
    #[must_use]
    pub fn ca(self, name: &str) -> Self {
        self.host(name)
    }

    /// A host where people sit. The lab makes no difference; it reads better.
    #[must_use]
    pub fn laptop(self, name: &str) -> Self {
        self.host(name)
    }

    /// A host over another root than the machine's.
    #[must_use]
    pub fn base(self, name: &str, root: impl AsRef<Path>) -> Self {
        self.plan(HostPlan::new(name).base(root))
    }

    /// A host as planned.
    #[must_use]
    pub fn plan(mut self, plan: HostPlan) -> Self {
        self.hosts.push(plan);
        self
    }

    /// A person with an account on every host: same number, same password, and these groups, made if missing.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str, groups: &[&str]) -> Self {
        self.people.push(Person {
            name: name.to_owned(),
            password: password.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        });
        self
    }

    /// Shows a file or folder of the machine in every host named until now, read only.
    #[must_use]
    pub fn bind_all(mut self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        self.hosts = self.hosts.into_iter().map(|plan| plan.bind(&source, &target)).collect();
        self
    }

    /// Makes it all.
    ///
    /// # Errors
    /// If this is not root, a name is not fit for a host, or the system refuses a step.
    pub fn start(self) -> Result<Lab> {
        for name in self.hosts.iter().map(|plan| &plan.name).chain([&self.name]) {
            check_name(name)?;
        }
        Lab::start(self)
    }
}

/// Names become host names, folder names, and words in /etc/hosts.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fit = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    if (1..=32).contains(&name.len()) && name.chars().all(fit) && !name.starts_with('-') {
        return Ok(());
    }
    Err(LabError::setup(format!("{name:?} is no name for a host or a lab: 1 to 32 of a-z, 0-9 and -")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn takes_host_names_and_nothing_that_could_be_a_path() {
        check_name("web-13").unwrap();
        for bad in ["", "-x", "Web", "a/b", "..", "a b", &"x".repeat(33)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
