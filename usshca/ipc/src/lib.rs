//! What the CA's processes say to each other, and who may say it.
//!
//! Transport: [`ussh_os::seqpacket::SeqPacket`], one message a packet, postcard-encoded. Every channel is made by the supervisor; a process speaks only on the descriptors it was given.
//! Untrusted: everything that a front says.
#![forbid(unsafe_code)]

pub mod admin;
pub mod by_hand;
pub mod channel;
pub mod front;
pub mod layout;
pub mod log;
pub mod signer;
pub mod worker;
