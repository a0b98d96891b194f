//! Who lives beside the user, and what listens there.

use ussh_e2e::lab::Host;
use ussh_e2e::{Forged, Forgery, Relay, RelayPlan};

use crate::{SOON, WORLD};

/// A user on a server, his neighbour and root, each with an agent, and witnesses in front of these. All hold certificates that name this user, and root for su.
pub struct Street {
    pub server: &'static str,
    pub user: String,
    pub uid: u32,
    pub gid: u32,
    /// In order.
    pub groups: Vec<u32>,
    /// A folder of the user's.
    pub folder: String,
    /// Of the certificate in the user's own agent.
    pub serial: u64,
    /// In front of that.
    pub own: Relay,
    pub neighbour: String,
    pub neighbours_uid: u32,
    pub neighbours: Closed,
    pub roots: Closed,
}

/// Sockets of one who is not the user, in front of his agent.
pub struct Closed {
    /// A folder of his.
    pub folder: String,
    /// His agent itself.
    pub agent: String,
    /// To which he lets everybody.
    pub open: Relay,
    /// To which he lets nobody.
    pub closed: Relay,
    /// Open to everybody, in a folder that only he may enter.
    pub hidden: Relay,
}

impl Street {
    pub fn on(server: &'static str) -> Self {
        let host = WORLD.host(server);
        let (user, neighbour) = (WORLD.somebody().unwrap(), WORLD.somebody().unwrap());
        let folder = format!("/srv/{user}");
        host.make_folder_as(&user, &folder, 0o755).unwrap();
        let own = certificate_of(&user);
        own.serve_at(&host, &user, &format!("{folder}/agent")).unwrap();
        Street {
            server,
            uid: ids(&host, &user, "-u")[0],
            gid: ids(&host, &user, "-g")[0],
            groups: ids(&host, &user, "-G"),
            serial: own.serial,
            own: WORLD.relay(server, &user, &format!("{folder}/own"), &format!("{folder}/agent")).unwrap(),
            neighbours_uid: ids(&host, &neighbour, "-u")[0],
            neighbours: Closed::of(server, &neighbour, &user),
            roots: Closed::of(server, "root", &user),
            user,
            folder,
            neighbour,
        }
    }

    pub fn host(&self) -> Host {
        WORLD.host(self.server)
    }

    /// A path in the user's folder.
    pub fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Runs something as the user, in his folder.
    pub fn sh(&self, script: &str) -> String {
        let host = self.host();
        let command = host.command(["bash", "-euc", script]).user(&self.user).cwd(&self.folder);
        command.run().unwrap().ok().unwrap().stdout
    }

    /// All witnesses.
    pub fn relays(&self) -> impl Iterator<Item = &Relay> {
        let others = [&self.neighbours, &self.roots].into_iter().flat_map(|one| [&one.open, &one.closed, &one.hidden]);
        others.chain([&self.own])
    }

    /// A process that runs on: its number, once it has printed `ready`.
    pub fn leave_running(&self, user: &str, argv: &[&str]) -> i32 {
        let host = self.host();
        let service = host.command(argv).user(user).service(&format!("{user}: {}", argv.join(" "))).unwrap();
        service.wait_for_output("ready", SOON).unwrap();
        service.pid()
    }
}

impl Closed {
    fn of(server: &'static str, owner: &str, user: &str) -> Self {
        let host = WORLD.host(server);
        let folder = format!("/srv/{owner}-beside-{user}");
        let hidden = format!("{folder}/hidden");
        let agent = format!("{folder}/agent");
        host.make_folder_as(owner, &folder, 0o755).unwrap();
        host.make_folder_as(owner, &hidden, 0o700).unwrap();
        certificate_of(user).serve_at(&host, owner, &agent).unwrap();
        let relay = |name: &str, mode: &str| {
            let path = format!("{folder}/{name}");
            let relay = WORLD.start_relay(&RelayPlan::new(server, owner, &path).target(&agent)).unwrap();
            host.run(["chmod", mode, &path]).unwrap().ok().unwrap();
            relay
        };
        let (open, closed, hidden) = (relay("open", "666"), relay("closed", "600"), relay("hidden/open", "666"));
        Closed { folder, open, closed, hidden, agent }
    }
}

/// One that names this user, and root for su.
pub fn certificate_of(user: &str) -> Forged {
    WORLD.forge(&Forgery::of(user).principals(&[user, "root"])).unwrap()
}

fn ids(host: &Host, user: &str, which: &str) -> Vec<u32> {
    let printed = host.run(["id", which, user]).unwrap().ok().unwrap().stdout;
    let mut ids: Vec<u32> = printed.split_whitespace().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}
