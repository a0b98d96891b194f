//! RFC 4251 §5 data types: bounded reading, plain writing.

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The data ends before the value does.
    #[error("truncated")]
    Truncated,
    /// Bytes are left after the last value.
    #[error("trailing bytes")]
    Trailing,
}

/// Reads values off the front of a byte slice.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Reader(data)
    }
    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
    /// Takes exactly `n` bytes.
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(WireError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }
    /// One byte.
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn byte(&mut self) -> Result<u8, WireError> {
        self.take(1)?.first().copied().ok_or(WireError::Truncated)
    }
    /// `uint32`, big endian.
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| WireError::Truncated)
    }
    /// `uint64`, big endian.
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.take(8)?.try_into().map(u64::from_be_bytes).map_err(|_| WireError::Truncated)
    }
    /// `string`: a `uint32` length in bytes, then that many bytes.
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn string(&mut self) -> Result<&'a [u8], WireError> {
        let n = self.u32()?;
        self.take(usize::try_from(n).map_err(|_| WireError::Truncated)?)
    }
    /// Nothing may be left.
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn finish(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }
}

/// Appends values to a byte vector.
pub trait WireWrite {
    /// One byte.
    fn put_byte(&mut self, v: u8);
    /// `uint32`, big endian.
    fn put_u32(&mut self, v: u32);
    /// `uint64`, big endian.
    fn put_u64(&mut self, v: u64);
    /// `string`. Longer than `u32::MAX` bytes is cut there (no caller holds as much).
    fn put_string(&mut self, v: &[u8]);
}

impl WireWrite for Vec<u8> {
    fn put_byte(&mut self, v: u8) {
        self.push(v);
    }
    fn put_u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn put_u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn put_string(&mut self, v: &[u8]) {
        let n = u32::try_from(v.len()).unwrap_or(u32::MAX);
        self.put_u32(n);
        self.extend_from_slice(v.get(..n as usize).unwrap_or(v));
    }
}
