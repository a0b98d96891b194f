//! A person on the laptop of a running lab.

use std::process::ExitCode;

use ussh_e2e::{AGENT, World};

use crate::tell;

/// What there is to try.
const CARD: &str = "\
  You are alice on laptop. Your password is `PASSWORD_ALICE`, bob's is `PASSWORD_BOB`.

  ssh-add -l                          your agent is empty
  ussh web1                           the CA asks for your password, then you are on web1
  ssh-add -L | ssh-keygen -Lf -       the certificate that you got
  ussh web1 sudo id                   sudo asks your agent, not you
  ssh -a web1 sudo id                 without it: refused
  ussh --status                       what you hold, and for how long
  ssh -A ca whoami                    the CA is an ssh server like any other
  su - bob                            bob's certificates last 16 seconds: see his session end
  exit                                all of it goes

";

/// A shell for alice, until she leaves it.
pub fn shell(world: &World) -> ExitCode {
    let card = CARD.replace("PASSWORD_ALICE", world.password("alice")).replace("PASSWORD_BOB", world.password("bob"));
    tell!("\n{card}");
    let laptop = world.host("laptop");
    let bash = laptop.command(["bash"]).user("alice").env("SSH_AUTH_SOCK", &format!("/home/alice/{AGENT}"));
    let bash = match std::env::var("TERM") {
        Ok(kind) => bash.env("TERM", &kind),
        Err(_) => bash,
    };
    match bash.attach() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ussh-demo: {error}");
            ExitCode::FAILURE
        }
    }
}
