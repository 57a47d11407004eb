//! Where replies end in a stream of bytes that comes in pieces. It must not know what they mean.

/// The place in a stream.
#[derive(Default)]
pub struct Replies {
    line: Vec<u8>,
    /// Bytes of a value, with its line's end, that are still to come.
    skip: usize,
    /// Parts of the reply that are still to come, after the one that is being read.
    parts: usize,
    /// Whether a reply has begun and not ended.
    begun: bool,
}

// === impl Replies ===

impl Replies {
    /// Whether the next byte begins a reply.
    pub fn is_between(&self) -> bool {
        !self.begun
    }

    /// Goes on: the places in these bytes where replies end.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<usize> {
        let (mut at, mut ends) = (0, Vec::new());
        while at < bytes.len() {
            self.begun = true;
            if self.skip > 0 {
                let taken = self.skip.min(bytes.len() - at);
                self.skip -= taken;
                at += taken;
                if self.skip > 0 {
                    break;
                }
            } else {
                self.line.push(bytes[at]);
                at += 1;
                if !self.line.ends_with(b"\r\n") {
                    continue;
                }
                let line = std::mem::take(&mut self.line);
                let count = std::str::from_utf8(&line[1..line.len() - 2]).ok().and_then(|text| text.parse().ok());
                let count: usize = count.unwrap_or(0);
                match line[0] {
                    // One that is -1 has no more bytes; one that is 0 has a line's end.
                    b'$' | b'=' if !line.starts_with(b"$-") => {
                        self.skip = count + 2;
                        continue;
                    }
                    b'*' | b'~' | b'>' => self.parts += count,
                    b'%' => self.parts += 2 * count,
                    _ => {}
                }
            }
            if self.parts == 0 {
                ends.push(at);
                self.begun = false;
            } else {
                self.parts -= 1;
            }
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::Replies;

    /// Whole and in pieces of every size, the same ends are found.
    #[test]
    fn ends() {
        let check = |stream: &str, expect: &[usize]| {
            for size in 1..=stream.len() {
                let (mut replies, mut before, mut ends) = (Replies::default(), 0, Vec::new());
                for piece in stream.as_bytes().chunks(size) {
                    ends.extend(replies.feed(piece).into_iter().map(|end| before + end));
                    before += piece.len();
                }
                assert_eq!(ends, expect, "{stream:?} in pieces of {size}");
                assert_eq!(replies.is_between(), expect.last() == Some(&stream.len()), "{stream:?}");
            }
        };
        check("+OK\r\n:1\r\n", &[5, 9]);
        check("$2\r\n\r\n\r\n$-1\r\n$0\r\n\r\n", &[8, 13, 19]);
        check("*2\r\n*1\r\n:1\r\n$1\r\na\r\n_\r\n", &[19, 22]);
        check("*0\r\n*-1\r\n%1\r\n+a\r\n>1\r\n,1\r\n+", &[4, 9, 25]);
    }
}
