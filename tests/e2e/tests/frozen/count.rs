//! Programs of a session that count: a counter that stands still, goes on, and loses nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::seat::Seat;

/// The one on the terminal, its child, one whose parent has ended, and one of a session of its own (setsid) whose parent has ended.
pub const NAMES: [&str; 4] = ["shell", "forked", "orphan", "setsid"];

const SCRIPT: &str = r#"
count() {
  exec 3>> "count-$1" 4<> <(:)
  [ "$1" = shell ] || exec > /dev/null
  n=0; while :; do echo "$n $EPOCHREALTIME" >&3; printf 'shell %d.\r\n' $n; n=$((n+1)); read -t 0.02 -u 4; done
}
count forked &
(count orphan &)
(setsid bash -c "$(declare -f count); count setsid" &)
count shell
"#;

/// One line of a counter.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    pub number: u64,
    /// Since the epoch.
    pub at: Duration,
}

/// Starts all of them from the shell, the last one in its foreground.
pub fn start(seat: &Seat<'_>) {
    let host = seat.world().host(&seat.server);
    host.write_file_as(seat.user(), &format!("/home/{}/counter", seat.user()), 0o600, SCRIPT).unwrap();
    seat.shell.terminal().send("bash counter\n").unwrap();
    seat.shell.terminal().expect("shell 9.", crate::seat::SOON).unwrap();
}

/// What one has counted; each number once, and none left out.
pub fn counted(seat: &Seat<'_>, name: &str) -> Vec<Count> {
    let text = seat.world().host(&seat.server).read_file(&format!("/home/{}/count-{name}", seat.user())).unwrap();
    // The last line may be half written.
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let parse = |line: &str| {
        let (number, at) = line.split_once(' ').unwrap();
        Count { number: number.parse().unwrap(), at: Duration::from_secs_f64(at.parse().unwrap()) }
    };
    let counts: Vec<Count> = whole.lines().map(parse).collect();
    assert!(counts.iter().enumerate().all(|(place, count)| count.number == place as u64), "{name}: {text}");
    counts
}

/// From when to when it stood still for longer than this.
pub fn stops(counts: &[Count], longer: Duration) -> Vec<(Duration, Duration)> {
    let pairs = counts.windows(2).map(|pair| (pair[0].at, pair[1].at));
    pairs.filter(|(before, after)| after.saturating_sub(*before) > longer).collect()
}

/// Each number once on the terminal, and none left out.
pub fn assert_shown(seat: &Seat<'_>) {
    let transcript = seat.shell.terminal().transcript();
    let numbers: Vec<u64> = transcript
        .split("shell ")
        .skip(1)
        .filter_map(|rest| rest.split_once('.').and_then(|(number, _)| number.parse().ok()))
        .collect();
    assert!(numbers.len() > 50, "{transcript}");
    assert!(numbers.iter().enumerate().all(|(place, number)| *number == place as u64), "{transcript}");
}

pub fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap()
}
