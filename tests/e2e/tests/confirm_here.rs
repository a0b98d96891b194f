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

/// Types the answer until it is taken for one: nobody reads a question in its first half second.
fn answer(here: &Pty, line: &str, wanted: &str) {
    loop {
        here.send(&format!("{line}\n")).unwrap();
        let (which, _) =
            here.expect_any(&["has only just been asked: read it, and say it again", wanted], SOON).unwrap();
        if which == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What is typed is none.
fn no_answer(here: &Pty, line: &str) {
    answer(here, line, "that is no answer to what is asked");
}

#[test]
fn it_asks_on_its_terminal_and_what_is_typed_there_decides() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let here = confirming(&user);
    // Nobody's answer: it was typed before there was a question.
    here.send("10 n\n").unwrap();
    for (number, typed, code, outcome) in
        [(10, "y", 0, "signed"), (11, "yes", 0, "signed"), (12, "n", 1, "refused"), (13, "No", 1, "refused")]
    {
        let there = sudo(&user);
        here.expect(&format!("{number}: web1: sudo as {user}"), SOON).unwrap();
        here.expect("asked over the connection to SHA256:", SOON).unwrap();
        here.expect(&format!("Sign with the certificate of {user}?"), SOON).unwrap();
        here.expect(&format!("(\"{number} y\" signs, \"{number} n\" refuses) "), SOON).unwrap();
        for unnumbered in ["y", "n", "yes", ""] {
            no_answer(&here, unnumbered);
        }
        answer(&here, &format!("{number} {typed}"), &format!("{number}: {outcome}\r\n"));
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
fn a_question_that_nobody_answers_holds_up_no_other_and_an_answer_half_typed_comes_to_be_none_to_another() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let here = confirming(&user);
    let first = sudo(&user);
    here.expect("10: web1: sudo as", SOON).unwrap();
    here.expect("(\"10 y\" signs, \"10 n\" refuses) ", SOON).unwrap();
    let second = sudo(&user);
    here.expect("11: web1: sudo as", SOON).unwrap();
    here.expect("(10, 11 wait for an answer: \"10 y\" signs, \"10 n\" refuses) ", SOON).unwrap();
    answer(&here, "11 y", "11: signed");
    assert_eq!(second.expect_exit(SOON).unwrap().code(), 0, "{}", second.transcript());
    here.expect("(\"10 y\" signs, \"10 n\" refuses) ", SOON).unwrap();
    // One that goes while it is answered: neither the rest of the line nor the whole is an answer to the one that is left.
    for (number, typed, rest) in [(12, "12 ", "y"), (13, "1", "3 y"), (14, "14", " y")] {
        let passing = sudo(&user);
        here.expect(&format!("{number}: web1: sudo as"), SOON).unwrap();
        here.expect(&format!("(10, {number} wait for an answer"), SOON).unwrap();
        here.send(typed).unwrap();
        here.expect(typed, SOON).unwrap();
        drop(passing);
        here.expect(&format!("({number}: nobody waits for the answer any more, after "), SOON).unwrap();
        here.expect("(\"10 y\" signs, \"10 n\" refuses) ", SOON).unwrap();
        here.send(&format!("{rest}\n")).unwrap();
        here.expect("that is no answer to what is asked", SOON).unwrap();
    }
    answer(&here, "10 n", "10: refused");
    assert_eq!(first.expect_exit(SOON).unwrap().code(), 1, "{}", first.transcript());
}

#[test]
fn a_question_for_which_nobody_waits_any_more_is_withdrawn() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let here = confirming(&user);
    let there = sudo(&user);
    here.expect("\"10 n\" refuses) ", SOON).unwrap();
    WORLD.host("laptop").run(["pkill", "-KILL", "-u", &user, "-x", "ssh"]).unwrap().ok().unwrap();
    here.expect("(10: nobody waits for the answer any more, after ", SOON).unwrap();
    drop(there);
    let there = sudo(&user);
    here.expect("\"11 n\" refuses) ", SOON).unwrap();
    answer(&here, "11 y", "11: signed");
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
    here.expect("\"10 n\" refuses) ", SOON).unwrap();
    answer(&here, "10 y", "10: signed");
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
