//! What a lab host is: files, accounts, network, terminals, sshd, sudo, su.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::{Duration, Instant};

use ussh_lab::{Lab, SSHD_CONFIG, Status};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_host_with_sshd_is_up_in_no_time() {
    let start = Instant::now();
    let lab = Lab::new("quick").host("web1").start().unwrap();
    let made = start.elapsed();
    lab.host("web1").start_sshd(SSHD_CONFIG).unwrap();
    let up = start.elapsed();
    let begin = Instant::now();
    for _ in 0..20 {
        lab.host("web1").run(["true"]).unwrap().ok().unwrap();
    }
    let run = begin.elapsed() / 20;
    let begin = Instant::now();
    drop(lab);
    println!("host made after {made:?}, sshd up after {up:?}, a command takes {run:?}, end {:?}", begin.elapsed());
}
