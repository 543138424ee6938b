//! A TCP stream that cannot be stalled for ever and that closes without losing its last answer.
//!
//! Invariant: a write that the peer does not take within the stall timeout fails, and after a
//! shutdown at most the linger time goes into reading (and dropping) what the peer still sends.
//! Without the second, an answer such as 413 would be lost: closing a socket with unread bytes
//! resets it, and the peer may then never see what was written before (RFC 9112, section 9.6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes dropped by one read while lingering.
const LINGER_BYTES: usize = 16 * 1024;
/// Reads that one poll may do while lingering, so that a fast sender cannot hold the thread.
const LINGER_READS_PER_POLL: usize = 64;

/// See the module documentation.
pub(crate) struct GuardedSocket {
    tcp: TcpStream,
    write_stall_timeout: Duration,
    linger: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

enum Closing {
    Open,
    Lingering(Pin<Box<Sleep>>),
    Done,
}

impl GuardedSocket {
    pub(crate) fn new(tcp: TcpStream, write_stall_timeout: Duration, linger: Duration) -> Self {
        Self {
            tcp,
            write_stall_timeout,
            linger,
            stalled: None,
            closing: Closing::Open,
        }
    }

    /// Passes a finished write on, and turns one that waited too long into an error.
    fn bound_stall(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_stall_timeout;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes no bytes",
        )))
    }

    /// Reads and drops until the peer closes, an error comes or the linger time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Closing::Lingering(timer) = &mut self.closing else {
            return Poll::Ready(());
        };
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0_u8; LINGER_BYTES];
        for _ in 0..LINGER_READS_PER_POLL {
            let mut dropped = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut dropped)) {
                Ok(()) if !dropped.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for GuardedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for GuardedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.bound_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.bound_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Closing::Open = self.closing {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
            let end = Instant::now() + self.linger;
            self.closing = Closing::Lingering(Box::pin(sleep_until(end)));
        }
        ready!(self.poll_linger(cx));
        self.closing = Closing::Done;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(60);

    async fn pair(stall: Duration, linger: Duration) -> io::Result<(GuardedSocket, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let peer = TcpStream::connect(listener.local_addr()?).await?;
        let (tcp, _) = listener.accept().await?;
        Ok((GuardedSocket::new(tcp, stall, linger), peer))
    }

    #[tokio::test]
    async fn a_write_that_the_peer_does_not_take_fails() -> io::Result<()> {
        let (mut socket, peer) = pair(SHORT, SHORT).await?;
        let block = [0; 65_536];
        // The kernel takes some megabytes before a write has to wait.
        let failure = async {
            loop {
                if let Err(error) = socket.write_all(&block).await {
                    return error.kind();
                }
            }
        };
        assert_eq!(failure.await, io::ErrorKind::TimedOut);
        drop(peer);
        Ok(())
    }

    #[tokio::test]
    async fn the_last_answer_arrives_though_the_peer_still_sends() -> io::Result<()> {
        let (mut socket, peer) = pair(LONG, LONG).await?;
        let (mut reading, mut writing) = peer.into_split();
        let sending = tokio::spawn(async move {
            writing.write_all(&vec![0; 10_000_000]).await?;
            writing.shutdown().await
        });
        socket.write_all(b"answer").await?;
        socket.shutdown().await?;
        drop(socket);
        let mut answer = Vec::new();
        reading.read_to_end(&mut answer).await?;
        assert_eq!(answer, b"answer");
        sending.await.expect("no panic")
    }

    #[tokio::test]
    async fn lingering_ends_though_the_peer_keeps_the_connection() -> io::Result<()> {
        let (mut socket, mut peer) = pair(LONG, SHORT).await?;
        let sending = tokio::spawn(async move { while peer.write_all(b"more").await.is_ok() {} });
        socket.shutdown().await?;
        drop(socket);
        sending.await.expect("no panic");
        Ok(())
    }
}
