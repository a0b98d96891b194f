//! RSA by the book: any size, any exponent, any of the three hashes. Never for anything but a test.

use std::process::Command;

use num_bigint::BigUint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

use crate::wire::{Put, string};

/// A key pair. Of one that ssh-keygen made there are two factors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rsa {
    pub n: Number,
    pub e: Number,
    pub d: Number,
    pub factors: Vec<Number>,
}

/// In hexadecimal on its way to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Number(pub BigUint);

impl From<String> for Number {
    fn from(hex: String) -> Self {
        Number(BigUint::parse_bytes(hex.as_bytes(), 16).unwrap())
    }
}

impl From<Number> for String {
    fn from(number: Number) -> Self {
        number.0.to_str_radix(16)
    }
}

impl Rsa {
    /// A fresh key of exactly so many bits. Its primes are short ones, and many: quick to find, good enough for a test.
    pub fn new(bits: u64, exponent: &BigUint) -> Self {
        loop {
            if let Some(key) = Self::try_new(bits, exponent) {
                return key;
            }
        }
    }

    fn try_new(bits: u64, exponent: &BigUint) -> Option<Self> {
        let one = BigUint::from(1_u32);
        let mut n = one.clone();
        let mut phi = one.clone();
        let mut factors: Vec<Number> = Vec::new();
        while n.bits() < bits {
            let left = bits - n.bits();
            let size = if left < 768 { left.max(64) } else { 512 };
            let prime = prime(size);
            n *= &prime;
            phi *= &prime - &one;
            factors.push(Number(prime));
        }
        let d = exponent.modinv(&phi)?;
        (n.bits() == bits).then(|| Rsa { n: Number(n), e: Number(exponent.clone()), d: Number(d), factors })
    }

    pub fn fields(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_mpint(&self.e.0.to_bytes_be());
        out.put_mpint(&self.n.0.to_bytes_be());
        out
    }

    /// d, iqmp, p, q, as ssh-agent wants them.
    pub fn agent_numbers(&self) -> Option<[BigUint; 4]> {
        let [p, q] = self.factors.as_slice() else { return None };
        let iqmp = q.0.modinv(&p.0)?;
        Some([self.d.0.clone(), iqmp, p.0.clone(), q.0.clone()])
    }

    /// In wire form (RFC 8332 §3; RFC 4253 §6.6 for SHA-1).
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let (oid, hash) = match algorithm {
            "ssh-rsa" => (SHA1, sha1::Sha1::digest(message).to_vec()),
            "rsa-sha2-256" => (SHA256, Sha256::digest(message).to_vec()),
            "rsa-sha2-512" => (SHA512, Sha512::digest(message).to_vec()),
            other => panic!("{other}"),
        };
        let info = [oid, &hash].concat();
        let size = usize::try_from(self.n.0.bits().div_ceil(8)).unwrap();
        let padding = vec![0xff; size - info.len() - 3];
        let padded = [&[0, 1][..], &padding, &[0], &info].concat();
        let number = self.raw(&BigUint::from_bytes_be(&padded)).to_bytes_be();
        let signature = [vec![0; size - number.len()], number].concat();
        [string(algorithm.as_bytes()), string(&signature)].concat()
    }
}

impl Rsa {
    /// `number` to the power of d, factor by factor: quick also for very large keys.
    fn raw(&self, number: &BigUint) -> BigUint {
        let one = BigUint::from(1_u32);
        let parts = self.factors.iter().map(|Number(prime)| {
            let part = number.modpow(&(&self.d.0 % (prime - &one)), prime);
            let others = &self.n.0 / prime;
            part * &others * others.modinv(prime).unwrap()
        });
        parts.sum::<BigUint>() % &self.n.0
    }
}

/// DigestInfo up to the digest (RFC 8017 §9.2, note 1).
const SHA1: &[u8] = &[0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 0x14];
const SHA256: &[u8] = &[0x30, 0x31, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
const SHA512: &[u8] = &[0x30, 0x51, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3, 5, 0, 4, 0x40];

fn prime(bits: u64) -> BigUint {
    let bits = bits.to_string();
    let found = Command::new("openssl").args(["prime", "-generate", "-hex", "-bits", &bits]).output().unwrap();
    BigUint::parse_bytes(found.stdout.trim_ascii(), 16).unwrap()
}
