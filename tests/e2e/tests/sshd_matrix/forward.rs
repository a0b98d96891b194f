//! `ssh -N`: nothing is run, and a forward shows whether the connection is of any use.

use std::sync::atomic::{AtomicU16, Ordering};

use crate::seat::Seat;
use crate::seen::Seen;
use crate::table::Column;
use crate::ways::Way;

/// What is printed when it is: the first bytes of the sshd at the other end of the forward.
pub const UP: &str = "SSH-2.0-\n";
/// When the connection stands, and the forward leads nowhere.
pub const OF_NO_USE: &str = "connected, and no forward\n";

/// Ends the connection when it has been seen.
const SCRIPT: &str = r#"
ssh -N -o ExitOnForwardFailure=yes -L 127.0.0.1:LISTEN:127.0.0.1:22 OPTIONS HOST < /dev/null 2> err & ssh=$!
banner() { (exec 3<> /dev/tcp/127.0.0.1/LISTEN && head -c 8 <&3) 2> /dev/null; }
until banner=$(banner) || ! kill -0 $ssh 2> /dev/null; do sleep 0.05; done
if kill $ssh 2> /dev/null; then
  wait $ssh
  [ -n "$banner" ] && cat err >&2 && echo "$banner" && exit
  echo "connected, and no forward"; cat err >&2; exit 1
fi
wait $ssh; code=$?; cat err >&2; exit $code
"#;

pub fn go<'way>(seat: &Seat, way: &'way Way, column: Column) -> Seen<'way> {
    static LISTEN: AtomicU16 = AtomicU16::new(4000);
    let listen = LISTEN.fetch_add(1, Ordering::Relaxed).to_string();
    seat.run(way, column, &SCRIPT.replace("LISTEN", &listen))
}
