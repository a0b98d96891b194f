//! The guarded agent: sockets of our own in front of the user's agent, in which the keys stay.
//!
//! *Towards the CA* it is forwarded in place of the user's agent. A CA, even one that has been taken over, can add keys with certificates of our CA for the very user who logs in, and remove
//! those again. It sees no other key and uses none: listing shows only what it added itself, and signing, locking, removing all, extensions and smartcards are refused.
//! Process: `ussh` itself, for as long as its `ssh` to the CA runs. One thread, one loop: requests are answered one after the other, each by its deadline.
//!
//! *Towards hosts* it lists the user's certificates of our CA and signs pam-ussh challenges with them, and nothing else: whoever is root on a host can let the user prove that he still holds
//! his certificate, and cannot log in anywhere with it. Process: `ussh --agent --serve`, one for each agent of the user's, started when it is needed.

mod board;
mod ca_side;
mod connection;
mod directory;
mod home;
mod host_serve;
mod host_side;
pub mod journal;
mod lifetime;
pub mod link;
mod question;
mod refused_words;
mod serve;
mod shares;
mod terminal;
mod withdrawn;

pub use ca_side::{CaSide, NotAdded};
pub use directory::{PrivateDirectory, is_private};
pub use home::{Home, HomeError, own_parents};
pub use host_serve::{ServeError, serve_hosts};
pub use host_side::{HostSide, Rules, Talk};
pub use question::DEFAULT_ASKPASS;
pub use serve::{Guard, GuardError};
pub use terminal::{TerminalError, serve as confirm_here};

#[cfg(test)]
mod tests;
