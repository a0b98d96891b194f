//! A person on the laptop of a running lab, with a way in to the other hosts as their administrator.

use std::process::ExitCode;

use ussh_e2e::lab::{LabError, SSHD_CONFIG};
use ussh_e2e::{AGENT, CA_DIR, World};

use crate::{not_set_up, tell};

/// What there is to try. A line that begins with two blanks is a command, up to the next two blanks, and what it shows.
const CARD: &str = "\
You are alice on laptop. Passwords: alice `PASSWORD_ALICE`, bob `PASSWORD_BOB`, root on ca `PASSWORD_ROOT`.

  ssh-add -l                          your agent is empty
  ussh web1                           the CA asks for your password, then you are on web1
  ssh-add -L | ssh-keygen -Lf -       the certificate that you got
  ussh web1 sudo id                   sudo asks your agent, not you
  ssh -a web1 sudo id                 without it: refused
  ussh --status                       what you hold, and for how long
  ussh --login                        log in again, whatever you hold
  ssh -A ca whoami                    the CA is an ssh server like any other
  ssh rogue                           a server without a certificate: refused, nobody is asked
  ussh web1 doas id                   doas asks it too
  ussh web1 su -c id                  su wants a certificate that names root: refused
  ussh web1 pam-ussh-check --user alice
                                      what pam_ussh thinks of each certificate that your agent holds
  ussh -t web1 tmux                   leave it by C-b d; `ussh -t web1 tmux attach` comes back, and sudo in it finds the agent of the new connection
  ussh --log                          who had your agent sign what: it is the guarded one that the hosts get
  ussh --why rogue                    what is wrong with a login there, and the one thing to do
  ussh --write-config                 from now on plain `ssh web1 sudo id` does all this, and so do git, scp and rsync; `ussh --remove-config` takes it back
  su - bob                            bob's certificates last 16 seconds: `ussh web1` there, and see his session end

The administrators' side, as root. Each host's log is its /var/log/auth.log. If this machine has tmux, it gives you several terminals.

  ssh -p 2222 root@ca                 the CA's machine, whose own sshd has moved to this port; on it:
    usshca --dir /var/lib/ca list     all certificates; then: usshca --dir /var/lib/ca revoke SERIAL, which says how it goes on
  ussh -t web1 sudo -i                a server; on it:
    ussh-hostd sessions               live sessions: ussh-hostd ends them with their certificate
    ussh-hostd status                 the daemon, the CA keys and the revocation list
    pam-ussh-check --stack /etc/pam.d/*
                                      would anybody get in without a certificate, or nobody at all?
    scp -P 2222 root@ca:/var/lib/ca/public/krl /srv/ussh-feed/ && ussh-hostd sync
                                      after a revocation: brings the KRL that ca has written since

exit: all of it goes.

";

/// root's on the CA's machine. It is there for the lab alone.
const PASSWORD: &str = "open sesame";

/// The CA's machine has a second sshd for whoever looks after it, as a real one would have. By password: that is the lab's.
const SSHD: &str = "\
Port 2222
PermitRootLogin yes
HostKey /etc/ssh/ssh_host_ed25519_key
HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub
";

/// A shell for alice, until she leaves it.
pub fn shell(world: &World) -> ExitCode {
    let set_up = open_the_cas_machine(world).and_then(|()| set_up_su_and_doas(world));
    if let Err(error) = set_up.and_then(|()| world.guard_agents("web*")) {
        return not_set_up(&error);
    }
    let card = CARD.replace("PASSWORD_ALICE", world.password("alice")).replace("PASSWORD_BOB", world.password("bob"));
    tell!("\n{}", card.replace("PASSWORD_ROOT", PASSWORD));
    let laptop = world.host("laptop");
    let bash = laptop.command(["bash"]).user("alice").env("SSH_AUTH_SOCK", &format!("/home/alice/{AGENT}"));
    let bash = match std::env::var("TERM") {
        Ok(kind) => bash.env("TERM", &kind),
        Err(_) => bash,
    };
    match bash.attach() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ussh-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As packaged.
fn set_up_su_and_doas(world: &World) -> Result<(), LabError> {
    let web1 = world.host("web1");
    web1.write_file("/etc/pam.d/su", 0o644, include_str!("../../../packaging/pam.d/su"))?;
    web1.write_file("/etc/pam.d/doas", 0o644, include_str!("../../../packaging/pam.d/doas"))?;
    web1.write_file("/etc/doas.conf", 0o400, "permit :admins\n")
}

fn open_the_cas_machine(world: &World) -> Result<(), LabError> {
    let ca = world.host("ca");
    world.sign_host("ca")?;
    ca.command(["chpasswd"]).stdin(format!("root:{PASSWORD}\n")).run()?.ok()?;
    ca.start_sshd(&format!("{SSHD_CONFIG}{SSHD}"))?;
    // web1's root fetches the KRL from there, and is asked about no host key either.
    let known = ca.read_bytes(&format!("{CA_DIR}/public/known_hosts"))?;
    world.host("web1").write_file("/etc/ssh/ssh_known_hosts", 0o644, known)
}
