//! The guarded agent, its side towards the CA: a socket of our own that is forwarded to the CA in place of the user's agent.
//!
//! A CA, even one that has been taken over, can add keys with certificates of our CA for the very user who logs in, and remove those again. It sees no other key and uses none:
//! listing shows only what it added itself, and signing, locking, removing all, extensions and smartcards are refused.
//!
//! Process: `ussh` itself, for as long as its `ssh` to the CA runs. One thread, one loop: requests are answered one after the other, each by its deadline.

mod ca_side;
mod connection;
mod directory;
mod lifetime;
mod serve;

pub use ca_side::{CaSide, NotAdded};
pub use directory::PrivateDirectory;
pub use serve::{Guard, GuardError};

#[cfg(test)]
mod tests;
