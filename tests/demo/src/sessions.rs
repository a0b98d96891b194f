//! Steps d to f: what a certificate is good for on a server, and for how long.

use std::time::Duration;

use ussh_e2e::lab::{Pty, wait_until};
use ussh_e2e::{CA_DIR, World};

use crate::certificates::SOON;
use crate::story::{Story, Told, ensure};

/// How a shell on a server says that it is ready: no bash prompt ends like this by itself.
const READY: &str = "ready> ";

/// d. sudo asks the forwarded agent, each time.
pub fn sudo(world: &World, story: &Story) -> Told {
    let root = world.sh("laptop", "alice", "ssh -A web1 sudo id -u </dev/null")?;
    story.show("alice@laptop", "ssh -A web1 sudo id -u", &root.stdout);
    ensure(root.success() && root.stdout == "0\n", || root.to_string())?;
    let more = world.sh("laptop", "alice", "ssh -A web1 'sudo -i id -u; sudo -n id -u' </dev/null")?;
    story.show("alice@laptop", "ssh -A web1 'sudo -i id -u; sudo -n id -u'", &more.stdout);
    ensure(more.success() && more.stdout == "0\n0\n", || more.to_string())?;
    let setup = "grep pam_ussh /etc/pam.d/sudo; grep Defaults /etc/sudoers.d/ussh";
    let lines = world.host("web1").run(["sh", "-c", setup])?.ok()?.stdout;
    story.show("web1", setup, &lines);
    ensure(lines.contains("auth") && lines.contains("timestamp_timeout=0"), || "sudo is set up otherwise".into())?;

    let none = world.sh("laptop", "alice", "ssh -a web1 sudo id -u </dev/null")?;
    refused(story, "agent forwarding off", "ssh -a web1 sudo id -u", &none.stdout, &none.stderr)?;

    let session = shell(world, "alice", "ssh -A web1")?;
    world.sh("laptop", "alice", "ssh-add -D")?.ok()?;
    let seen = in_shell(&session, "sudo id -u")?;
    refused(story, "the agent was emptied", "sudo id -u", &seen, "")?;
    let seen = in_shell(&session, "sudo -i id -u")?;
    refused(story, "and likewise", "sudo -i id -u", &seen, "")?;

    forge(world, "alice", "bob", "-5m:+1h", "")?;
    let seen = in_shell(&session, "sudo id -u")?;
    refused(story, "a good certificate, but bob's", "sudo id -u", &seen, "")?;

    forge(world, "alice", "alice", "-5m:+2s", "")?;
    let until = "ssh-add -L | ssh-keygen -Lf - | sed -n 's/.*Valid: .* to //p'";
    let end = world.sh("laptop", "alice", until)?.stdout;
    wait_until(SOON, "that certificate's end", || {
        world
            .sh("laptop", "alice", &format!("test $(date -d {} +%s) -le $(date +%s)", end.trim()))
            .is_ok_and(|o| o.success())
    })?;
    let seen = in_shell(&session, "sudo id -u")?;
    refused(story, "expired, though the agent still has it", "sudo id -u", &seen, "")?;

    let bobs = another_agent(world)?;
    let seen = in_shell(&session, &format!("SSH_AUTH_SOCK={bobs} sudo id -u"))?;
    refused(story, "SSH_AUTH_SOCK names bob's agent", &format!("SSH_AUTH_SOCK={bobs} sudo id -u"), &seen, "")?;
    world.sh("laptop", "alice", "ssh-add -D")?.ok()?;
    Ok(())
}

/// e. bob's session ends with his certificate; carol renews hers in time, and goes on.
pub fn live(world: &World, story: &Story) -> Told {
    for user in ["bob", "carol"] {
        world.sh("laptop", user, "ssh-add -D")?.ok()?;
        let (code, _) = world.log_in(user, "--login")?;
        ensure(code == 0, || format!("{user}'s login: exit {code}"))?;
    }
    let bob = shell(world, "bob", "ssh -A -R 127.0.0.1:7777:127.0.0.1:22 web1")?;
    let carol = shell(world, "carol", "ssh -A web1")?;
    let who = world.host("web1").run(["who"])?.ok()?.stdout;
    story.show("web1", "who; ss -ltn | grep 7777", &format!("{who}{}", listening(world)));
    ensure(who.contains("bob") && who.contains("carol"), || "who does not list them".into())?;
    ensure(!listening(world).is_empty(), || "bob's forwarded port is not open".into())?;

    carol.expect("your certificate runs out", SOON)?;
    let (code, seen) = world.log_in("carol", "--login")?;
    story.show("carol@laptop", "ussh --login       # warned, she renews", seen.lines().last().unwrap_or(""));
    ensure(code == 0, || format!("carol's renewal: exit {code}"))?;

    let status = bob.expect_exit(SOON)?;
    bob.expect_close(SOON)?;
    story.show("bob@web1", "# what bob's terminal shows, in the end", &last_lines(&bob.transcript(), 6));
    ensure(!status.success(), || format!("bob's ssh ended with {status}, as if he had left"))?;
    wait_until(SOON, "bob's utmp entry and port to go", || {
        world.host("web1").run(["who"]).is_ok_and(|o| !o.stdout.contains("bob")) && listening(world).is_empty()
    })?;
    carol.send("\n")?;
    carol.expect(READY, SOON)?;
    let still = in_shell(&carol, "echo carol is still $(whoami) on $(hostname); who")?;
    story.show("carol@web1", "echo carol is still $(whoami) on $(hostname); who", &still);
    ensure(still.contains("carol is still carol on web1"), || "carol's session did not live on".into())?;
    carol.send("exit\n")?;
    carol.expect_exit(SOON)?;
    Ok(())
}

/// f. Revoked at the CA, brought to the server: neither login nor sudo.
pub fn revoked(world: &World, story: &Story) -> Told {
    let (code, _) = world.log_in("alice", "web1 true")?;
    ensure(code == 0, || format!("alice's login: exit {code}"))?;
    let serial = world.certificates("alice")?.first().map(|c| c.serial).ok_or("alice's agent holds no certificate")?;
    // A way in that does not need the certificate, to try sudo with it all the same.
    world.sh("laptop", "alice", "test -f ~/.ssh/plain || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/plain")?.ok()?;
    let plain = world.host("laptop").read_file("/home/alice/.ssh/plain.pub")?;
    let web1 = world.host("web1");
    web1.make_folder_as("alice", "/home/alice/.ssh", 0o700)?;
    web1.write_file_as("alice", "/home/alice/.ssh/authorized_keys", 0o600, plain)?;

    let revoked = world.usshca(&format!("revoke {serial} --reason 'laptop lost'"))?.ok()?;
    story.show("ca", &format!("usshca revoke {serial} --reason 'laptop lost'"), &revoked.stdout);
    world.carry_feed("web1")?;
    let synced = web1.run(["ussh-hostd", "sync"])?.ok()?;
    story.show("web1", "ussh-hostd sync", &format!("{}{}", synced.stdout, synced.stderr));

    let login = world.sh("laptop", "alice", "ssh -o BatchMode=yes web1 true")?;
    story.show("alice@laptop", "ssh web1 true", &login.stderr);
    ensure(login.status.code() == 255 && login.stderr.contains("Permission denied"), || login.to_string())?;
    let through = "ssh -A -o IdentitiesOnly=yes -i ~/.ssh/plain web1 sudo id -u </dev/null";
    let sudo = world.sh("laptop", "alice", through)?;
    refused(story, "revoked", through, &sudo.stdout, &sudo.stderr)?;

    // All that was sent to syslog is in the file then.
    world.logged_since("web1", 0)?;
    let grep = format!("grep {serial} /var/log/auth.log | tail -n 3");
    let log = web1.run(["sh", "-c", &grep])?.ok()?.stdout;
    story.show("web1", &grep, &log);
    let lines: Vec<&str> = log.lines().collect();
    let by = |who: &str, what: &str| lines.iter().any(|l| l.contains(who) && l.contains(what));
    ensure(by("sshd", "Failed publickey"), || "sshd's log does not name the refused serial".into())?;
    ensure(by("pam_ussh", "certificate is revoked"), || "pam_ussh's log does not name the revoked serial".into())
}

/// A shell on a server, with a prompt of our own.
fn shell(world: &World, user: &str, command: &str) -> Result<Pty, Box<dyn std::error::Error>> {
    let terminal = world.terminal("laptop", user, &format!("{command} -t bash --norc --noprofile"))?;
    terminal.expect("$ ", SOON)?;
    terminal.send(&format!("PS1='{}'\"{}\"\n", &READY[..2], &READY[2..]))?;
    terminal.expect(READY, SOON)?;
    Ok(terminal)
}

/// What a command shows in such a shell, up to the next prompt.
fn in_shell(terminal: &Pty, command: &str) -> Result<String, Box<dyn std::error::Error>> {
    terminal.send(&format!("{command}\n"))?;
    terminal.expect("\n", SOON)?;
    Ok(terminal.expect(READY, Duration::from_secs(75))?)
}

/// Shows a sudo that was refused; an error if it was not.
fn refused(story: &Story, why: &str, command: &str, stdout: &str, stderr: &str) -> Told {
    story.show(&format!("{why}:"), command, &format!("{stdout}{stderr}"));
    let is_root = stdout.lines().any(|l| l.trim() == "0");
    ensure(!is_root, || format!("{why}: sudo gave root"))?;
    let text = format!("{stdout}{stderr}");
    ensure(text.contains("sudo:") || text.contains("ussh"), || format!("{why}: the user is told nothing"))
}

/// Puts a certificate that the CA itself would not issue into `holder`'s agent, signed with the CA's key by root on the CA: what a test needs, and what nobody else can do.
fn forge(world: &World, holder: &str, name: &str, validity: &str, options: &str) -> Told {
    let (ca, laptop) = (world.host("ca"), world.host("laptop"));
    let script = format!(
        "d=$(mktemp -d); ssh-keygen -q -t ed25519 -N '' -C forged -f $d/k; \
         ssh-keygen -q -s {CA_DIR}/state/user_ca -I {name} -n {name} -V {validity} -z 4711 {options} $d/k.pub; cp $d/k $d/k-cert.pub /srv/; rm -r $d"
    );
    ca.script(&script)?;
    let folder = format!("/home/{holder}/.forged");
    laptop.make_folder_as(holder, &folder, 0o700)?;
    for file in ["k", "k-cert.pub"] {
        laptop.write_file_as(holder, &format!("{folder}/{file}"), 0o600, ca.read_bytes(&format!("/srv/{file}"))?)?;
    }
    // The certificate alone, and for as long as the agent lives.
    world.sh("laptop", holder, "ssh-add -q -D; ssh-add -q ~/.forged/k && ssh-keygen -yf ~/.forged/k > ~/.forged/plain.pub && ssh-add -q -d ~/.forged/plain.pub")?.ok()?;
    Ok(())
}

/// The forwarded agent of a session that bob has on web1.
fn another_agent(world: &World) -> Result<String, Box<dyn std::error::Error>> {
    world.log_in("bob", "--login")?;
    let bob = shell(world, "bob", "ssh -A web1")?;
    let socket = in_shell(&bob, "echo $SSH_AUTH_SOCK")?;
    let socket = socket.trim().to_owned();
    ensure(socket.starts_with("/tmp/ssh-"), || format!("bob has no forwarded agent: {socket:?}"))?;
    // bob stays logged in for as long as his certificate does.
    std::mem::forget(bob);
    Ok(socket)
}

fn listening(world: &World) -> String {
    let ports = world.host("web1").run(["ss", "-Hltn", "sport = :7777"]);
    ports.map(|o| o.stdout).unwrap_or_default()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(count)).fold(String::new(), |all, line| all + line + "\n")
}
