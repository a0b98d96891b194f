//! A thousand people at the CA's question for the password: what that takes in memory, and what becomes of the next one.

use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::client::{self, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::PublicKeyOrCertificate;
use ussh_e2e::lab::wait_until;
use ussh_e2e::{World, WorldPlan};

use crate::row::Fact;

/// At the prompt.
const CROWD: u32 = 1000;
/// Most memory that they may take in all, in MiB (Pss: what processes share counts once).
const MOST_MEMORY: f64 = 1.2 * 1024.0;
/// Most memory of supervisor and signer while nobody is there, in MiB (RSS).
const MOST_IDLE: f64 = 12.0;
/// The supervisor lets in so many who have not logged in, all from one address; longer than this takes.
const CONFIG: &str = "max_startups = \"1000\"\nmax_connections = 1010\nmax_workers = 1010\nmax_connections_per_source = 1010\nmax_workers_per_source = 1010\nlogin_grace_seconds = 900\n";
/// Where this very program lies in the hosts.
const PROGRAM: &str = "/usr/libexec/ussh-bench";
/// Connections that are set up at a time.
const AT_ONCE: u32 = 8;
/// Longest wait for the crowd.
const PATIENCE: Duration = Duration::from_secs(300);
/// Proportional set sizes (proc(5), smaps_rollup) and resident ones of all processes whose name begins so, in KiB.
const MEMORY: &str = r#"
for d in /proc/[0-9]*; do
  read -r name < $d/comm || continue
  case $name in "$1"*) awk '/^Pss:/ {p=$2} /^Rss:/ {r=$2} END {print p, r}' $d/smaps_rollup;; esac
done 2>/dev/null | awk '{p+=$1; r+=$2; n++} END {print p+0, r+0, n+0}'
"#;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Takes any host key: what is measured is on the other side.
struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> std::result::Result<bool, Self::Error> {
        Ok(true)
    }
}

/// Holds `count` connections at the question for the password until standard input ends; says `holding` when all are there.
///
/// # Errors
/// One of them did not get there.
pub fn hold(address: SocketAddr, user: &str, count: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let held = runtime.block_on(async {
        let mut held = Vec::new();
        let mut coming = tokio::task::JoinSet::new();
        for _ in 0..count {
            if coming.len() >= AT_ONCE as usize
                && let Some(came) = coming.join_next().await
            {
                held.push(came??);
            }
            coming.spawn(at_the_prompt(address, user.to_owned()));
        }
        while let Some(came) = coming.join_next().await {
            held.push(came??);
        }
        Ok::<_, Box<dyn Error>>(held)
    })?;
    println!("holding");
    // The connections wait for nothing; the runtime may rest.
    let mut end = Vec::new();
    std::io::stdin().read_to_end(&mut end)?;
    drop(held);
    Ok(())
}

async fn at_the_prompt(address: SocketAddr, user: String) -> std::result::Result<Handle<Anybody>, String> {
    let config = Arc::new(client::Config { inactivity_timeout: None, ..client::Config::default() });
    let mut handle = client::connect(config, address, Anybody).await.map_err(|e| e.to_string())?;
    let asked = handle.authenticate_keyboard_interactive_start(user, None).await.map_err(|e| e.to_string())?;
    match asked {
        KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } if !prompts.is_empty() => Ok(handle),
        other => Err(format!("no question: {other:?}")),
    }
}

/// What it takes.
///
/// # Errors
/// What could not be measured, or did not happen.
pub fn facts() -> Result<Vec<Fact>> {
    eprintln!("ussh-bench: {CROWD} at the question for the password …");
    let world = WorldPlan::new("bench-crowd").without_servers().ca_config(CONFIG);
    let world = world.bind_all(std::env::current_exe()?, PROGRAM).start()?;
    measure(&world).inspect_err(|_| eprintln!("{}", world.lab().report()))
}

fn measure(world: &World) -> Result<Vec<Fact>> {
    let (ca, laptop) = (world.host("ca"), world.host("laptop"));
    // Once, so that all that is done once is done.
    let (code, seen) = world.log_in("alice", "--login")?;
    if code != 0 {
        return Err(seen.into());
    }
    let gone =
        |what: &str| wait_until(PATIENCE, what, || world.processes("ca", "usshca-front").is_ok_and(|p| p.is_empty()));
    gone("nobody to be there")?;
    let (_, idle, processes) = memory(world, "usshca")?;
    if processes != 2 {
        return Err(format!("{processes} processes are there while nobody is").into());
    }

    let began = Instant::now();
    let script = format!("ulimit -n 4096; sleep infinity | {PROGRAM} hold-prompts {}:22 alice {CROWD}", ca.address());
    let crowd = laptop.spawn_as("root", ["bash", "-c", &script])?;
    crowd.wait_for_output("holding", PATIENCE)?;
    let took = began.elapsed();
    let (pss, _, processes) = memory(world, "usshca")?;
    if processes != 2 + 2 * u64::from(CROWD) {
        return Err(format!("{processes} processes are there instead of two for each connection, and two more").into());
    }
    let (fronts, ..) = memory(world, "usshca-front")?;
    let (workers, ..) = memory(world, "usshca-pam")?;

    // The next one is told, by the drop rule.
    let next = world.sh("laptop", "bob", "ssh ca")?.refused()?;
    if !next.stderr.contains("Too many people are logging in") {
        return Err(format!("the next one is told: {next}").into());
    }
    let one = |title, value, unit, at_most| Fact { title, value, unit, at_most, at_least: None };
    drop(crowd);
    gone("the crowd to be gone")?;
    let each = 1024.0 * f64::from(CROWD);
    Ok(vec![
        one("1000 at the CA's prompt, Pss", mib(pss), "MiB", Some(MOST_MEMORY)),
        one("  each front", 1024.0 * kib(fronts) / each, "KiB", None),
        one("  each PAM worker", 1024.0 * kib(workers) / each, "KiB", None),
        one("  seconds until all were there", took.as_secs_f64(), "s", None),
        one("CA idle, RSS", mib(idle), "MiB", Some(MOST_IDLE)),
    ])
}

/// Pss and RSS in KiB, and how many processes.
fn memory(world: &World, name: &str) -> Result<(u64, u64, u64)> {
    let said = world.host("ca").run(["bash", "-c", MEMORY, "memory", name])?.ok()?.stdout;
    let numbers: Vec<u64> = said.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    match *numbers.as_slice() {
        [pss, rss, processes] => Ok((pss, rss, processes)),
        _ => Err(format!("no memory of {name}: {said}").into()),
    }
}

/// Exact below 2^53.
#[allow(clippy::cast_precision_loss)]
fn kib(number: u64) -> f64 {
    number as f64
}

fn mib(kibibytes: u64) -> f64 {
    kib(kibibytes) / 1024.0
}
