//! Hides secrets in text that is shown to people.
//!
//! Works on the words of the text and not on its meaning, so that a password in a file too broken
//! to be understood is hidden too. In doubt it hides too much.

use std::ops::Range;

/// `source` with every character of a secret replaced by one of the same length, `*` for most, so
/// that spans and columns stay valid.
pub(crate) fn mask_secrets(source: &str) -> String {
    let mut secrets = secrets(source);
    secrets.sort_by_key(|secret| secret.start);
    let mut masked = String::with_capacity(source.len());
    for secret in secrets {
        // One that begins inside another is hidden from where that ends.
        let start = secret.start.max(masked.len());
        if start >= secret.end {
            continue;
        }
        masked.push_str(&source[masked.len()..start]);
        masked.extend(source[start..secret.end].chars().map(masked_character));
    }
    masked.push_str(&source[masked.len()..]);
    masked
}

fn masked_character(character: char) -> char {
    match character.len_utf8() {
        _ if matches!(character, '\n' | '\r') => character,
        1 => '*',
        2 => '\u{b7}',
        3 => '\u{2217}',
        _ => '\u{1f7b1}',
    }
}

/// A word of TOML, as far as hiding needs to know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Bare,
    Quoted,
    /// A string that its line or the text ends before a quote does.
    Unclosed,
    Equals,
    Dot,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    Comma,
    Newline,
    Comment,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    span: Range<usize>,
}

/// The bytes of every value of a key that may hold a secret, and of comments that speak of one.
fn secrets(source: &str) -> Vec<Range<usize>> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    // Whether the surrounding table, by its header or its braces, holds secrets throughout.
    let mut in_secret_header = false;
    let mut braces: Vec<bool> = Vec::new();
    let mut key: Option<Range<usize>> = None;
    let mut line_begins = true;
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        index += 1;
        let begins = std::mem::take(&mut line_begins);
        match token.kind {
            Kind::Newline => line_begins = true,
            Kind::Comment if is_suspect(&source[token.span.clone()]) => {
                found.push(token.span.clone());
            }
            Kind::OpenBracket if begins => {
                let header = tokens[index..]
                    .iter()
                    .take_while(|t| !matches!(t.kind, Kind::Newline | Kind::Equals));
                let last = header.filter(|t| matches!(t.kind, Kind::Bare | Kind::Quoted)).last();
                in_secret_header = last.is_some_and(|t| holds_secrets(name(source, t)));
            }
            // A quote too many turns strings inside out: what looks like one is none.
            Kind::Unclosed => found.extend(suspect_rest(source, token.span.clone())),
            Kind::Bare | Kind::Quoted => {
                key = Some(token.span.clone());
                // So do three: then the string has taken in the lines that follow it.
                if source[token.span.clone()].contains('\n') {
                    found.extend(suspect_rest(source, token.span.clone()));
                }
            }
            Kind::Equals => {
                let Some(span) = key.take() else { continue };
                let name = source[span].trim_matches(['"', '\'']);
                let around = braces.last().copied().unwrap_or(in_secret_header);
                let value = tokens.get(index);
                if value.is_some_and(|t| t.kind == Kind::OpenBrace) {
                    braces.push(around || holds_secrets(name));
                    index += 1;
                } else if is_suspect(name) || (around || holds_secrets(name)) && !is_harmless(name)
                {
                    let value = value_tokens(&tokens[index..]);
                    index += value.len();
                    if let (Some(first), Some(last)) = (value.first(), value.last()) {
                        found.push(first.span.start..last.span.end);
                    }
                }
            }
            Kind::OpenBrace => braces.push(braces.last().copied().unwrap_or(in_secret_header)),
            Kind::CloseBrace => drop(braces.pop()),
            Kind::Dot | Kind::OpenBracket | Kind::CloseBracket | Kind::Comma | Kind::Comment => {}
        }
        if line_begins && !braces.is_empty() && starts_statement(&tokens[index..], source) {
            braces.clear();
        }
    }
    found
}

/// Whether a line that follows an unclosed brace is a header: then the brace was forgotten.
fn starts_statement(rest: &[Token], source: &str) -> bool {
    rest.first()
        .is_some_and(|t| t.kind == Kind::OpenBracket && source[t.span.clone()].starts_with('['))
}

/// From the first word that speaks of a secret, in the line where `string` begins, to its end.
fn suspect_rest(source: &str, string: Range<usize>) -> Option<Range<usize>> {
    let line = source[..string.start].rfind('\n').map_or(0, |newline| newline + 1);
    let text = source[line..string.end].to_ascii_lowercase();
    let words = ["auth", "pas", "secret", "psk", "key"];
    let first = words.iter().filter_map(|word| text.find(word)).min()?;
    Some(line + first..string.end)
}

/// The value at the front of `rest`: one string, a list, or words to the end of the element.
fn value_tokens(rest: &[Token]) -> &[Token] {
    let mut depth = 0_usize;
    for (index, token) in rest.iter().enumerate() {
        match token.kind {
            Kind::OpenBracket | Kind::OpenBrace => depth += 1,
            Kind::CloseBracket | Kind::CloseBrace if depth > 0 => depth -= 1,
            Kind::CloseBrace | Kind::Comma if depth == 0 => return &rest[..index],
            Kind::Newline if depth == 0 => return &rest[..index],
            _ => {}
        }
    }
    rest
}

fn name<'s>(source: &'s str, token: &Token) -> &'s str {
    source[token.span.clone()].trim_matches(['"', '\''])
}

/// Whether everything in a table of this name may be secret.
fn holds_secrets(name: &str) -> bool {
    close_to(name, "authentication", 3) || close_to(name, "other-keys", 2)
}

/// Keys beside a secret that are none, and are better shown.
fn is_harmless(name: &str) -> bool {
    matches!(name, "type" | "password-file" | "key-file" | "key-id" | "mode" | "window")
}

/// Whether the value of a key of this name (or a comment with this text) may be secret.
fn is_suspect(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if is_harmless(&lower) {
        return false;
    }
    // A key spelled with escapes is not decoded here.
    lower == "key"
        || ["pass", "secret", "psk", "\\u", "\\x"].iter().any(|word| lower.contains(word))
        || close_to(&lower, "password", 3)
}

fn close_to(text: &str, word: &str, distance: usize) -> bool {
    text.len() <= word.len() + distance && strsim::damerau_levenshtein(text, word) <= distance
}

fn tokens(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let mut kind = match bytes[at] {
            b' ' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            b'\n' => Kind::Newline,
            b'=' => Kind::Equals,
            b'.' => Kind::Dot,
            b',' => Kind::Comma,
            b'[' => Kind::OpenBracket,
            b']' => Kind::CloseBracket,
            b'{' => Kind::OpenBrace,
            b'}' => Kind::CloseBrace,
            b'#' => Kind::Comment,
            b'"' | b'\'' => Kind::Quoted,
            _ => Kind::Bare,
        };
        at = match kind {
            Kind::Comment => line_end(bytes, at),
            Kind::Quoted => string_end(bytes, at).unwrap_or_else(|| {
                kind = Kind::Unclosed;
                unclosed_end(bytes, at)
            }),
            Kind::Bare => bare_end(bytes, at),
            _ => at + 1,
        };
        tokens.push(Token { kind, span: start..at });
    }
    tokens
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn bare_end(bytes: &[u8], at: usize) -> usize {
    let ends = |byte: &u8| b" \t\r\n=.,[]{}#\"'".contains(byte);
    bytes[at..].iter().position(ends).map_or(bytes.len(), |length| at + length)
}

/// One past the closing quote, which a string of one line has in that line.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = bytes[start];
    let escapes = quote == b'"';
    let triple = is_triple(bytes, start);
    let mut at = start + if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 1,
            b'\n' if !triple => return None,
            byte if byte == quote && !triple => return Some(at + 1),
            byte if byte == quote && is_triple(bytes, at) => return Some(at + 3),
            _ => {}
        }
        at += 1;
    }
    None
}

fn unclosed_end(bytes: &[u8], start: usize) -> usize {
    if is_triple(bytes, start) { bytes.len() } else { line_end(bytes, start) }
}

fn is_triple(bytes: &[u8], at: usize) -> bool {
    bytes[at..].starts_with(&[bytes[at]; 3])
}

#[cfg(test)]
mod tests {
    use super::mask_secrets;

    #[test]
    fn passwords_are_hidden_however_they_are_written() {
        for line in [
            "password = \"hunter2!\"",
            "authentication = { type = \"pass\", password = \"hunter2!\" }",
            "authentication = { password = 'hunter2!', type = \"pass\" }",
            "authentication.password = \"hunter2!\"",
            "\"password\" = \"hunter2!\"",
            "\"pass\\u0077ord\" = \"hunter2!\"",
            "[vrrp.a.authentication]\npass = \"hunter2!\"",
            "[vrrp.a.authentication]\nanything = \"hunter2!\"",
            "authentication = \"hunter2!\"",
            "authentication = [\"pass\", \"hunter2!\"]",
            "pasword = \"hunter2!\"",
            "passwrd = \"hunter2!\"",
            "auth_pass = hunter2!",
            "password = \"hunter2!",
            "password = \"\"\"\nhunter2!\n\"\"\"",
            "password = '''hunter2!",
            "[vrrp.a.authentication]\ntype = \"\"\"pass\"\nkey = \"hunter2!\"\nb = \"\"\"\"",
            "type = '''pass\npassword = [\n\"hunter2!\"]'''",
            "authentication = { type = \"pass\", password = \"hunter2!\"\n",
            "interface = \"eth0\" # the password was hunter2!",
            "password = \"a\\\"hunter2!\"",
            "password = hunter2!hunter2!",
            "authentication = { type = \"pa\"ss\", password = \"hunter2!\" }",
            "authentication = { type = \"pass\", \"\"\"password = \"hunter2!\" }",
            "authentication = {\n[ type = \"pass\", password = \"hunter2!\" }",
        ] {
            let masked = mask_secrets(line);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert_eq!(masked.len(), line.len());
        }
    }

    #[test]
    fn what_is_not_secret_is_shown() {
        let text = "[vrrp.a]\ninterface = \"eth0\"\nauthentication = { type = \"pass\", password-file = \"/etc/p\" }\n\
                    addresses = [\"10.0.0.1/24\"]\n[check.x]\ncommand = [\"/bin/true\", \"a=b\"]\n";
        assert_eq!(mask_secrets(text), text);
    }

    #[test]
    fn text_after_a_secret_is_shown_again() {
        let masked =
            mask_secrets("authentication = { password = \"abc\", type = \"pass\" }\nvrid = 51\n");
        assert_eq!(masked, "authentication = { password = *****, type = \"pass\" }\nvrid = 51\n");
        let masked = mask_secrets("[a.authentication]\npassword = \"ä\"\n[b]\nvrid = 51\n");
        assert_eq!(masked, "[a.authentication]\npassword = *·*\n[b]\nvrid = 51\n");
    }
}
