//! The examples in `packaging/`, installed as they are: they are what the README says, they parse, they let the right one in and nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use ussh_e2e::lab::{SSHD_CONFIG, wait_until};
use ussh_e2e::{World, WorldPlan};

const SOON: Duration = Duration::from_secs(20);
/// Files of `/etc/pam.d` that the README has changed.
const CHANGED: [&str; 4] = ["sudo", "sudo-i", "su", "sshd"];

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What counts of a configuration file: its lines without comments, blanks as one.
fn statements(text: &str) -> Vec<String> {
    let bare = text.lines().map(|line| match line.split_once('#') {
        Some((before, _)) => before,
        None => line,
    });
    bare.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|line| !line.is_empty()).collect()
}

/// The README's blocks that begin with the name of a file in /etc: its path there, and the block.
fn readme_blocks() -> Vec<(String, String)> {
    let readme = include_str!("../../../README.md");
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        let Some(line) = line.strip_prefix("    ") else {
            inside = false;
            continue;
        };
        if let Some(path) = line.strip_prefix("# /etc/") {
            let name = path.split([' ', ':', ',']).next().unwrap();
            blocks.push((name.to_owned(), String::new()));
            inside = true;
        } else if inside {
            blocks.last_mut().unwrap().1 += &format!("{line}\n");
        }
    }
    blocks
}

/// web1 with the examples in place of the world's own files; `pam` as (service, file in packaging), `more` goes into its sshd_config, before them.
fn with_examples(name: &str, pam: &[(&str, &str)], more: &str) -> World {
    let world = WorldPlan::new(name).start().unwrap();
    let web1 = world.host("web1");
    web1.stop_service("sshd").unwrap();
    web1.stop_service("ussh-hostd").unwrap();
    for (service, from) in pam {
        web1.write_file(&format!("/etc/pam.d/{service}"), 0o644, example(from)).unwrap();
    }
    let rule = "%admins ALL=(ALL) ALL\n";
    web1.write_file("/etc/sudoers.d/ussh", 0o440, example("sudoers.d/ussh") + rule).unwrap();
    web1.run(["visudo", "-c"]).unwrap().ok().unwrap();
    web1.write_file("/etc/ussh/hostd.toml", 0o644, example("ussh/hostd.toml")).unwrap();
    web1.run(["ussh-hostd", "sync"]).unwrap().ok().unwrap();
    // Before it is started that is all there is to be said.
    let check = || web1.run(["ussh-hostd", "check"]).unwrap();
    let before = check();
    assert_eq!(before.status.code(), 69, "{before}");
    assert!(before.stderr.ends_with("; all else is good\n") && before.stderr.lines().count() == 1, "{before}");
    let hostd = web1.command(["ussh-hostd", "run"]).service("ussh-hostd").unwrap();
    hostd.wait_for_output("Watching", SOON).unwrap();
    check().ok().unwrap();
    web1.write_file("/etc/ssh/sshd_config.d/ussh.conf", 0o644, example("ssh/sshd_config.d/ussh.conf")).unwrap();
    let config = format!("{more}Include /etc/ssh/sshd_config.d/*.conf\n{SSHD_CONFIG}");
    web1.start_sshd(&config).unwrap();
    let (code, seen) = world.log_in("alice", "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    world
}

#[test]
fn a_server_set_up_with_the_examples_takes_certificates_and_nothing_else() {
    let services = CHANGED.into_iter().chain(["doas"]);
    let files: Vec<(&str, String)> = services.map(|service| (service, format!("pam.d/{service}"))).collect();
    let pam: Vec<(&str, &str)> = files.iter().map(|(service, file)| (*service, file.as_str())).collect();
    let world = with_examples("examples", &pam, "");
    let _watch = world.lab().watch();
    world.host("web1").write_file("/etc/doas.conf", 0o400, "permit :admins\n").unwrap();
    for command in ["sudo id -u", "sudo -i id -u", "sudo -n id -u", "doas id -u"] {
        let good = world.sh("laptop", "alice", &format!("ssh -A web1 '{command}' </dev/null")).unwrap().ok().unwrap();
        assert_eq!(good.stdout, "0\n", "{command}");
        let bad = world.sh("laptop", "alice", &format!("ssh -a web1 '{command}' </dev/null")).unwrap();
        assert!(!bad.success() && bad.stdout.is_empty(), "{command}: {bad}");
    }
    let su = world.sh("laptop", "alice", "ssh -A web1 'su - -c id' </dev/null").unwrap().refused().unwrap();
    assert!(su.stdout.is_empty(), "{su}");
    let web1 = world.host("web1");
    // As the README asks for behind each change.
    web1.script("pam-ussh-check --stack /etc/pam.d/*").unwrap();
    let rootok = web1.run(["su", "-", "alice", "-c", "id -un"]).unwrap().ok().unwrap();
    assert_eq!(rootok.stdout, "alice\n");

    // ussh-hostd hears of the session.
    let session = world.terminal("laptop", "alice", "ssh web1").unwrap();
    wait_until(SOON, "alice's session in ussh-hostd's list", || {
        web1.run(["ussh-hostd", "sessions"]).is_ok_and(|list| list.stdout.contains("alice (serial "))
    })
    .unwrap();
    drop(session);

    // Without the certificate no other way in is even offered.
    let bare = world.sh("laptop", "alice", "SSH_AUTH_SOCK= ssh -o BatchMode=yes web1 true").unwrap();
    assert!(bare.stderr.contains("Permission denied (publickey)"), "{bare}");
}

#[test]
fn the_example_for_sshds_own_stack_works_with_the_two_lines_it_asks_for() {
    let asked = "KbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive:pam\n";
    let header = example("keyboard-interactive/pam.d/sshd");
    for line in asked.lines() {
        assert!(header.contains(line), "the example does not say {line}");
    }
    let world = with_examples("examples2", &[("sshd", "keyboard-interactive/pam.d/sshd")], asked);
    let _watch = world.lab().watch();
    let good = world.sh("laptop", "alice", "ssh web1 hostname </dev/null").unwrap().ok().unwrap();
    assert_eq!(good.stdout, "web1\n");
    let log = world.host("web1").log();
    assert!(log.lines().any(|l| l.contains("pam_ussh") && l.contains("Accepted") && l.contains("via sshd")), "{log}");
}

#[test]
fn each_program_lies_where_the_readme_says_and_people_find_what_is_theirs() {
    let world = WorldPlan::new("programs").without_servers().server("web1").start().unwrap();
    let _watch = world.lab().watch();
    let table = include_str!("../../../README.md").split_once("| file in `target/release/` |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut seen = Vec::new();
    for row in rows {
        let [names, place, on] = row.trim_matches('|').splitn(3, " | ").map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let hosts = [("the CA", "ca"), ("each server", "web1"), ("laptops", "laptop")];
        let (_, host) = hosts.iter().find(|(begin, _)| on.starts_with(begin)).unwrap_or_else(|| panic!("{row}"));
        for name in names.split(", ").map(|name| name.trim_matches('`')) {
            let place = place.trim_matches('`');
            let place = if place.ends_with('/') { format!("{place}{name}") } else { place.to_owned() };
            assert!(world.host(host).exists(&place), "{place} on {host}");
            seen.push(name);
        }
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
    world.sh("web1", "alice", "pam-ussh-check --version").unwrap().ok().unwrap();
    world.sh("laptop", "alice", "ussh --version").unwrap().ok().unwrap();
}

/// This machine's are Debian's, and a server's administrator has the same ones.
#[test]
fn each_pam_file_is_debians_with_the_readmes_line_and_no_other_change() {
    let blocks = readme_blocks();
    for service in CHANGED {
        let debians = statements(&std::fs::read_to_string(format!("/etc/pam.d/{service}")).unwrap());
        let ours = statements(&example(&format!("pam.d/{service}")));
        let file = if service == "sudo-i" { "pam.d/sudo".to_owned() } else { format!("pam.d/{service}") };
        let (_, block) = blocks.iter().find(|(name, _)| *name == file).unwrap_or_else(|| panic!("README: {file}"));
        let [line] = statements(block).try_into().unwrap();
        if service == "sshd" {
            let at = ours.iter().position(|l| *l == line).unwrap();
            let env = ours.iter().position(|l| l.contains("pam_env.so")).unwrap();
            assert!(at < env, "before any pam_env");
            assert_eq!([&ours[..at], &ours[at + 1..]].concat(), debians, "{service}");
        } else {
            let edited: Vec<String> =
                debians.into_iter().map(|l| if l == "@include common-auth" { line.clone() } else { l }).collect();
            assert_eq!(ours, edited, "{service}");
        }
    }
}

#[test]
fn each_file_that_the_readme_shows_lies_in_packaging_with_the_same_effect() {
    let mut seen = Vec::new();
    for (name, block) in readme_blocks() {
        if !name.starts_with("pam.d/") {
            assert_eq!(statements(&example(&name)), statements(&block), "{name}");
        }
        seen.push(name);
    }
    seen.sort();
    let expected = [
        "pam.d/sshd",
        "pam.d/su",
        "pam.d/sudo",
        "ssh/ssh_config.d/ussh.conf",
        "ssh/sshd_config.d/ussh.conf",
        "sudoers.d/ussh",
        "ussh/hostd.toml",
        "ussh/ussh.toml",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_cas_and_the_laptops_examples_do_what_they_are_for() {
    let world = WorldPlan::new("examples3").without_servers().bare("web1").start().unwrap();
    let _watch = world.lab().watch();
    let (ca, laptop, web1) = (world.host("ca"), world.host("laptop"), world.host("web1"));
    // The world's PAM service is what `usshca init` wrote.
    assert_eq!(statements(&ca.read_file("/etc/pam.d/usshca").unwrap()), statements(&example("pam.d/usshca")));
    ca.write_file("/etc/pam.d/usshca", 0o644, example("pam.d/usshca")).unwrap();
    laptop.write_file("/etc/ussh/ussh.toml", 0o644, example("ussh/ussh.toml").replace("ca.example.com", "ca")).unwrap();
    laptop.write_file("/etc/ssh/ssh_config.d/ussh.conf", 0o644, example("ssh/ssh_config.d/ussh.conf")).unwrap();
    let (code, seen) = world.log_in("alice", "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(world.certificates("alice").unwrap().len(), 1);

    // A host without a certificate is refused, and the person is not asked to take it all the same.
    web1.start_sshd(SSHD_CONFIG).unwrap();
    let terminal = world.terminal("laptop", "alice", "ssh web1 true").unwrap();
    assert_eq!(terminal.expect_exit(SOON).unwrap().code(), 255, "{}", terminal.transcript());
    terminal.expect_close(SOON).unwrap();
    let seen = terminal.transcript();
    assert!(seen.contains("Host key verification failed") && !seen.contains("authenticity of host"), "{seen}");
}

#[test]
fn init_under_a_closed_folder_names_it_and_the_folder_that_was_given() {
    let world = WorldPlan::new("closed").without_servers().start().unwrap();
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    ca.script("chmod 700 /root").unwrap();
    let failed = ca.run(["usshca", "--dir", "/root/D", "init", "--name", "ca"]).unwrap();
    assert_eq!(failed.status.code(), 78, "{failed}");
    let expected = "usshca: /root/D: usshca, the signer's account, cannot enter /root; make the CA in another folder, or: chmod o+x /root\n";
    assert_eq!(failed.stderr, expected);
    assert_eq!(ca.script("ls -A /root | grep -e D -e usshca || true").unwrap().stdout, "");
    ca.script("chmod o+x /root").unwrap();
    ca.run(["usshca", "--dir", "/root/D", "init", "--name", "ca"]).unwrap().ok().unwrap();
}
