//! Patterns of KEYS, SCAN and CONFIG GET: `*`, `?`, `[a-z]`, `[^x]`, `\`. No recursion: a mismatch goes back to the
//! last star.

/// Whether all of `text` matches the pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Behind the last star: the pattern there, and the text that the star has not yet taken.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', after)) = pattern.split_first() {
            pattern = after;
            retry = Some((after, text));
            continue;
        }
        let step = match text.split_first() {
            None if pattern.is_empty() => return true,
            None => return false,
            Some((&byte, rest)) => one(pattern, byte).map(|after| (after, rest)),
        };
        (pattern, text) = match (step, &mut retry) {
            (Some(next), _) => next,
            (None, None) => return false,
            (None, Some((after, untaken))) => {
                *untaken = untaken.get(1..).unwrap_or_default();
                (*after, *untaken)
            }
        };
    }
}

/// The pattern behind its first element, when that is no star and takes this byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', class @ ..] => in_class(class, byte),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (*literal == byte).then_some(after),
    }
}

/// The pattern behind a class, `class` beginning behind its bracket, when the class takes this byte. A class without
/// its closing bracket ends with the pattern.
fn in_class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (mut class, negated) = match class {
        [b'^', rest @ ..] => (rest, true),
        _ => (class, false),
    };
    let mut found = false;
    loop {
        class = match class {
            [b'\\', literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
            [] => break,
            [b']', rest @ ..] => {
                class = rest;
                break;
            }
            [low, b'-', high, rest @ ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        };
    }
    (found != negated).then_some(class)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn rows() {
        for (pattern, text, expect) in [
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a*b*c", "axxbyybzzc", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[\\]]", "]", true),
            ("[ab", "a", true),
            ("", "", true),
            ("", "a", false),
            ("\\", "\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expect, "{pattern} {text}");
        }
    }
}
