//! One row: a fault, a command, and what is to be seen.

use std::time::Duration;

use serde::Deserialize;
use ussh_e2e::World;
use ussh_e2e::lab::Output;

/// Longest wait for a command.
const SOON: Duration = Duration::from_secs(40);

/// In scripts `$U` is the person, who is somebody else in each row; `$H` is the home folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// What is wrong.
    pub(crate) name: String,
    /// Who; else somebody new.
    user: Option<String>,
    /// Whether a login precedes the fault.
    #[serde(default)]
    certified: bool,
    /// The person's ussh.toml.
    config: Option<String>,
    /// Brings the fault about: by root on the laptop, on the CA, on web1.
    plant: Option<String>,
    plant_ca: Option<String>,
    plant_web: Option<String>,
    /// The CA's daemon does not run meanwhile.
    #[serde(default)]
    ca_down: bool,
    /// As the person, on the laptop; no terminal.
    run: String,
    /// Whether an askpass program gives the password.
    #[serde(default)]
    asked: bool,
    code: i32,
    /// What is said, on stdout or stderr, in this order.
    says: Vec<String>,
    /// What is not.
    #[serde(default)]
    never: Vec<String>,
    /// As the person, on the laptop: succeeds, if what happened after is right.
    after: Option<String>,
    /// The same as root on the CA.
    after_ca: Option<String>,
    /// Takes the fault away, as `plant` does.
    undo: Option<String>,
    undo_ca: Option<String>,
    undo_web: Option<String>,
}

#[derive(Deserialize)]
struct Table {
    row: Vec<Row>,
}

impl Row {
    pub(crate) fn all(table: &str) -> Vec<Row> {
        toml::from_str::<Table>(table).unwrap().row
    }
    /// Whether it does without programs that a Debian 13 root of the lab lacks.
    pub(crate) fn needs_nothing_special(&self) -> bool {
        !["python3", "faketime", "gpg-agent"].iter().any(|program| self.run.contains(program))
    }
}

fn as_root(world: &World, host: &str, user: &str, script: Option<&str>) -> Result<(), String> {
    let Some(script) = script else { return Ok(()) };
    let host = world.host(host);
    let command = host.command(["bash", "-ec", script]).env("U", user).env("H", &format!("/home/{user}"));
    command.timeout(SOON).run().and_then(Output::ok).map(drop).map_err(|error| error.to_string())
}

/// What does not hold.
pub(crate) fn try_row(world: &World, row: &Row) -> Result<(), String> {
    let user = row.user.clone().unwrap_or_else(|| world.somebody().unwrap());
    let judged = judge(world, row, &user);
    if row.ca_down {
        world.start_ca().unwrap();
    }
    for (host, undo) in [("laptop", &row.undo), ("ca", &row.undo_ca), ("web1", &row.undo_web)] {
        as_root(world, host, &user, undo.as_deref()).unwrap();
    }
    judged.map_err(|wrong| format!("* {} ({user}): {wrong}", row.name))
}

fn judge(world: &World, row: &Row, user: &str) -> Result<(), String> {
    let laptop = world.host("laptop");
    if row.certified {
        let login = world.unattended(user, world.password(user), "ussh --login").unwrap().wait(SOON);
        login.and_then(Output::ok).map_err(|error| error.to_string())?;
    }
    if let Some(config) = &row.config {
        laptop.write_file_as(user, &format!("/home/{user}/.config/ussh/ussh.toml"), 0o600, config).unwrap();
    }
    if row.ca_down {
        laptop.run(["true"]).unwrap();
        world.host("ca").stop_service("usshca").map_err(|error| error.to_string())?;
    }
    for (host, plant) in [("ca", &row.plant_ca), ("web1", &row.plant_web), ("laptop", &row.plant)] {
        as_root(world, host, user, plant.as_deref())?;
    }
    let script = format!("export U={user} H=/home/{user}; {}", row.run);
    let output = if row.asked {
        world.unattended(user, world.password(user), &script).unwrap().wait(SOON)
    } else {
        world.sh("laptop", user, &script)
    };
    let output = output.map_err(|error| error.to_string())?;
    let said = format!("{}{}", output.stdout, output.stderr);
    if std::env::var_os("SHOW").is_some() {
        eprintln!("## {}: {}\n{said}", row.name, output.status.code());
    }
    if output.status.code() != row.code {
        return Err(format!("exit code {}, not {}: {said}", output.status.code(), row.code));
    }
    let mut rest = said.as_str();
    for words in &row.says {
        let words = words.replace("$U", user);
        rest = rest.split_once(&words).ok_or_else(|| format!("does not say {words:?} (there): {said}"))?.1;
    }
    if let Some(words) = row.never.iter().find(|words| said.contains(words.as_str())) {
        return Err(format!("says {words:?}: {said}"));
    }
    as_root(world, "ca", user, row.after_ca.as_deref())
        .map_err(|wrong| format!("at the CA: {wrong}\nit had said: {said}"))?;
    let Some(after) = &row.after else { return Ok(()) };
    let after = world.sh("laptop", user, &format!("export U={user} H=/home/{user}; {after}")).unwrap();
    if after.success() { Ok(()) } else { Err(format!("after that: {after}\nit had said: {said}")) }
}
