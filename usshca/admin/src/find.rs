//! `usshca find`.

use clap::ValueEnum;
use usshca_ipc::admin::{Cursor, Entry, Find, Reply, Request};

use super::host::fingerprint;
use super::list::{Form, shown_as};
use super::time::parse_utc;
use super::{Desk, print, too_many, unexpected};
use crate::cli::FindArgs;
use crate::failure::Failure;

/// Rows asked for at a time.
const PAGE: u32 = 500;

/// Prints what is found, newest first: JSON and CSV as it comes, a table when all of it is there. Nothing found is exit status 1, as of grep.
pub fn find(desk: &dyn Desk, args: &FindArgs) -> Result<(), Failure> {
    let (find, form) = (what(desk, args)?, Form::of(args.json, args.csv));
    let link = desk.link()?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut count = 0;
    let (mut all, mut cursor, mut found): (Vec<Entry>, Cursor, bool) = (Vec::new(), Cursor::NEWEST, false);
    if form == Form::Csv {
        print(desk, &shown_as(&[], form, false))?;
    }
    while left > 0 {
        let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let Reply::Found { rows, next } = link.ask(&Request::Find { find: Box::new(find.clone()), cursor, limit })?
        else {
            return Err(unexpected());
        };
        left = left.saturating_sub(rows.len() as u64);
        found |= !rows.is_empty();
        count += rows.len() as u64;
        if count > desk.most_rows() {
            return Err(too_many(desk));
        }
        let goes_on = match form {
            Form::Table => {
                all.extend(rows);
                true
            }
            Form::Json => desk.stream(shown_as(&rows, form, false).as_bytes())?,
            Form::Csv => {
                let text = shown_as(&rows, form, false);
                desk.stream(
                    text.split_once(
                        "
",
                    )
                    .map_or("", |(_, records)| records)
                    .as_bytes(),
                )?
            }
        };
        if !goes_on {
            return Ok(());
        }
        match next {
            // It only goes down: or this would never end.
            Some(next) if next.before < cursor.before => cursor = next,
            _ => break,
        }
    }
    if form == Form::Table && found {
        print(desk, &shown_as(&all, form, desk.is_terminal()))?;
    }
    if found { Ok(()) } else { Err(Failure::refused("nothing of that kind stands in the inventory")) }
}

fn what(desk: &dyn Desk, args: &FindArgs) -> Result<Find, Failure> {
    let key = args.key.as_deref().map(|key| fingerprint(desk, "--key", key)).transpose()?;
    let (since, until) = args.time.as_deref().map_or(Ok((None, None)), period)?;
    Ok(Find {
        user: args.user.clone(),
        key,
        serial: args.serial,
        since,
        until,
        principal: args.principal.clone(),
        // ssh compares host names in small letters.
        host: args.host.as_ref().map(|name| name.to_ascii_lowercase()),
        from: args.from.clone(),
        state: args.state.and_then(|state| Some(state.to_possible_value()?.get_name().to_owned())),
        rule: args.rule.clone(),
    })
}

/// `FROM..TO`, either of which may be missing.
fn period(text: &str) -> Result<(Option<u64>, Option<u64>), Failure> {
    let wrong = || {
        Failure::usage("--time: must be as 2026-01-31T12:00:00Z..2026-02-01T00:00:00Z; one of the two may be left out")
    };
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let time = |text: &str| if text.is_empty() { Ok(None) } else { parse_utc("--time", text).map(Some) };
    let (since, until) = (time(from)?, time(to)?);
    match (since, until) {
        (None, None) => Err(wrong()),
        (Some(since), Some(until)) if until <= since => Err(Failure::usage("--time: ends before it begins")),
        both => Ok(both),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_period_has_a_beginning_an_end_or_both() {
        let (noon, one) = (1_769_860_800, 1_769_864_400);
        assert_eq!(period("2026-01-31T12:00:00Z..2026-01-31T13:00:00Z").unwrap(), (Some(noon), Some(one)));
        assert_eq!(period("2026-01-31T12:00:00Z..").unwrap(), (Some(noon), None));
        assert_eq!(period("..2026-01-31T12:00:00Z").unwrap(), (None, Some(noon)));
        for text in ["..", "", "2026-01-31T12:00:00Z", "yesterday..", "2026-01-31T13:00:00Z..2026-01-31T12:00:00Z"] {
            assert_eq!(period(text).unwrap_err().exit, crate::failure::Exit::Usage, "{text}");
        }
    }
}
