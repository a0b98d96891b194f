//! The servers: of Debian 12 and of Debian 13, with `at_end = "end"` and with `"freeze"`.

use std::path::Path;
use std::sync::LazyLock;

use ussh_e2e::lab::{Host, SSHD_CONFIG, trixie_root};
use ussh_e2e::{SSHD_WITH_CERTIFICATES, World, WorldPlan};

use crate::SOON;
use crate::table::Column;

/// Each OpenSSH's two, in the order of `end`, `freeze`.
pub const SERVERS: [(&str, [&str; 2]); 2] =
    [("OpenSSH 9.2", ["end12", "freeze12"]), ("OpenSSH 10.0", ["end13", "freeze13"])];

const HOSTD: &str = "\
warn_before_seconds = 5
look_before_seconds = 5
agent_timeout_seconds = 2
grace_seconds = 1
at_end = \"AT_END\"

[sync]
source = \"file:/srv/ussh-feed\"
every_seconds = 86400
";

pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("at-end").without_servers().people(96, "admins").server("end12").server("freeze12");
    let trixie = trixie_root().unwrap();
    let world = plan.server_on("end13", &trixie).server_on("freeze13", &trixie).start().unwrap();
    for server in SERVERS.iter().flat_map(|(_, servers)| servers) {
        set_up(&world, server);
    }
    let laptop = world.host("laptop");
    // Hosts are called otherwise here than where the laptop forwards agents of itself.
    laptop.write_file("/etc/ssh/ssh_config.d/ussh.conf", 0o644, "Host *\n  StrictHostKeyChecking yes\n").unwrap();
    world
});

fn set_up(world: &World, server: &str) {
    let host = world.host(server);
    let at_end = server.trim_end_matches(['1', '2', '3']);
    host.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD.replace("AT_END", at_end)).unwrap();
    host.stop_service("ussh-hostd").unwrap();
    host.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap().wait_for_output("Watching ", SOON).unwrap();
    host.stop_service("sshd").unwrap();
    for program in ["tmux", "xauth"] {
        install(&host, program);
    }
    let config = "PermitRootLogin yes\nMaxStartups 100\nX11Forwarding yes\nXAuthLocation /usr/local/bin/xauth\n";
    host.start_sshd(&format!("{SSHD_CONFIG}{SSHD_WITH_CERTIFICATES}{config}")).unwrap();
}

/// This machine's program as `/usr/local/bin/NAME`: with what it loads, for Debian 13's root has neither.
fn install(host: &Host, name: &str) {
    let program = format!("/usr/bin/{name}");
    let folder = format!("/usr/local/lib/{name}");
    let loads = std::process::Command::new("ldd").arg(&program).output().unwrap();
    let text = String::from_utf8(loads.stdout).unwrap();
    let libraries = text.lines().filter_map(|line| line.split_whitespace().nth(2)).filter(|path| path.starts_with('/'));
    for library in libraries.filter(|path| !path.contains("/libc.so")) {
        let file = Path::new(library).file_name().unwrap().to_str().unwrap();
        host.write_file(&format!("{folder}/{file}"), 0o644, std::fs::read(library).unwrap()).unwrap();
    }
    host.write_file(&format!("{folder}/{name}"), 0o755, std::fs::read(&program).unwrap()).unwrap();
    let wrapper = format!("#!/bin/sh\nLD_LIBRARY_PATH={folder} exec {folder}/{name} \"$@\"\n");
    host.write_file(&format!("/usr/local/bin/{name}"), 0o755, wrapper).unwrap();
}

/// Where a column is tried.
pub fn of(servers: [&'static str; 2], column: Column) -> &'static str {
    match column {
        Column::Renewed | Column::End => servers[0],
        Column::Freeze => servers[1],
    }
}
