//! Lists of principals: from the PAM line, and from files in sshd's AuthorizedPrincipalsFile format.

/// Principals of which a certificate must hold at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrincipalList {
    names: Vec<Vec<u8>>,
}

impl PrincipalList {
    /// `a,b,c` of a PAM line. `None` if any name is empty.
    pub fn from_comma_list(list: &str) -> Option<Self> {
        let _ = list;
        todo!()
    }
    /// sshd's file format (auth2-pubkeyfile.c `auth_check_principals_line`): one per line, comments. A line with options is one that we cannot honour (no force-command, no from=): it is skipped.
    pub fn parse_file(text: &[u8]) -> Self {
        let _ = text;
        todo!()
    }
    /// From names at hand.
    pub fn from_names(names: Vec<Vec<u8>>) -> Self {
        PrincipalList { names }
    }
    /// Exact bytes, case matters, no patterns.
    pub fn contains(&self, principal: &[u8]) -> bool {
        self.names.iter().any(|n| n == principal)
    }
    /// Holds no name at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
