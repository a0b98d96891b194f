//! OpenSSH's own, of two Debians.

use super::{SOON, WORLD, answer, assert_delivered, end, held};

#[test]
fn openssh_9_2_and_10_0_get_a_certificate_and_log_out() {
    let _watch = WORLD.lab().watch();
    for (host, version) in [("laptop", "OpenSSH_9.2"), ("laptop13", "OpenSSH_10.0")] {
        let user = WORLD.somebody().unwrap();
        if host != "laptop" {
            WORLD.start_agent(host, &user).unwrap();
        }
        let said = WORLD.sh(host, &user, "ssh -V").unwrap().stderr;
        assert!(said.starts_with(version), "{said}");
        let ssh = WORLD.terminal(host, &user, "exec ssh -A ca").unwrap();
        answer(&ssh, "assword: ", WORLD.password(&user));
        let (code, seen) = end(&ssh);
        assert_eq!(code, 0, "{seen}");
        assert!(seen.contains(&format!("for {user} is in your agent")), "{seen}");
        assert_delivered(host, &user);
        // A second one takes the first one's place.
        let again = WORLD.terminal(host, &user, "exec ssh -A ca for=5m").unwrap();
        answer(&again, "assword: ", WORLD.password(&user));
        assert_eq!(end(&again).0, 0);
        assert_eq!(held(host, &user).len(), 1);
    }
}

/// One connection to the CA is one login, and one session: a master is there for nothing.
#[test]
fn a_control_master_gets_its_certificate_and_what_comes_over_it_connects_anew() {
    let _watch = WORLD.lab().watch();
    for host in ["laptop", "laptop13"] {
        let user = WORLD.somebody().unwrap();
        if host != "laptop" {
            WORLD.start_agent(host, &user).unwrap();
        }
        let options = "-A -o ControlMaster=auto -o ControlPath=~/mux -o ControlPersist=yes";
        let master = WORLD
            .terminal(host, &user, &format!("ssh {options} ca; echo \"first: $?\"; exec ssh {options} ca"))
            .unwrap();
        answer(&master, "assword: ", WORLD.password(&user));
        master.expect("first: 0", SOON).unwrap();
        assert_delivered(host, &user);
        let check = WORLD.sh(host, &user, "ssh -O check -o ControlPath=~/mux ca").unwrap();
        assert!(check.success() && check.stderr.contains("Master running"), "{check}");
        // The second one finds the master's connection closed to it, says so, and asks for a password of its own.
        answer(&master, "assword: ", WORLD.password(&user));
        let (code, seen) = end(&master);
        assert_eq!(code, 0, "{seen}");
        assert!(seen.contains("Session open refused by peer"), "{seen}");
        assert_eq!(WORLD.rows_of(&user).unwrap().len(), 2);
        assert_eq!(held(host, &user).len(), 1);
        WORLD.sh(host, &user, "ssh -O exit -o ControlPath=~/mux ca").unwrap().ok().unwrap();
    }
}
