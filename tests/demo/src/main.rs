//! `ussh-demo`: a laptop, a CA and servers on this machine, and the main job played on them, each step proved by a stock tool.
//!
//! Exit status: 0 if every step was what it says, 1 if one was not, 2 if the hosts could not be set up.
#![forbid(unsafe_code)]

mod certificates;
mod hosts;
mod sessions;
mod story;

use std::io::IsTerminal;
use std::process::ExitCode;

use story::Story;
use ussh_e2e::WorldPlan;

fn main() -> ExitCode {
    let mut story = Story::begin(std::io::stdout().is_terminal());
    story.say("Setting up a laptop, a CA (ca), two servers (web1, web2), a laptop with nothing of ours on it (stock) and a server without a certificate (rogue) …");
    let world = match WorldPlan::new("demo")
        .person("dave", "tr0ub4dor", &["visitors"])
        .policy(POLICY)
        .bare("stock")
        .bare("rogue")
        .start()
    {
        Ok(world) => world,
        Err(error) => {
            eprintln!("ussh-demo: the hosts could not be set up: {error}");
            return ExitCode::from(2);
        }
    };
    let w = &world;

    story.step("a", "an empty agent, one password, and a command runs on web1", |s| certificates::first_login(w, s));
    story.step("b", "the agent holds one certificate, as policy says, and drops it at its end", |s| {
        certificates::in_the_agent(w, s)
    });
    story.step("c", "the second time nothing is asked; a stock `ssh -A ca` does as well as `ussh`", |s| {
        certificates::without_asking(w, s)
    });
    story.step("d", "sudo on web1 asks the agent, and nothing but a good certificate of one's own will do", |s| {
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
        println!("{}", world.lab().report());
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
