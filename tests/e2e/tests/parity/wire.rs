//! RFC 4251 §5, written by hand here: what is tested must not be what makes the tests.

/// Appends values.
pub trait Put {
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_string(&mut self, value: &[u8]);
    /// A number that is not negative, from its big-endian bytes.
    fn put_mpint(&mut self, value: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_string(&mut self, value: &[u8]) {
        self.put_u32(u32::try_from(value.len()).unwrap());
        self.extend_from_slice(value);
    }

    fn put_mpint(&mut self, value: &[u8]) {
        let zeros = value.iter().take_while(|byte| **byte == 0).count();
        let bare = &value[zeros..];
        let sign: &[u8] = if bare.first().is_some_and(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
        self.put_string(&[sign, bare].concat());
    }
}

/// One string, in wire form.
pub fn string(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_string(value);
    out
}

/// Strings, one after the other.
pub fn strings(values: &[&[u8]]) -> Vec<u8> {
    values.iter().flat_map(|value| string(value)).collect()
}

/// Takes values off the front. What is not there is a mistake of the program that was asked, and ends the test.
pub struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }

    pub fn string(&mut self) -> &'a [u8] {
        let count = self.u32();
        self.bytes(count as usize)
    }
}
