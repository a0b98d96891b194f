//! `confirm` where there is no desktop: `ussh --confirm` asks on a terminal of the user's; without one it is a no, and the log says what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::Pty;
use ussh_e2e::{World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("confirm").without_servers().server("web1").people(4, "admins").start().unwrap();
    let laptop = world.host("laptop");
    let config = laptop.read_file("/etc/ussh/ussh.toml").unwrap();
    laptop.write_file("/etc/ussh/ussh.toml", 0o644, format!("{config}\nconfirm = [\"sudo*\"]\n")).unwrap();
    world.guard_agents("web*").unwrap();
    world
});

/// Somebody with a certificate.
fn somebody() -> String {
    let name = WORLD.somebody().unwrap();
    let (code, seen) = WORLD.log_in(&name, "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    name
}

fn last_entry(user: &str) -> Value {
    let log = WORLD.sh("laptop", user, "ussh --log --json").unwrap().ok().unwrap().stdout;
    serde_json::from_str(log.lines().last().unwrap()).unwrap()
}

fn sudo(user: &str) -> Pty {
    WORLD.terminal("laptop", user, "ussh web1 sudo id -u").unwrap()
}

fn confirming(user: &str) -> Pty {
    let terminal = WORLD.terminal("laptop", user, "exec ussh --confirm").unwrap();
    terminal.expect("End with Ctrl-C.", SOON).unwrap();
    terminal
}

#[test]
fn it_asks_on_its_terminal_and_what_is_typed_there_decides() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let here = confirming(&user);
    // Nobody's answer: it was typed before there was a question.
    here.send("n\n").unwrap();
    for (typed, code, outcome, shown) in [
        ("y", 0, "signed", "signed"),
        ("yes", 0, "signed", "signed"),
        ("n", 1, "refused", "refused"),
        ("", 1, "refused", "refused"),
        ("yep", 1, "refused", "refused"),
    ] {
        let there = sudo(&user);
        here.expect(&format!("web1: sudo as {user}"), SOON).unwrap();
        here.expect(&format!("Sign with the certificate of {user}? [y/N] "), SOON).unwrap();
        here.send(&format!("{typed}\n")).unwrap();
        here.expect(&format!("{shown}\r\n"), SOON).unwrap();
        let status = there.expect_exit(SOON).unwrap();
        assert_eq!(status.code(), code, "{typed:?}: {}", there.transcript());
        let entry = last_entry(&user);
        assert_eq!(entry["outcome"], outcome, "{entry}");
        if outcome == "refused" {
            assert!(entry["what"].as_str().unwrap().ends_with("you said no, or nothing"), "{entry}");
        }
    }
    let second = WORLD.terminal("laptop", &user, "ussh --confirm").unwrap();
    second.expect("ussh: another `ussh --confirm` asks already, elsewhere", SOON).unwrap();
    second.expect("ussh: answer there, or end that one", SOON).unwrap();
    assert_eq!(second.expect_exit(SOON).unwrap().code(), 69);
}

#[test]
fn a_question_that_nobody_answers_holds_up_no_other_and_with_several_the_answer_says_to_which() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let here = confirming(&user);
    let first = sudo(&user);
    here.expect("1: web1: sudo as", SOON).unwrap();
    here.expect("[y/N] ", SOON).unwrap();
    let second = sudo(&user);
    here.expect("2: web1: sudo as", SOON).unwrap();
    here.expect("(1, 2 wait for an answer: say to which, as \"1 y\" or \"1 n\") ", SOON).unwrap();
    // Meant for whichever of them: nobody knows.
    here.send("y\n").unwrap();
    here.expect("that is no answer to what is asked", SOON).unwrap();
    here.send("2 y\n").unwrap();
    here.expect("signed\r\n", SOON).unwrap();
    assert_eq!(second.expect_exit(SOON).unwrap().code(), 0, "{}", second.transcript());
    here.expect("1: [y/N] ", SOON).unwrap();
    // One that came and went: its answer, come late, is none to the other.
    let third = sudo(&user);
    here.expect("3: web1: sudo as", SOON).unwrap();
    drop(third);
    here.expect("(3: nobody waits for the answer any more, after ", SOON).unwrap();
    here.expect("1: [y/N] ", SOON).unwrap();
    here.send("3 y\n").unwrap();
    here.expect("that is no answer to what is asked", SOON).unwrap();
    here.expect("1: [y/N] ", SOON).unwrap();
    here.send("n\n").unwrap();
    here.expect("refused\r\n", SOON).unwrap();
    assert_eq!(first.expect_exit(SOON).unwrap().code(), 1, "{}", first.transcript());
}

#[test]
fn a_question_for_which_nobody_waits_any_more_is_withdrawn() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let here = confirming(&user);
    let there = sudo(&user);
    here.expect("[y/N] ", SOON).unwrap();
    WORLD.host("laptop").run(["pkill", "-KILL", "-u", &user, "-x", "ssh"]).unwrap().ok().unwrap();
    here.expect("(1: nobody waits for the answer any more, after ", SOON).unwrap();
    drop(there);
    let there = sudo(&user);
    here.expect("[y/N] ", SOON).unwrap();
    here.send("y\n").unwrap();
    assert_eq!(there.expect_exit(SOON).unwrap().code(), 0);
}

#[test]
fn with_nowhere_to_ask_it_is_a_no_and_the_log_says_what_to_do() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let refused = || {
        let there = sudo(&user);
        assert_eq!(there.expect_exit(SOON).unwrap().code(), 1, "{}", there.transcript());
        let entry = last_entry(&user);
        let what = "there is nowhere to ask you: run `ussh --confirm` in a terminal, or set SSH_ASKPASS before this agent is started (`ussh --logout` ends it)";
        assert!(entry["outcome"] == "refused" && entry["what"].as_str().unwrap().ends_with(what), "{entry}");
    };
    refused();
    let here = confirming(&user);
    let there = sudo(&user);
    here.expect("[y/N] ", SOON).unwrap();
    here.send("y\n").unwrap();
    assert_eq!(there.expect_exit(SOON).unwrap().code(), 0);
    here.send("\x03").unwrap();
    here.expect_exit(SOON).unwrap();
    refused();
    let output = WORLD.sh("laptop", &user, "setsid --wait ussh --confirm").unwrap();
    assert_eq!(output.status.code(), 69, "{output}");
    for said in ["ussh: there is no terminal to ask on: ", "ussh: run it in a terminal of its own"] {
        assert!(output.stderr.contains(said), "{said}: {output}");
    }
}
