//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

const AFTER: &str = "\
Exit status:
  0  nothing found but notes; the options are valid; a certificate is
     accepted
  1  errors or warnings found; the options are not valid; no certificate
     is accepted
  2  wrong usage, or a stack file that cannot be read
  3  nothing found, but something could not be checked (most often: run it
     as root); or a decision that is not the service's: it takes what only
     root may read, or no line of the service's was found";

const AFTER_LONG: &str = "\
Rules:
  lets-everybody-in  auth can end in success although every module that asks
                     for proof of who somebody is (pam_ussh, pam_unix, pam_sss
                     and the like; pam_rootok where people start the program)
                     has refused, has passed it over or was not asked. Modules
                     that test a condition may except people, but only with
                     `sufficient`, `done` or a jump on their success, and if
                     their line names a user or a group (pam_succeed_if
                     user =, in or ingroup; pam_wheel; pam_listfile
                     sense=allow): others let everybody in. A warning where
                     it takes a module that may answer PAM_IGNORE to do so, a
                     test that names nobody, or pam_rootok in a service that is
                     not known. A note where neither pam_ussh nor sudo, su,
                     doas or sshd is concerned
  unknown-module     not checked: auth can end in success by the yes of a module
                     alone that is not known here
  hidden             an included file that only root may read: not checked
  no-auth            sudo, su or doas have no auth line: `other` is asked
  nobody             a module's yes leads to a refusal, or it is never asked;
                     or libpam cannot read the stack
  dangling-jump      success=N and the like with fewer than N lines behind it
  refusal-ignored    account or session ends in success although pam_ussh has
                     refused
  optional           a pam_ussh line whose refusal is passed over
  nothing-behind     a sufficient pam_ussh line, and nothing behind it that
                     refuses
  place              a line of ours where the module refuses everybody: login,
                     account of sshd, session elsewhere, password
  login              a line of ours in a file that login includes
  option             unknown, repeated, empty or contradictory options, on the
                     line or in the file that it names
  file               a file that the options name is missing, not trusted or
                     broken (missing is a note for stacks that do not lie in
                     /etc/pam.d, unless --installed)
  group              a group that the options name does not exist (a note as
                     for files)
  no-records         bind_session=yes, and sshd has no session line of ours:
                     nobody's login is known
  no-revocation      note: a line without revoked_keys=
  service-table      [service.NAME] in the file of options, and no stack of that
                     name: a warning, or a note for sudo, su, doas and sshd
  talks-after-refusal  note: pam_motd and the like behind a session line of ours
                     that is `required`
  user-environment   pam_env with user_readenv=1 has run before our session
                     line
  sshd-config        our auth line in sshd without the AuthenticationMethods it
                     needs, or no UsePAM; or a file that sshd refuses
  stack-writable     somebody else than root can change an installed stack, or
                     our module
  syntax             what libpam cannot read as it was meant
  silent             `-auth` with our module
  no-module          a module that is not there: ours, or any that an installed
                     stack calls without a `-`
  too-many-ways      a stack that cannot be tried to the end
  other-way          note: by what whoever is refused may still get in
  not-asked          note: who is not asked for a certificate. In account and
                     session a warning: they can end before our line
  exemption          note: who is excepted
  companion          note: the other service of a program (sudo and sudo-i, su
                     and su-l) does not ask

Examples:
  pam-ussh-check --stack /etc/pam.d/*
     would anybody get in whom pam_ussh refuses?
  pam-ussh-check --options 'max_age=8h [cue_prompt=Touch the key]'
     is that a line that pam_ussh takes?
  pam-ussh-check --user alice
     would sudo take a certificate of this agent's, by its line in
     /etc/pam.d/sudo?
  pam-ussh-check --user root --service su max_age=8h
     would su, by these options?";

/// Lints PAM stacks, checks options of pam_ussh, tries its decision
///
/// Would pam_ussh say yes, and would anybody heed it? Lints PAM stacks, validates the options of a line, or takes the module's decision from a terminal.
///
/// With --stack the files are read as libpam reads them, with @include, include and substack (looked for beside the file, then in /etc/pam.d), and every way through a
/// stack is tried: our module may accept, refuse, be unavailable, be misconfigured or not be there; other modules may say anything that they can say.
#[derive(Debug, Parser)]
#[command(name = "pam-ussh-check", version, arg_required_else_help = true, after_help = AFTER, after_long_help = format!("{AFTER_LONG}\n\n{AFTER}"))]
pub struct Cli {
    /// What to look at.
    #[command(flatten)]
    pub mode: Mode,

    /// With --user: the options of the PAM line [default: those of the line in /etc/pam.d/SERVICE]
    #[arg(value_name = "NAME=VALUE", conflicts_with_all = ["stack", "options", "generate"])]
    pub arguments: Vec<String>,

    /// The service whose line or decision it is [default: sudo; sshd with --facility session; with --stack the file's name]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,

    /// With --options: the kind of line
    #[arg(long, value_enum, default_value_t = FacilityArg::Auth, conflicts_with_all = ["stack", "user", "generate"])]
    pub facility: FacilityArg,

    /// With --stack: the sshd_config that goes with a stack named sshd [default: ../ssh/sshd_config from the stack's folder, if it is there]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "options", "generate"])]
    pub sshd_config: Option<PathBuf>,

    /// With --stack: judge the files as if they lay in /etc/pam.d: what they name must be there. With --options: what the options name must be there
    #[arg(long, conflicts_with_all = ["user", "generate"])]
    pub installed: bool,

    /// Answer in JSON, one document
    #[arg(long)]
    pub json: bool,
}

/// One of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Mode {
    /// Take the decision that `auth` would take for this account, with your own agent (which signs a challenge); --service su asks for the account that is gone to
    #[arg(long, value_name = "ACCOUNT")]
    pub user: Option<String>,

    /// Lint PAM stacks: what lets everybody in, or nobody
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub stack: Vec<PathBuf>,

    /// Validate the options of a line, given as one word; the files and groups that they name are looked at here
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub options: Option<String>,

    /// Print the manual page or a shell's completion, for packagers
    #[arg(long, value_name = "WHAT", value_enum)]
    pub generate: Option<Generate>,
}

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FacilityArg {
    /// auth
    Auth,
    /// account
    Account,
    /// session
    Session,
}

/// What packagers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    /// pam-ussh-check(8)
    Man,
    /// Completion for bash
    Bash,
    /// Completion for zsh
    Zsh,
    /// Completion for fish
    Fish,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn manual_and_completions_are_those_of_this_command_line() {
        let command = Cli::command();
        let mut made = ussh_manual::completions(&command);
        made.push(ussh_manual::manual_page(&command, "8").unwrap());
        assert_eq!(ussh_manual::agree(&made), Ok(()));
    }
}
