//! Lines as syslog messages (RFC 5424) over TCP, counted as RFC 5425 does for TLS.
//!
//! Invariant: lines count as received only if the receiver closed the connection without an error
//! after all of them, since TCP alone says no more than that the system took them. Absent: TLS,
//! UDP, and structured data; a message is the line as it is.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::CommandError;

/// Facility "log audit" (13) times eight, and severity "informational" (6).
const PRIORITY: u8 = 13 * 8 + 6;
const VERSION: u8 = 1;
const APPLICATION: &str = "postern";
/// Longest name of a host in a message, in characters.
const HOSTNAME_MAX: usize = 255;

/// How long a connection may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a receiver may take to read a batch.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a receiver may take to close the connection after the last line.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// A line, and what the header of its message says.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) time: Timestamp,
    /// The type of its record.
    pub(super) kind: &'static str,
    /// With a line feed at its end.
    pub(super) text: Vec<u8>,
}

/// A receiver.
#[derive(Debug)]
pub(super) struct Syslog {
    authority: String,
    hostname: String,
}

impl Syslog {
    /// The receiver at this host and port, for messages of this device.
    pub(super) fn new(authority: &str, device: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            hostname: hostname(device),
        }
    }

    /// Sends lines over a connection of their own.
    pub(super) async fn deliver(&self, lines: &[Line]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for line in lines {
            frame(&mut bytes, &self.hostname, line);
        }
        let connecting = TcpStream::connect(&self.authority);
        let mut stream = self.within(CONNECT_WAIT_MAX, "connect", connecting).await?;
        let writing = async {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        };
        self.within(WRITE_WAIT_MAX, "send", writing).await?;
        let closing = async {
            let mut ignored = [0; 512];
            while stream.read(&mut ignored).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        self.within(
            CLOSE_WAIT_MAX,
            "wait for the end of the connection",
            closing,
        )
        .await
    }

    async fn within<T>(
        &self,
        wait: Duration,
        what: &str,
        work: impl Future<Output = io::Result<T>>,
    ) -> anyhow::Result<T> {
        let why = match timeout(wait, work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(source)) => source.to_string(),
            Err(_) => format!("nothing came within {} s", wait.as_secs()),
        };
        let authority = &self.authority;
        let message = format!(
            "the syslog receiver {authority} may not have all lines: cannot {what}: {why}; they are \
             sent again next time"
        );
        Err(CommandError::Unreachable { message }.into())
    }
}

/// Appends a message with its length before it.
fn frame(bytes: &mut Vec<u8>, hostname: &str, line: &Line) {
    let Line { time, kind, text } = line;
    let header = format!("<{PRIORITY}>{VERSION} {time:.6} {hostname} {APPLICATION} - {kind} - ");
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let length = header.len() + text.len();
    bytes.extend_from_slice(format!("{length} ").as_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(text);
}

/// The device's name with nothing but visible ASCII, as messages ask for it.
fn hostname(device: &str) -> String {
    let visible = device.chars().take(HOSTNAME_MAX);
    let visible = visible.map(|c| if c.is_ascii_graphic() { c } else { '_' });
    visible.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_and_its_header() {
        let line = Line {
            time: "2026-11-27T12:00:00.00025Z".parse().expect("a time"),
            kind: "completed",
            text: b"{\"index\":7}\n".to_vec(),
        };
        let mut bytes = Vec::new();
        frame(&mut bytes, &hostname("pi 5"), &line);
        frame(&mut bytes, &hostname("pi-5"), &line);
        let message = |name: &str| {
            format!(
                "<110>1 2026-11-27T12:00:00.000250Z {name} postern - completed - {{\"index\":7}}"
            )
        };
        let expected = ["pi_5", "pi-5"].map(|name| {
            let message = message(name);
            format!("{} {message}", message.len())
        });
        assert_eq!(String::from_utf8_lossy(&bytes), expected.concat());
    }
}
