//! Server-sent events, as far as our server uses them.
//!
//! Source: WHATWG HTML, section 9.2 "Server-sent events". Of the fields, `event` and `data` are
//! read; `id` and `retry` mean reconnecting, which a governed call never does. Every line and
//! every event is bounded.

/// Bytes of one line at most.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Bytes of one event's data at most.
const DATA_BYTES_MAX: usize = 8 << 20;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message` when the server names none.
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Puts events together from pieces of the stream.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    line: Vec<u8>,
    after_carriage_return: bool,
    name: String,
    data: String,
    has_data: bool,
}

impl EventReader {
    /// The events that `bytes` complete.
    ///
    /// # Errors
    /// A line or an event is too long, or a line is not UTF-8.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        for &byte in bytes {
            // A line ends with LF, CR, or both together.
            let line_feed_of_pair = self.after_carriage_return && byte == b'\n';
            self.after_carriage_return = byte == b'\r';
            match byte {
                b'\n' if line_feed_of_pair => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ => {
                    anyhow::ensure!(
                        self.line.len() < LINE_BYTES_MAX,
                        "the server sent a line of more than {LINE_BYTES_MAX} bytes in its event stream"
                    );
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> anyhow::Result<Option<Event>> {
        let line = String::from_utf8(std::mem::take(&mut self.line))
            .map_err(|_| anyhow::anyhow!("the server's event stream is not UTF-8"))?;
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                anyhow::ensure!(
                    self.data.len() + value.len() < DATA_BYTES_MAX,
                    "the server sent an event of more than {DATA_BYTES_MAX} bytes"
                );
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // Comments (an empty field name) keep the connection alive; other fields do not concern us.
            _ => {}
        }
        Ok(None)
    }

    fn end_event(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        let complete = std::mem::take(&mut self.has_data);
        let name = if name.is_empty() {
            "message".to_owned()
        } else {
            name
        };
        complete.then_some(Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &str, expected: &[(&str, &str)]) {
        for size in [1, 2, 3, stream.len().max(1)] {
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                events.extend(reader.push(piece).expect("a good stream"));
            }
            let found: Vec<_> = events
                .iter()
                .map(|e| (e.name.as_str(), e.data.as_str()))
                .collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn events_come_out_whole_however_they_are_cut() {
        check(
            "event: token\ndata: {\"text\":\"é\"}\n\n",
            &[("token", "{\"text\":\"é\"}")],
        );
        check("data:a\r\ndata: b\r\n\r\n", &[("message", "a\nb")]);
        check(
            "data: a\r\rdata: b\r\r",
            &[("message", "a"), ("message", "b")],
        );
        check(": keep alive\n\n", &[]);
        check("event: done\n\n", &[]);
        check("id: 7\nretry: 10\ndata: x\n\n", &[("message", "x")]);
        check("data\n\n", &[("message", "")]);
        check("data: never finished", &[]);
        check("", &[]);
    }

    #[test]
    fn bad_streams_are_refused() {
        assert!(EventReader::default().push(b"data: \xff\n").is_err());
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(EventReader::default().push(&endless).is_err());
        let mut reader = EventReader::default();
        let line = [
            b"data: ".as_slice(),
            &vec![b'x'; LINE_BYTES_MAX - 16],
            b"\n",
        ]
        .concat();
        assert!((0..3).any(|_| reader.push(&line).is_err()));
    }
}
