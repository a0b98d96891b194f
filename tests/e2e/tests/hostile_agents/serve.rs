//! An agent's process.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use crate::broker;
use crate::cases::{Case, Place};
use crate::kit::Kit;
use crate::script::{Agent, freeze};

/// The agent's socket.
pub fn socket(user: &str) -> String {
    format!("/home/{user}/agent.sock")
}

/// What the process says when it may be asked.
pub const READY: &str = "ready";

/// Serves until it is killed.
pub fn run(case: &Case, user: &str) {
    let kit = Kit::of(user);
    let agent = (case.agent)(&kit);
    let path = socket(user);
    // Another one may have stood here before.
    let _ = std::fs::remove_file(&path);
    if case.place == Place::Anothers {
        symlink(broker::AGENT, &path).unwrap();
        say_ready();
        loop {
            std::thread::park();
        }
    }
    let listener = UnixListener::bind(&path).unwrap();
    if case.place == Place::FullQueue {
        rustix::net::listen(&listener, 0).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        say_ready();
        loop {
            std::thread::park();
        }
    }
    say_ready();
    if case.place == Place::Frozen {
        freeze();
    }
    accept(&listener, agent);
}

/// Each connection in a thread of its own, as many as come.
pub fn accept(listener: &UnixListener, agent: Agent) {
    let agent = Arc::new(agent);
    for (connection, stream) in listener.incoming().enumerate() {
        let (agent, stream) = (Arc::clone(&agent), stream.unwrap());
        std::thread::spawn(move || agent.serve(stream, connection));
    }
}

pub fn say_ready() {
    println!("{READY}");
    std::io::stdout().flush().unwrap();
}
