//! Many texts in one piece of memory: a vocabulary has hundreds of thousands, most of a few bytes.
//!
//! Invariant: every text is whole, and its end lies behind the one before it.

/// Texts end to end; a list of strings would take several times as much.
#[derive(Clone, Default, PartialEq)]
pub struct Texts {
    joined: String,
    ends: Vec<u32>,
}

impl Texts {
    /// Adds a text at the end.
    ///
    /// # Panics
    /// When all texts together are longer than 4 GiB; what is read from a file is bounded by
    /// [`HEADER_BYTES_MAX`](super::HEADER_BYTES_MAX).
    pub fn push(&mut self, text: &str) {
        self.joined.push_str(text);
        let end = u32::try_from(self.joined.len()).expect("texts are shorter than 4 GiB together");
        self.ends.push(end);
    }

    /// The text at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        Some(&self.joined[start..end])
    }

    /// All texts in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.joined[start..end as usize];
            start = end as usize;
            text
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.joined.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut collected = Self::default();
        for text in texts {
            collected.push(text.as_ref());
        }
        collected
    }
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}
