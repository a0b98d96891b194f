//! Steps g to i: how hosts prove themselves, what the CA knows, and sshd's own stack.

use ussh_e2e::lab::SSHD_CONFIG;
use ussh_e2e::{CA_DIR, SSHD_WITH_CERTIFICATES, World};

use crate::certificates::SOON;
use crate::story::{Story, Told, ensure};

/// g. A new key under the old name raises no warning, as long as the CA signed it.
pub fn reinstalled(world: &World, story: &Story) -> Told {
    let (code, _) = world.log_in("alice", "--login")?;
    ensure(code == 0, || format!("alice's login: exit {code}"))?;
    let key = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub";
    let web2 = world.host("web2");
    let before = web2.run(["sh", "-c", key])?.ok()?.stdout;
    world.sh("laptop", "alice", "ssh web2 true")?.ok()?;

    web2.stop_service("sshd")?;
    web2.script("rm /etc/ssh/ssh_host_ed25519_key*")?;
    world.sign_host("web2")?;
    web2.start_sshd(&format!("{SSHD_CONFIG}{SSHD_WITH_CERTIFICATES}"))?;
    let after = web2.run(["sh", "-c", key])?.ok()?.stdout;
    story.show("web2", &format!("{key}      # before and after"), &format!("{before}{after}"));
    ensure(before != after, || "the host key did not change".into())?;
    let again = world.sh("laptop", "alice", "ssh web2 hostname")?;
    story.show("alice@laptop", "ssh web2 hostname", &format!("{}{}", again.stdout, again.stderr));
    ensure(again.success() && again.stdout == "web2\n" && again.stderr.is_empty(), || again.to_string())?;

    let rogue = world.sh("laptop", "alice", "ssh rogue hostname </dev/null")?;
    story.show("alice@laptop", "ssh rogue hostname", &rogue.stderr);
    ensure(rogue.status.code() == 255 && rogue.stderr.contains("Host key verification failed"), || rogue.to_string())
}

/// h. The inventory, with a certificate that an agent would not take.
pub fn inventory(world: &World, story: &Story) -> Told {
    // A locked agent takes nothing.
    let lock = "printf 'x\\nx\\n' > ~/lock; SSH_ASKPASS=$HOME/askpass SSH_ASKPASS_REQUIRE=force ssh-add -x";
    world.host("stock").write_file_as("alice", "/home/alice/askpass", 0o755, "#!/bin/sh\necho x\n")?;
    world.sh("stock", "alice", lock)?.ok()?;
    let terminal = world.terminal("stock", "alice", "ssh -A ca")?;
    terminal.expect("assword:", SOON)?;
    terminal.send(&format!("{}\n", world.password("alice")))?;
    let status = terminal.expect_exit(SOON)?;
    terminal.expect_close(SOON)?;
    story.show("alice@stock", "ssh-add -x; ssh -A ca      # a locked agent", &terminal.transcript());
    ensure(!status.success(), || "the CA says that a locked agent took the certificate".into())?;

    let list = world.usshca("list")?.ok()?.stdout;
    story.show("ca", "usshca list", &list);
    let held = world.certificates("alice")?;
    for certificate in &held {
        ensure(list.contains(&certificate.serial.to_string()), || format!("serial {} is missing", certificate.serial))?;
    }
    ensure(list.contains("undelivered"), || "the undelivered certificate is missing".into())?;
    for who in ["alice", "bob", "carol", "dave", "web1", "web2"] {
        ensure(list.contains(who), || format!("nothing of {who} in the list"))?;
    }
    Ok(())
}

/// i. `auth required pam_ussh.so` in sshd's own stack, after publickey.
pub fn sshd_stack(world: &World, story: &Story) -> Told {
    let web2 = world.host("web2");
    let pam = web2.read_file("/etc/pam.d/sshd")?;
    let line = "auth required pam_ussh.so max_validity=1d";
    web2.write_file("/etc/pam.d/sshd", 0o644, pam.replace("@include common-auth", line))?;
    let methods = "AuthenticationMethods publickey,keyboard-interactive:pam";
    let config = SSHD_CONFIG.replace("KbdInteractiveAuthentication no", "KbdInteractiveAuthentication yes");
    web2.stop_service("sshd")?;
    web2.start_sshd(&format!("{config}{SSHD_WITH_CERTIFICATES}{methods}\n"))?;
    let setup = "grep pam_ussh /etc/pam.d/sshd; grep Methods /etc/ssh/sshd_config";
    story.show("web2", setup, &web2.run(["sh", "-c", setup])?.ok()?.stdout);

    let good = world.sh("laptop", "alice", "ssh web2 hostname </dev/null")?;
    story.show(
        "alice@laptop",
        "ssh web2 hostname                # the certificate",
        &format!("{}{}", good.stdout, good.stderr),
    );
    ensure(good.success() && good.stdout == "web2\n", || good.to_string())?;

    // The very same key, once without and once with a certificate that is good for too long.
    let ca = world.host("ca");
    ca.script(&format!(
        "rm -rf /srv/i && mkdir /srv/i && ssh-keygen -q -t ed25519 -N '' -f /srv/i/k && ssh-keygen -q -s {CA_DIR}/state/user_ca -I alice -n alice -V -5m:+7d -z 4712 /srv/i/k.pub"
    ))?;
    let laptop = world.host("laptop");
    laptop.make_folder_as("alice", "/home/alice/.i", 0o700)?;
    for file in ["k", "k.pub", "k-cert.pub"] {
        laptop.write_file_as(
            "alice",
            &format!("/home/alice/.i/{file}"),
            0o600,
            ca.read_bytes(&format!("/srv/i/{file}"))?,
        )?;
    }
    let ssh = "SSH_AUTH_SOCK= ssh -o IdentitiesOnly=yes -i ~/.i/k web2 hostname </dev/null";

    let before = world.log_position("web2");
    let long = world.sh("laptop", "alice", ssh)?;
    story.show("alice@laptop", "ssh web2 hostname                # a certificate for 7 days", &long.stderr);
    ensure(long.status.code() == 255, || long.to_string())?;
    let why = refusals(world, story, before)?;
    ensure(why.contains("longer than the"), || "the log does not say that the validity is too long".into())?;
    // Now sshd takes the key by itself, and its PAM stack is what stands in the way.
    laptop.remove_file("/home/alice/.i/k-cert.pub")?;
    web2.make_folder_as("alice", "/home/alice/.ssh", 0o700)?;
    web2.write_file_as("alice", "/home/alice/.ssh/authorized_keys", 0o600, ca.read_bytes("/srv/i/k.pub")?)?;
    let before = world.log_position("web2");
    let bare = world.sh("laptop", "alice", ssh)?;
    story.show("alice@laptop", "ssh web2 hostname                # the same key without it", &bare.stderr);
    ensure(bare.status.code() == 255, || bare.to_string())?;

    let why = refusals(world, story, before)?;
    ensure(why.contains("no certificate"), || "the log does not say that there was no certificate".into())
}

/// Shows what pam_ussh has refused on web2 since then, from the file that an administrator reads.
fn refusals(world: &World, story: &Story, since: usize) -> Result<String, Box<dyn std::error::Error>> {
    let count = world.logged_since("web2", since)?.lines().filter(|l| l.contains("pam_ussh")).count();
    let command = format!("grep pam_ussh /var/log/auth.log | tail -n {count}");
    let shown = world.host("web2").run(["sh", "-c", &command])?.ok()?.stdout;
    story.show("web2", &command, &shown);
    Ok(shown)
}
