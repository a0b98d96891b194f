//! The TCP connection: acknowledged at once, and watched for the client's going away.

use std::io;
use std::net::TcpStream;
use std::os::linux::net::TcpStreamExt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::strict_kex::StrictKex;

/// How long a client may take to say hello: its identification and its KEXINIT. Programs do that by themselves; a person who looks at the host key's fingerprint does so later.
const HELLO: Duration = Duration::from_secs(10);

/// What russh reads from and writes to.
pub struct Transport {
    stream: tokio::net::TcpStream,
    /// The same socket, for its options.
    options: TcpStream,
    /// Watches the first packet go by.
    strict_kex: StrictKex,
    /// When that packet must have been there.
    hello_by: Pin<Box<Sleep>>,
}

impl Transport {
    /// Over an accepted connection, within a runtime.
    /// # Errors
    /// As the kernel says.
    pub fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        let options = tcp.try_clone()?;
        Ok(Transport {
            stream: tokio::net::TcpStream::from_std(tcp)?,
            options,
            strict_kex: StrictKex::new(),
            hello_by: Box::pin(sleep(HELLO)),
        })
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.strict_kex.is_content() && self.hello_by.as_mut().poll(cx).is_ready() {
            let problem = "it did not begin a key exchange in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, problem)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            // A client under Nagle's algorithm waits for our ACK, and a delayed one costs 40 ms. The kernel forgets this option: it is set again each time. Without it all is as right, and slower.
            let _ = self.options.set_quickack(true);
            if let Err(problem) = self.strict_kex.watch(came) {
                return Poll::Ready(Err(io::Error::other(problem)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Tells when the client has gone, while russh waits for a handler and reads nothing.
pub struct Hangup {
    socket: tokio::net::TcpStream,
}

impl Hangup {
    /// Watches the same socket by a descriptor of its own, within a runtime.
    /// # Errors
    /// As the kernel says.
    pub fn watch(tcp: &TcpStream) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        Ok(Hangup { socket: tokio::net::TcpStream::from_std(tcp.try_clone()?)? })
    }

    /// Returns when the client has closed its side, or the connection has broken.
    pub async fn happened(&self) {
        while let Ok(ready) = self.socket.ready(Interest::READABLE).await {
            if ready.is_read_closed() {
                return;
            }
            // Bytes that russh will read in its time: wait for the next event.
            let _ = self.socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_begins_no_key_exchange_is_cut_off_early() {
        use tokio::io::AsyncReadExt;
        for hello in ["", "SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2\r\n\0\0\x04\0"] {
            let (server, mut client) = pair();
            client.write_all(hello.as_bytes()).unwrap();
            let mut transport = Transport::new(server).unwrap();
            let began = tokio::time::Instant::now();
            let read = async { while transport.read_u8().await.is_ok() {} };
            timeout(HELLO * 2, read).await.unwrap();
            assert!(began.elapsed() >= HELLO - Duration::from_secs(1), "{:?}", began.elapsed());
            assert!(began.elapsed() <= HELLO + Duration::from_secs(1), "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_begun_may_take_its_time() {
        use tokio::io::AsyncReadExt;
        let (server, mut client) = pair();
        client.write_all(&crate::strict_kex::an_opening()).unwrap();
        let mut transport = Transport::new(server).unwrap();
        let read = async { while transport.read_u8().await.is_ok() {} };
        assert!(timeout(HELLO * 6, read).await.is_err());
    }

    #[tokio::test]
    async fn unread_bytes_are_no_hangup_and_a_closed_connection_is_one() {
        let (server, mut client) = pair();
        let hangup = Hangup::watch(&server).unwrap();
        client.write_all(b"typed ahead").unwrap();
        assert!(timeout(Duration::from_millis(50), hangup.happened()).await.is_err());
        client.write_all(b"more").unwrap();
        assert!(timeout(Duration::from_millis(50), hangup.happened()).await.is_err());
        drop(client);
        timeout(Duration::from_secs(10), hangup.happened()).await.unwrap();
    }
}
