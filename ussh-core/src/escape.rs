//! Bytes that others chose, made fit for a log line or a terminal.

/// Printable ASCII as it is, `\` and everything else as `\xHH`, cut (with `…` marked as `...`) so that the result is at most `max` bytes.
pub fn escape(bytes: &[u8], max: usize) -> String {
    let _ = (bytes, max);
    todo!()
}
