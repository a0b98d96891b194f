//! `ussh-demo`: a laptop, a CA and servers on this machine, and the main job played on them, each step proved by a stock tool.
//!
//! `ussh-demo shell` sets the same hosts up and leaves a person on the laptop.
//!
//! Exit status: 0 if every step was what it says, 1 if one was not, 2 if the hosts could not be set up, 64 for wrong arguments.
#![forbid(unsafe_code)]

mod certificates;
mod hosts;
mod sessions;
mod shell;
mod story;

use std::io::IsTerminal;
use std::process::ExitCode;

use story::Story;
use ussh_e2e::lab::{LabError, SSHD_CONFIG};
use ussh_e2e::{World, WorldPlan};

const USAGE: &str = "\
usage: ussh-demo          play the main job on scratch hosts, step by step, with proof
       ussh-demo shell    the same hosts, and a shell on the laptop

It needs root.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => with_hosts(demo),
        ["shell"] => with_hosts(shell::shell),
        ["--help" | "-h"] => {
            tell!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
    }
}

/// Sets the hosts up and hands them over.
fn with_hosts(then: fn(&World) -> ExitCode) -> ExitCode {
    tell!(
        "Setting up a laptop, a CA (ca), two servers (web1, web2), a laptop with nothing of ours on it (stock)\nand a host without a certificate (rogue) …"
    );
    let plan = WorldPlan::new("demo").person("dave", "tr0ub4dor", &["visitors"]).policy(POLICY);
    match plan.bare("stock").bare("rogue").start() {
        Ok(world) => match world.host("rogue").start_sshd(SSHD_CONFIG) {
            Ok(_) => then(&world),
            Err(error) => not_set_up(&error),
        },
        Err(error) => not_set_up(&error),
    }
}

/// Says why there are no hosts.
pub fn not_set_up(error: &LabError) -> ExitCode {
    eprintln!("ussh-demo: the hosts could not be set up: {error}");
    ExitCode::from(2)
}

/// The main job, step by step.
fn demo(w: &World) -> ExitCode {
    let mut story = Story::begin(std::io::stdout().is_terminal());
    story.step("a", "an empty agent, one password, and a command runs on web1", |s| certificates::first_login(w, s));
    story.step("b", "the agent holds one certificate, as policy says, and drops it at its end", |s| {
        certificates::in_the_agent(w, s)
    });
    story.step("c", "the second time nothing is asked; a stock `ssh -A ca` does as well as `ussh`", |s| {
        certificates::without_asking(w, s)
    });
    story.step("d", "sudo on web1 asks the agent: nothing but a good certificate of one's own will do", |s| {
        sessions::sudo(w, s)
    });
    story.step("e", "a live session ends with its certificate, unless it was renewed", |s| sessions::live(w, s));
    story.step("f", "a revoked certificate opens nothing any more", |s| sessions::revoked(w, s));
    story.step("g", "a reinstalled server raises no warning; one without a certificate is refused", |s| {
        hosts::reinstalled(w, s)
    });
    story.step("h", "the CA knows every certificate, the undelivered one as well", |s| hosts::inventory(w, s));
    story.step("i", "on web2 sshd itself asks for the certificate", |s| hosts::sshd_stack(w, s));

    if story.end() {
        ExitCode::SUCCESS
    } else {
        tell!("{}", w.lab().report());
        ExitCode::FAILURE
    }
}

/// The lab's policy, and visitors whose certificates last a few seconds.
const POLICY: &str = r#"
[[rule]]
name = "admins"
groups = ["admins"]
validity_seconds = 28800
principals = ["%u"]

[[rule]]
name = "contractors"
groups = ["contractors"]
validity_seconds = 16
principals = ["%u"]

[[rule]]
name = "visitors"
groups = ["visitors"]
validity_seconds = 7
principals = ["%u"]
"#;
