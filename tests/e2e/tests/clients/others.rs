//! Clients that share no line with OpenSSH.

use ussh_e2e::lab::Pty;

use super::{WORLD, answer, assert_delivered, end, held};

/// Debian's asyncssh: the host certificate by @cert-authority, the password by keyboard-interactive, and the agent of SSH_AUTH_SOCK forwarded.
const ASYNCSSH: &str = r#"
import asyncio, asyncssh, os, sys

async def main():
    options = dict(password=os.environ['LAB_PASSWORD'], preferred_auth='keyboard-interactive', agent_forwarding=True,
                   known_hosts='/etc/ssh/ssh_known_hosts', client_keys=None)
    async with asyncssh.connect('ca', **options) as connection:
        done = await connection.run(*sys.argv[1:])
        sys.stdout.write(done.stdout + done.stderr)
        return done.exit_status

sys.exit(asyncio.run(main()))
"#;

#[test]
fn asyncssh_gets_a_certificate() {
    let _watch = WORLD.lab().watch();
    let user = WORLD.somebody().unwrap();
    WORLD.host("laptop").write_file("/srv/client.py", 0o644, ASYNCSSH).unwrap();
    let run = |words: &str| {
        let script = format!("exec /usr/bin/python3 -W ignore /srv/client.py {words}");
        WORLD.unattended(&user, WORLD.password(&user), &script).unwrap().wait(super::SOON).unwrap()
    };
    let whoami = run("whoami").ok().unwrap();
    assert_eq!(whoami.stdout.trim(), user);
    let got = run("").ok().unwrap();
    assert!(got.stdout.contains(&format!("for {user} is in your agent")), "{got}");
    assert_delivered("laptop", &user);
}

/// PuTTY's client on a terminal: the host key is new to it, since it takes CAs from its own configuration alone.
fn through_plink(terminal: &Pty, user: &str) -> (i32, String) {
    answer(terminal, "(y/n", "y");
    answer(terminal, "assword: ", WORLD.password(user));
    // So that no server can ask in plink's name.
    answer(terminal, "Press Return to begin session", "");
    end(terminal)
}

#[test]
fn plink_with_an_ssh_agent_gets_a_certificate() {
    let _watch = WORLD.lab().watch();
    let user = WORLD.somebody().unwrap();
    let plink = WORLD.terminal("laptop", &user, &format!("exec plink -ssh -A {user}@ca")).unwrap();
    let (code, seen) = through_plink(&plink, &user);
    assert_eq!(code, 0, "{seen}");
    assert_delivered("laptop", &user);
}

/// What a person does in a shell below pageant: the CA, and the same agent asked for a key with and without a lifetime.
const BELOW_PAGEANT: &str = "#!/bin/bash
plink -ssh -A \"$USER@ca\"
echo \"plink: $?\"
ssh-keygen -q -t ed25519 -N '' -f plain
ssh-add -t 600 plain
echo \"with a lifetime: $?\"
ssh-add plain
echo \"without: $?\"
ssh-add -l
";

/// PuTTY 0.78's agent refuses SSH2_AGENTC_ADD_ID_CONSTRAINED, whatever key it is about; the CA puts no key anywhere without its lifetime.
#[test]
fn plink_with_pageant_gets_nothing_since_pageant_takes_no_key_with_a_lifetime() {
    let _watch = WORLD.lab().watch();
    let user = WORLD.somebody().unwrap();
    WORLD.host("laptop").write_file("/srv/below-pageant", 0o755, BELOW_PAGEANT).unwrap();
    let shell = WORLD.terminal("laptop", &user, "exec pageant --exec /srv/below-pageant").unwrap();
    let (_, seen) = through_plink(&shell, &user);
    assert!(seen.contains("The forwarded agent did not take the certificate."), "{seen}");
    assert!(seen.contains("Pageant") && seen.contains("plink: 1\n"), "{seen}");
    assert!(seen.contains("with a lifetime: 1\n") && seen.contains("without: 0\n"), "{seen}");
    let rows = WORLD.rows_of(&user).unwrap();
    assert_eq!((rows.len(), rows[0].outcome.as_str()), (1, "undelivered: the agent refused"));
    assert!(!seen.contains("ED25519-CERT"), "{seen}");
    assert_eq!(held("laptop", &user), []);
}
