//! What an administrator cannot have meant, though it can be read.

use super::conditions::Subjects;
use super::terms::{PrincipalTerm, SourceAddress};
use super::{Effect, Policy, Rule};

/// A validity that is longer than a working day and the way home makes revocation the only brake: 25 hours, in seconds.
const LONG: u64 = 25 * 3600;
/// Accounts that are root by another name on most machines.
const ROOT_EQUAL: [&str; 2] = ["root", "toor"];

impl Policy {
    /// Rules that can never match, certificates that live long, principals that are root: each in a sentence that names the rule and its place.
    pub fn lint(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (position, rule) in self.rules.iter().enumerate() {
            let mut warn = |what: String| warnings.push(format!("{}: rule \"{}\" {what}", rule.place, rule.name));
            let before = self.rules.iter().take(position);
            if let Some(cover) = before.clone().find(|earlier| earlier.conditions.cover(&rule.conditions)) {
                warn(format!("can never match: \"{}\" ({}) takes all of it first", cover.name, cover.place));
            }
            if let Effect::Grant(terms) = &rule.effect {
                if terms.max_validity_seconds > LONG {
                    warn(format!(
                        "gives certificates for up to {} hours: until then only revocation stops a stolen one",
                        terms.max_validity_seconds / 3600
                    ));
                }
                if let Some(name) = root_equal(rule, terms.principals.iter().chain(mapped(&terms.group_principals))) {
                    warn(format!("gives the principal \"{name}\": root wherever a server lets it in"));
                }
                if terms.authentication.iter().any(|proofs| !proofs.pam && !proofs.publickey) {
                    warn("asks for no proof: whoever connects from its networks is whom they say".to_owned());
                }
                let key_alone = terms.authentication.iter().any(|proofs| proofs.publickey && !proofs.pam);
                if key_alone
                    && !rule.conditions.from.as_ref().is_some_and(|nets| nets.iter().all(|n| n.prefix_len() > 0))
                {
                    warn(
                        "takes a registered key alone, from everywhere: whoever can use the agent that it lies in, root on a host to which it is forwarded for one, gets certificates; from = […] limits that"
                            .to_owned(),
                    );
                }
                if matches!(&terms.source_address, Some(SourceAddress::Networks(networks)) if networks.contains("/0")) {
                    warn("has a source_address that holds every address".to_owned());
                }
            }
        }
        warnings
    }
}

fn mapped(groups: &[(String, Vec<PrincipalTerm>)]) -> impl Iterator<Item = &PrincipalTerm> {
    groups.iter().flat_map(|(_, terms)| terms)
}

/// A literal, or the account's own name in a rule that is for root.
fn root_equal<'a>(rule: &Rule, mut terms: impl Iterator<Item = &'a PrincipalTerm>) -> Option<&'static str> {
    let users = match &rule.conditions.subjects {
        Subjects::Everybody => &[][..],
        Subjects::Listed { users, .. } => users,
    };
    terms.find_map(|term| {
        ROOT_EQUAL.into_iter().find(|root| match term {
            PrincipalTerm::Literal(name) => name == root,
            PrincipalTerm::Account { prefix, suffix } => {
                users.iter().any(|user| format!("{prefix}{user}{suffix}") == *root)
            }
        })
    })
}
