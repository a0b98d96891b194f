//! What a new host finds in its files: its name, its neighbours, its accounts, and nothing of the machine's own set-up.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::accounts::{Accounts, Person, hash_password, number_of};
use crate::error::Result;
use crate::files::{Files, Owner};

/// Names come from /etc/hosts, accounts from files: no resolver, no directory, no bus of the machine is asked.
const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
gshadow: files
hosts: files
networks: files
protocols: files
services: files
";

/// Debian's, without what the machine's owner added.
const SUDOERS: &str = "\
Defaults env_reset
Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"
root ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
";

/// Folders whose files are the machine's choices, or its secrets.
const EMPTIED: [(&str, &str); 4] =
    [("/etc/ssh", "ssh_host_"), ("/etc/ssh/sshd_config.d", ""), ("/etc/ssh/ssh_config.d", ""), ("/etc/sudoers.d", "")];

/// Login records, which their writers do not make themselves.
const RECORDS: [(&str, u32); 4] =
    [("/run/utmp", 0o664), ("/var/log/wtmp", 0o664), ("/var/log/btmp", 0o660), ("/var/log/lastlog", 0o664)];

/// Fills the files of the new host `name`.
pub(crate) fn seed(files: &Files, name: &str, people: &[Person]) -> Result<()> {
    files.write("/etc/hostname", 0o644, Owner::ROOT, format!("{name}\n").as_bytes())?;
    files.write("/etc/resolv.conf", 0o644, Owner::ROOT, b"")?;
    files.write("/etc/nsswitch.conf", 0o644, Owner::ROOT, NSSWITCH.as_bytes())?;
    for (folder, prefix) in EMPTIED {
        for entry in files.list(folder)?.iter().filter(|entry| entry.starts_with(prefix)) {
            files.remove(&format!("{folder}/{entry}"))?;
        }
    }
    files.write("/etc/sudoers", 0o440, Owner::ROOT, SUDOERS.as_bytes())?;
    files.make_folder("/run/sshd", 0o755, Owner::ROOT)?;
    accounts(files, people)
}

/// Tells a host of all hosts of the lab.
pub(crate) fn neighbours(files: &Files, addresses: &BTreeMap<String, Ipv4Addr>) -> Result<()> {
    let mut hosts = String::from("127.0.0.1 localhost\n");
    for (name, address) in addresses {
        hosts += &format!("{address} {name}\n");
    }
    files.write("/etc/hosts", 0o644, Owner::ROOT, hosts.as_bytes())
}

fn accounts(files: &Files, people: &[Person]) -> Result<()> {
    let text = |path| files.read(path).map(|content| String::from_utf8_lossy(&content).into_owned());
    let system = Accounts::of_system(&text("/etc/passwd")?, &text("/etc/group")?, &text("/etc/shadow")?);
    let accounts = system.with(people, hash_password)?;
    let group = |name| number_of(name, &accounts.group).unwrap_or(0);
    files.write("/etc/passwd", 0o644, Owner::ROOT, accounts.passwd.as_bytes())?;
    files.write("/etc/group", 0o644, Owner::ROOT, accounts.group.as_bytes())?;
    files.write("/etc/shadow", 0o640, Owner { uid: 0, gid: group("shadow") }, accounts.shadow.as_bytes())?;
    for (record, mode) in RECORDS {
        files.write(record, mode, Owner { uid: 0, gid: group("utmp") }, b"")?;
    }
    for person in people {
        home(files, person, number_of(&person.name, &accounts.passwd).unwrap_or(0))?;
    }
    Ok(())
}

fn home(files: &Files, person: &Person, number: u32) -> Result<()> {
    let owner = Owner { uid: number, gid: number };
    let home = format!("/home/{}", person.name);
    files.make_folder(&home, 0o700, owner)?;
    for name in files.list("/etc/skel")? {
        // Files only: a folder in there is the machine owner's idea.
        if let Ok(content) = files.read(&format!("/etc/skel/{name}")) {
            files.write(&format!("{home}/{name}"), 0o644, owner, &content)?;
        }
    }
    Ok(())
}
