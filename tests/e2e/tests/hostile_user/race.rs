//! What lies at SSH_AUTH_SOCK changes while the module looks: between the user's own good socket, a neighbour's, and root's.

use std::collections::BTreeMap;
use std::time::Duration;

use ussh_e2e::lab::rounds;

use crate::WORLD;
use crate::street::Street;

/// Runs `sudo id -u`, and swaps as long as each runs. Prints each answer, and how often it swapped in all.
const RACE: &str = r#"
use Socket; use POSIX ':sys_wait_h'; my ($how, $attempts, $swaps, @targets) = @ARGV; my ($attempt, $swap) = (0, 0);
sub exchange { my ($one, $two) = @_; syscall(316, -100, $one, -100, $two, 2) == 0 or die "$one and $two: $!" } # renameat2(2), RENAME_EXCHANGE
sub symbolic { symlink $_[0], 'next' or die $!; rename 'next', $_[1] or die $! }
my %swap = (
  rename => sub { symbolic($targets[$swap % @targets], 'place') },
  exchange => sub { exchange('place', 'other' . $swap % $#targets) },
  folders => sub { my $n = $swap % $#targets; if ($swap % 3) { exchange('place/agent', "other$n/agent") } else { exchange('place', "other$n") } },
  rebind => sub { unlink 'place'; my $n = $swap % (@targets + 2);
    if ($n == 0) { link 'own', 'place' or die $! }
    elsif ($n == 1) { socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un('place')) or die $!; listen($s, 5) }
    else { symlink $targets[$n - 2], 'place' or die $! } },
);
if ($how eq 'folders') { for (0 .. $#targets) { my $folder = $_ ? 'other' . ($_ - 1) : 'place'; mkdir $folder; symlink $targets[$_], "$folder/agent" or die $! } }
$ENV{SSH_AUTH_SOCK} = POSIX::getcwd() . ($how eq 'folders' ? '/place/agent' : '/place');
while ($attempt < $attempts or $swap < $swaps) {
  pipe(my $read, my $write); my $pid = fork // die $!;
  if (!$pid) { open STDOUT, '>&', $write; open STDERR, '>', '/dev/null'; exec 'sudo', 'id', '-u' }
  close $write;
  until (waitpid $pid, WNOHANG) { $swap{$how}->(); $swap++; select undef, undef, undef, 0.0002 }
  my ($status, $printed) = ($?, join '', <$read>); $printed =~ s/\n/;/g; print "attempt $status $printed\n"; $attempt++;
}
print "swaps $swap\n";
"#;

/// What came of all attempts: how often each line.
struct Outcome {
    attempts: usize,
    accepted: usize,
    refused: BTreeMap<String, usize>,
}

fn race(street: &Street, how: &str, targets: &[&str]) -> Outcome {
    let (attempts, swaps) = (rounds(40, 500), rounds(200, 10_000));
    let host = street.host();
    let position = WORLD.log_position(street.server);
    let folder = street.at(how);
    host.make_folder_as(&street.user, &folder, 0o755).unwrap();
    street.sh(&format!("ln own {how}/own"));
    if how == "exchange" {
        // The sockets themselves, which a user cannot link to: root helps.
        for (number, target) in targets.iter().enumerate() {
            let name = if number == 0 { "place".to_owned() } else { format!("other{}", number - 1) };
            host.run(["ln", target, &format!("{folder}/{name}")]).unwrap().ok().unwrap();
        }
    }
    let mut argv = vec!["perl".into(), "-e".into(), RACE.into(), how.into(), attempts.to_string(), swaps.to_string()];
    argv.extend(targets.iter().map(|&target| target.to_owned()));
    let command = host.command(argv).user(&street.user).cwd(&folder).timeout(Duration::from_secs(600));
    let printed = command.run().unwrap().ok().unwrap().stdout;

    let swapped: u32 = printed.lines().find_map(|line| line.strip_prefix("swaps ")).unwrap().parse().unwrap();
    let answers: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("attempt ")).collect();
    assert!(swapped >= swaps && answers.len() >= attempts as usize, "{printed}");
    let log = street.logged_since(position);
    assert_eq!(log.len(), answers.len(), "one line for each: {log:#?}");
    let mut outcome = Outcome { attempts: answers.len(), accepted: 0, refused: BTreeMap::new() };
    for (answer, line) in answers.iter().zip(&log) {
        if *answer == "0 0;" {
            let by = format!(" (serial {}) ", street.serial);
            assert!(line.contains("Accepted certificate ID ") && line.contains(&by), "{how}: {answer}: {line}");
            outcome.accepted += 1;
        } else {
            assert!(!answer.starts_with("0 ") && !answer.contains('0'), "{how}: {answer}: {line}");
            let (_, reason) = line.split_once(": agent: ").unwrap_or_else(|| panic!("{how}: {answer}: {line}"));
            assert!(line.contains("Refusing for "), "{line}");
            *outcome.refused.entry(reason.split_once(": ").unwrap().1.to_owned()).or_default() += 1;
        }
    }
    println!(
        "{how}: {swapped} swaps in {} attempts, {} accepted, {:?}",
        outcome.attempts, outcome.accepted, outcome.refused
    );
    outcome
}

#[test]
fn a_socket_that_is_swapped_while_it_is_looked_at_is_the_users_own_or_none() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let (own, roots, neighbours) = (street.own.path(), &street.roots, &street.neighbours);
    // Half of the time it is the user's own.
    let targets =
        [own, roots.open.path(), own, neighbours.open.path(), own, roots.hidden.path(), own, neighbours.closed.path()];
    let (open, shut) = (
        [format!("the agent belongs to uid {}", street.neighbours_uid), "the agent belongs to uid 0".to_owned()],
        "Permission denied (os error 13)",
    );
    // While it is bound anew there is nothing, nobody, or one who is gone before he was asked.
    let gone = [
        "No such file or directory (os error 2)",
        "Connection refused (os error 111)",
        "connection: closed by the agent",
        "connection: Broken pipe (os error 32)",
        "connection: Connection reset by peer (os error 104)",
    ];
    let (mut reached, mut accepted) = (0, 0);
    for how in ["rename", "exchange", "folders", "rebind"] {
        let mut targets = targets;
        if how == "exchange" {
            // Behind a hard link nothing hides it.
            targets[5] = roots.closed.path();
        }
        let outcome = race(&street, how, &targets);
        for reason in outcome.refused.keys() {
            let is_due =
                open.contains(reason) || reason == shut || (how == "rebind" && gone.contains(&reason.as_str()));
            assert!(is_due, "{how}: {reason}");
        }
        assert!(
            outcome.accepted > 0 && outcome.accepted < outcome.attempts,
            "{how} was no race: {:?}",
            outcome.refused
        );
        accepted += outcome.accepted;
        reached += open.iter().filter_map(|reason| outcome.refused.get(reason)).sum::<usize>();
    }

    // What the listeners saw: the user, with his groups; no question but where he was let through; nothing behind a door that is closed to him.
    assert_eq!(street.strangers(), Vec::<String>::new());
    assert_eq!(own_and_others(&street), ((accepted, accepted), (reached, 0), (0, 0)));
}

/// Connections and questions: at the user's own listener, at the open ones of others, and at the closed ones.
fn own_and_others(street: &Street) -> ((usize, usize), (usize, usize), (usize, usize)) {
    let all = |relays: &[&ussh_e2e::Relay]| {
        let seen = relays.iter().map(|relay| relay.seen().unwrap());
        seen.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let (roots, neighbours) = (&street.roots, &street.neighbours);
    let closed = [&roots.closed, &roots.hidden, &neighbours.closed, &neighbours.hidden];
    (all(&[&street.own]), all(&[&roots.open, &neighbours.open]), all(&closed))
}
