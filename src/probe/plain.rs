//! Text of untrusted peers, made harmless: names in DNS, certificates, Server headers, reason phrases.

/// Longer text is cut.
const LENGTH: usize = 200;

/// The text with everything that could command a terminal, or change how its surroundings are read, written as an escape
/// (`\u{1b}`), and cut after 200 characters.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len().min(LENGTH * 4));
    for (n, c) in text.chars().enumerate() {
        if n == LENGTH {
            plain.push('…');
            break;
        }
        if commands(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// As [`plain`], for bytes that may not be UTF-8.
#[must_use]
pub fn plain_bytes(bytes: &[u8]) -> String {
    plain(String::from_utf8_lossy(bytes).trim())
}

/// Control characters (C0, DEL, C1), and format characters that are invisible, reverse the reading direction, or end a line.
#[must_use]
pub fn commands(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_commands_a_terminal_passes() {
        let hostile = "a\u{1b}[31m\u{7}\r\n\u{9b}2J\u{7f}\u{202e}evil\u{2028}\u{200b}\u{feff}\u{e0041}é";
        let plain = plain(hostile);
        assert!(!plain.chars().any(commands), "{plain:?}");
        assert!(plain.starts_with("a\\u{1b}[31m") && plain.ends_with('é'), "{plain}");
        assert_eq!(plain_bytes(b" \xff\x1b "), "\u{fffd}\\u{1b}");
    }

    #[test]
    fn length_is_bounded_and_plain_text_stays() {
        assert_eq!(plain("pbx.example.com"), "pbx.example.com");
        assert_eq!(plain(&"x".repeat(5000)).chars().count(), LENGTH + 1);
    }
}
