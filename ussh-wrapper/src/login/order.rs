//! What a login asks the CA for beyond "a certificate": a reason, a shorter life, fewer principals. It goes there as the command that stock `ssh` would be given (`ssh -A ca for=1h reason="what for"`).

use std::ffi::OsStr;

use ussh_core::clock::seconds;

/// The reason, for plain `ssh` and all that calls it.
pub const REASON_VARIABLE: &str = "USSH_REASON";

/// Longest reason, bytes, as the CA takes it (usshca's `MAX_REASON`).
const MAX_REASON: usize = 256;
/// Most principals, and the longest of them in bytes (usshca's `MAX_WISHES`, `MAX_WISHED`).
const MAX_PRINCIPALS: usize = 64;
const MAX_PRINCIPAL: usize = 256;
/// Words of the CA's own: one of these in a reason would end it.
const WORDS: [&str; 4] = ["for=", "principals=", "reason=", "key="];

/// All checked: as many words as are written here come to the CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    reason: Option<String>,
    validity: Option<String>,
    principals: Option<String>,
}

/// What is wrong with a part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Empty, too long, or not printable.
    #[error("a reason is a printable text of 1 to {MAX_REASON} bytes")]
    Reason,
    /// It looks like an option.
    #[error("a reason does not begin with a dash: is it missing?")]
    ReasonMissing,
    /// The CA would take a part of it for something else.
    #[error("no word of a reason may begin with for=, principals=, reason= or key=, which the CA takes for its own")]
    ReasonWord,
    /// No time.
    #[error("a time is written as 30m, 8h or 1d")]
    Validity,
    /// No list of names.
    #[error(
        "principals are 1 to {MAX_PRINCIPALS} names of at most {MAX_PRINCIPAL} bytes, with commas and no blanks between them"
    )]
    Principals,
}

impl Order {
    /// With this reason.
    /// # Errors
    /// [`OrderError::Reason`], [`OrderError::ReasonMissing`], [`OrderError::ReasonWord`]
    pub fn with_reason(self, reason: &OsStr) -> Result<Self, OrderError> {
        let reason = reason.to_str().map(str::trim).ok_or(OrderError::Reason)?;
        if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
            return Err(OrderError::Reason);
        }
        if reason.starts_with('-') {
            return Err(OrderError::ReasonMissing);
        }
        if reason.split(' ').any(|word| WORDS.iter().any(|own| word.starts_with(own))) {
            return Err(OrderError::ReasonWord);
        }
        Ok(Order { reason: Some(reason.to_owned()), ..self })
    }
    /// For this long: `30m`, `8h`.
    /// # Errors
    /// [`OrderError::Validity`]
    pub fn with_validity(self, span: &OsStr) -> Result<Self, OrderError> {
        let span = span.to_str().filter(|span| seconds(span).is_some()).ok_or(OrderError::Validity)?;
        Ok(Order { validity: Some(span.to_owned()), ..self })
    }
    /// For these principals only.
    /// # Errors
    /// [`OrderError::Principals`]
    pub fn with_principals(self, names: &OsStr) -> Result<Self, OrderError> {
        let is_name = |name: &str| {
            (1..=MAX_PRINCIPAL).contains(&name.len()) && !name.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        let names = names.to_str().ok_or(OrderError::Principals)?;
        if !names.split(',').all(is_name) || names.split(',').count() > MAX_PRINCIPALS {
            return Err(OrderError::Principals);
        }
        Ok(Order { principals: Some(names.to_owned()), ..self })
    }
    /// With the environment's reason, where none was given. A blank one is none. One that the CA would not take is passed over, and said to be: it was set for all logins, perhaps by somebody else, and is to keep nobody out.
    pub fn or_of_environment(self) -> Self {
        let value = std::env::var_os(REASON_VARIABLE).unwrap_or_default();
        let (order, wrong) = self.or_of(&value);
        if let Some(wrong) = wrong {
            eprintln!("ussh: environment variable {REASON_VARIABLE} is passed over: {wrong}");
        }
        order
    }
    fn or_of(self, value: &OsStr) -> (Self, Option<OrderError>) {
        let is_blank = value.to_str().is_some_and(|text| text.trim().is_empty());
        if self.reason.is_some() || is_blank {
            return (self, None);
        }
        match self.clone().with_reason(value) {
            Ok(order) => (order, None),
            Err(wrong) => (self, Some(wrong)),
        }
    }
    /// The command's words. A reason stands last, in quotes that the CA takes off again: it may have some of its own.
    pub fn words(&self) -> Vec<String> {
        let named = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}{value}"));
        let reason = self.reason.as_ref().map(|reason| format!("reason=\"{reason}\""));
        let all = [named("for=", &self.validity), named("principals=", &self.principals), reason];
        all.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn reason(text: &str) -> Result<Vec<String>, OrderError> {
        Order::default().with_reason(OsStr::new(text)).map(|order| order.words())
    }

    #[test]
    fn the_words_are_those_of_the_ca_and_the_reason_comes_last() {
        let order = Order::default().with_reason(OsStr::new(" INC-17: \"disk\" is full ")).unwrap();
        let order = order.with_validity(OsStr::new("90m")).unwrap().with_principals(OsStr::new("web,db")).unwrap();
        assert_eq!(order.words(), ["for=90m", "principals=web,db", "reason=\"INC-17: \"disk\" is full\""]);
        assert_eq!(Order::default().words(), [""; 0]);
    }

    #[test]
    fn the_environments_reason_counts_where_it_can_and_is_passed_over_where_it_cannot() {
        let none = || Order::default();
        let of = |order: Order, text: &str| {
            let (order, wrong) = order.or_of(OsStr::new(text));
            (order.words(), wrong)
        };
        assert_eq!(of(none(), "INC-17"), (vec!["reason=\"INC-17\"".to_owned()], None));
        for blank in ["", "   ", "\t\n"] {
            assert_eq!(of(none(), blank), (vec![], None), "{blank:?}");
        }
        for (text, why) in
            [("a\nb", OrderError::Reason), ("see key=x", OrderError::ReasonWord), ("-x", OrderError::ReasonMissing)]
        {
            assert_eq!(of(none(), text), (vec![], Some(why)), "{text:?}");
        }
        let given = none().with_reason(OsStr::new("given")).unwrap();
        assert_eq!(of(given.clone(), "a\nb"), (given.words(), None));
    }

    #[test]
    fn what_the_ca_would_read_otherwise_is_refused_here() {
        assert!(reason("see x for=1").is_err_and(|error| error == OrderError::ReasonWord));
        assert_eq!(reason("key=value").unwrap_err(), OrderError::ReasonWord);
        assert_eq!(reason("the=key=value").unwrap(), ["reason=\"the=key=value\""]);
        assert_eq!(reason("-v").unwrap_err(), OrderError::ReasonMissing);
        for text in ["", "  ", "a\nb", "a\x1b[2Jb", &"x".repeat(257)] {
            assert_eq!(reason(text).unwrap_err(), OrderError::Reason, "{text:?}");
        }
        assert!(reason(&"x".repeat(256)).is_ok());
        for span in ["", "0", "1y", "-1h", "1h for=2h"] {
            assert_eq!(Order::default().with_validity(OsStr::new(span)).unwrap_err(), OrderError::Validity, "{span:?}");
        }
        for names in ["", ",", "a,", "a b", "a\tb", &"x,".repeat(64), &"x".repeat(257)] {
            let read = Order::default().with_principals(OsStr::new(names));
            assert_eq!(read.unwrap_err(), OrderError::Principals, "{names:?}");
        }
    }
}
