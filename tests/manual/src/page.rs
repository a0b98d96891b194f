//! One manual page for a program with all its subcommands.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::Made;

/// Paragraphs of the closing help text that become sections of their own.
const SECTIONS: [&str; 7] =
    ["Rules", "Examples", "Exit status", "Files", "Keys of ussh.toml", "Environment", "See also"];

/// Those of them that are lists of terms with what they mean, both too long for columns.
const LISTS: [&str; 2] = ["Rules", "Examples"];

/// The page of a program, in this section of the manual.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn manual_page(command: &Command, section: &str) -> io::Result<Made> {
    let top = command.clone().disable_help_subcommand(true).subcommand_value_name("command");
    let top = Man::new(top).section(section);
    let mut page = Vec::new();
    top.render_title(&mut page)?;
    top.render_name_section(&mut page)?;
    // No word of a synopsis is one that may be broken.
    page.extend_from_slice(b".nh\n");
    let mut synopsis = Vec::new();
    top.render_synopsis_section(&mut synopsis)?;
    page.extend_from_slice(with_values(&String::from_utf8_lossy(&synopsis), command).as_bytes());
    top.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        top.render_options_section(&mut page)?;
    }
    let mut text = String::from_utf8_lossy(&page).into_owned();
    if command.get_subcommands().next().is_some() {
        text += ".SH COMMANDS\n";
        subcommands(&mut text, command, command.get_name())?;
    }
    if let Some(closing) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        let mut roff = Roff::new();
        for paragraph in closing.to_string().split("\n\n") {
            closing_paragraph(&mut roff, paragraph.trim_end());
        }
        text += &roff.to_roff();
    }
    Ok(Made::new(format!("man/{}.{section}", command.get_name()), text))
}

/// Each with its description and options; those with subcommands of their own give only these.
fn subcommands(text: &mut String, command: &Command, called: &str) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let called = format!("{called} {}", sub.get_name());
        if sub.get_subcommands().next().is_some() {
            subcommands(text, sub, &called)?;
            continue;
        }
        let sub = sub.clone().bin_name(&called).disable_help_flag(true);
        let man = Man::new(sub.clone());
        *text += &Roff::new().control("SS", [called.as_str()]).to_roff();
        *text += &with_values(&without_heading(|page| man.render_synopsis_section(page))?, &sub);
        *text += ".PP\n";
        *text += &without_heading(|page| man.render_description_section(page))?;
        if sub.get_arguments().next().is_some() {
            *text += &without_heading(|page| man.render_options_section(page))?;
        }
    }
    Ok(())
}

/// A synopsis with the values of its options, and dots behind what may be given more than once: clap_mangen leaves both out.
fn with_values(synopsis: &str, command: &Command) -> String {
    let mut arguments: Vec<_> = command.get_arguments().filter(|arg| arg.get_action().takes_values()).collect();
    // What has a place of its own first: an option's value may have the same name.
    arguments.sort_by_key(|arg| !arg.is_positional());
    arguments.into_iter().fold(synopsis.to_owned(), |text, arg| {
        let names = arg.get_value_names().unwrap_or_default();
        let value = names.iter().map(|name| name.replace('-', "\\-")).collect::<Vec<_>>().join(" ");
        let many = if arg.get_num_args().is_some_and(|range| range.max_values() > 1) { "…" } else { "" };
        match arg.get_long() {
            Some(long) => {
                let option = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
                text.replace(&option, &format!("{option} \\fI{value}\\fR"))
            }
            None => text.replace(&format!("\\fI{value}\\fR"), &format!("\\fI{value}\\fR{many}")),
        }
    })
}

/// A section's text without what clap_mangen begins a page and a section with.
fn without_heading(render: impl Fn(&mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let mut page = Vec::new();
    render(&mut page)?;
    let text = String::from_utf8_lossy(&page).into_owned();
    let begin = text.find(".SH ").unwrap_or_default();
    let body = text.get(begin..).and_then(|section| section.split_once('\n')).map_or("", |(_, body)| body);
    Ok(body.to_owned())
}

/// Columns stay columns; other text may be filled.
fn closing_paragraph(roff: &mut Roff, paragraph: &str) {
    let section = SECTIONS.into_iter().find(|section| paragraph.starts_with(section));
    let body = match section {
        None => {
            roff.control("PP", []);
            paragraph.to_owned()
        }
        Some(section) => {
            roff.control("SH", [section.to_uppercase().as_str()]);
            // The columns of the lines below are those of the first.
            let rest = paragraph.strip_prefix(section).unwrap_or(paragraph);
            rest.strip_prefix(':').map_or_else(
                || rest.trim_start_matches(", ").to_owned(),
                |rest| format!("{}{rest}", " ".repeat(section.len() + 1)),
            )
        }
    };
    if section.is_some_and(|section| LISTS.contains(&section)) {
        return list(roff, &body);
    }
    let lines: Vec<&str> = body.lines().filter(|line| !line.trim().is_empty()).collect();
    let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or_default();
    let columns = lines.len() > 1 && lines.iter().any(|line| line.trim_start().contains("  "));
    if columns {
        roff.control("nf", []);
    }
    for line in &lines {
        roff.text([roman(if columns { line.get(indent..).unwrap_or_default() } else { line.trim() })]);
    }
    if columns {
        roff.control("fi", []);
    }
}

/// A term, and what it means: behind two blanks or more, and in the lines below that begin further to the right.
fn list(roff: &mut Roff, body: &str) {
    let lines = body.lines().filter(|line| !line.trim().is_empty());
    let indent_of = |line: &str| line.len() - line.trim_start().len();
    let indent = lines.clone().map(indent_of).min().unwrap_or_default();
    for line in lines {
        let mut meaning = line.trim();
        if indent_of(line) == indent {
            let (term, rest) = meaning.split_once("  ").unwrap_or((meaning, ""));
            roff.control("TP", []).text([bold(term)]);
            meaning = rest.trim();
        }
        if !meaning.is_empty() {
            roff.text([roman(meaning)]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Arg, ArgAction};

    use super::*;

    #[test]
    fn a_synopsis_names_the_values_of_options_and_what_comes_more_than_once() {
        let command = Command::new("x")
            .arg(Arg::new("as").long("as").value_name("NAME"))
            .arg(Arg::new("key").long("key-id").value_name("FIRST-LAST"))
            .arg(Arg::new("json").long("json").action(ArgAction::SetTrue))
            .arg(Arg::new("names").value_name("NAME").num_args(1..));
        let page = manual_page(&command, "1").unwrap().text;
        let synopsis = "\\fBx\\fR [\\fB\\-\\-as\\fR \\fINAME\\fR] [\\fB\\-\\-key\\-id\\fR \\fIFIRST\\-LAST\\fR] [\\fB\\-\\-json\\fR]";
        assert!(page.contains(synopsis) && page.contains("[\\fINAME\\fR…]"), "{page}");
    }
}
