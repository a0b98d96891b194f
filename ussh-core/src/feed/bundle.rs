//! The file `feed`: its parts, one behind the other.

use super::{FeedError, MAGIC, MAX_FEED, MAX_HANDOVERS, MAX_KEYS, MAX_KRL, MAX_MANIFEST, MAX_SIGNATURE};
use crate::wire::{Reader, WireWrite};

/// The parts of a feed, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// JSON, as it is signed.
    pub manifest: Vec<u8>,
    /// Armoured SSHSIG; empty in a draft.
    pub signature: Vec<u8>,
    /// sshd's TrustedUserCAKeys.
    pub user_ca: Vec<u8>,
    /// The KRL.
    pub krl: Vec<u8>,
    /// The host CA's lines.
    pub known_hosts: Vec<u8>,
    /// Oldest first.
    pub handovers: Vec<Handover>,
}

/// A manifest by which one feed key named the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// JSON, as it is signed.
    pub manifest: Vec<u8>,
    /// Armoured SSHSIG.
    pub signature: Vec<u8>,
}

impl Bundle {
    /// Cuts the file up, to its last byte.
    /// # Errors
    /// [`FeedError::Torn`], [`FeedError::TooLarge`]
    pub fn parse(feed: &[u8]) -> Result<Self, FeedError> {
        if feed.len() > MAX_FEED {
            return Err(FeedError::TooLarge { what: "the feed", max: MAX_FEED });
        }
        let body = feed.strip_prefix(MAGIC).ok_or(FeedError::Torn("it does not begin as one"))?;
        let mut reader = Reader::new(body);
        let manifest = part(&mut reader, "the manifest", MAX_MANIFEST)?;
        let signature = part(&mut reader, "the signature", MAX_SIGNATURE)?;
        let user_ca = part(&mut reader, super::USER_CA, MAX_KEYS)?;
        let krl = part(&mut reader, super::KRL, MAX_KRL)?;
        let known_hosts = part(&mut reader, super::KNOWN_HOSTS, MAX_KEYS)?;
        let handovers = handovers(&mut reader)?;
        reader.finish().map_err(|_| FeedError::Torn("there is more behind its end"))?;
        Ok(Bundle { manifest, signature, user_ca, krl, known_hosts, handovers })
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for part in [&self.manifest, &self.signature, &self.user_ca, &self.krl, &self.known_hosts] {
            out.put_string(part);
        }
        out.extend_from_slice(&Handover::list_to_bytes(&self.handovers));
        out
    }
}

impl Handover {
    /// A list, as it stands at the end of a feed and in the CA's state.
    pub fn list_to_bytes(list: &[Handover]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(u32::try_from(list.len()).unwrap_or(u32::MAX));
        for one in list {
            out.put_string(&one.manifest);
            out.put_string(&one.signature);
        }
        out
    }

    /// The other way round, to the last byte.
    /// # Errors
    /// [`FeedError::Torn`], [`FeedError::TooLarge`]
    pub fn list_from_bytes(bytes: &[u8]) -> Result<Vec<Handover>, FeedError> {
        let mut reader = Reader::new(bytes);
        let list = handovers(&mut reader)?;
        reader.finish().map_err(|_| FeedError::Torn("there is more behind its end"))?;
        Ok(list)
    }
}

fn handovers(reader: &mut Reader<'_>) -> Result<Vec<Handover>, FeedError> {
    let count = reader.u32().map_err(|_| CUT)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MAX_HANDOVERS {
        return Err(FeedError::Torn("more handovers than there may be"));
    }
    let mut one = || {
        let manifest = part(reader, "a handover's manifest", MAX_MANIFEST)?;
        Ok(Handover { manifest, signature: part(reader, "a handover's signature", MAX_SIGNATURE)? })
    };
    (0..count).map(|_| one()).collect()
}

const CUT: FeedError = FeedError::Torn("it ends too early");

fn part(reader: &mut Reader<'_>, what: &'static str, max: usize) -> Result<Vec<u8>, FeedError> {
    let bytes = reader.string().map_err(|_| CUT)?;
    if bytes.len() > max { Err(FeedError::TooLarge { what, max }) } else { Ok(bytes.to_vec()) }
}
