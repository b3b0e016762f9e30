//! `authentication` of a virtual router: passwords, and the keys of signatures.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_vrrp::{Authentication, KeyId, Password, Trailer, TrailerKey, TrailerMode, Version};

use crate::problem::{Problem, Report};
use crate::reader::{Table, Value};
use crate::schema::{AUTHENTICATION, OTHER_KEY};
use crate::surroundings::Surroundings;

/// Bytes of a password that are used (RFC 2338 §5.3.10).
const PASSWORD_LENGTH: usize = 8;
/// Bytes of an authentication header with HMAC-MD5-96 (RFC 2402 §2, RFC 2403).
const HEADER_LENGTH: usize = 24;
/// Bytes of the signature after an advertisement.
const TRAILER_LENGTH: usize = 28;
/// How far the clocks of two routers may be apart at least and at most.
const WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// What stands before a key that is written as hexadecimal digits, as keepalived has it.
const HEXADECIMAL: &str = "hex:";

/// How a virtual router's advertisements are authenticated.
#[derive(Clone, Debug)]
pub(crate) struct ReadAuthentication {
    /// Inside the advertisement, or around it.
    pub authentication: Authentication,
    /// After it.
    pub trailer: Option<Trailer>,
}

impl ReadAuthentication {
    const NONE: Self = Self { authentication: Authentication::None, trailer: None };

    /// What it adds to an advertisement, in bytes. The password has its place in any of version 2.
    pub(crate) fn additional_length(&self) -> usize {
        let header = matches!(self.authentication, Authentication::Header(_));
        usize::from(header) * HEADER_LENGTH + usize::from(self.trailer.is_some()) * TRAILER_LENGTH
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    None,
    Pass,
    Header,
    Signature,
}

/// The keys that belong to a password, and those that belong to signatures.
const PASSWORD_KEYS: [&str; 2] = ["password", "password-file"];
const SIGNATURE_KEYS: [&str; 6] = ["key-id", "key", "key-file", "other-keys", "mode", "window"];

pub(crate) fn read(table: &Table<'_>, surroundings: &Surroundings) -> Option<ReadAuthentication> {
    let Some(value) = table.get("authentication") else { return Some(ReadAuthentication::NONE) };
    let table = value.table(&AUTHENTICATION, "the authentication")?;
    let choices = [
        ("none", Kind::None),
        ("pass", Kind::Pass),
        ("ah", Kind::Header),
        ("hmac", Kind::Signature),
    ];
    let kind = table
        .require("type", "write `type = \"pass\"`")
        .and_then(|value| value.word("authentication type", &choices));
    if let Some(kind) = kind {
        report_foreign_keys(&table, kind);
    }
    // What a password is not used for is checked all the same.
    let password = password(&table, kind, surroundings);
    match kind? {
        Kind::None => Some(ReadAuthentication::NONE),
        Kind::Pass => Some(ReadAuthentication {
            authentication: Authentication::Pass(password?),
            trailer: None,
        }),
        Kind::Header => Some(ReadAuthentication {
            authentication: Authentication::Header(password?),
            trailer: None,
        }),
        Kind::Signature => Some(ReadAuthentication {
            authentication: Authentication::None,
            trailer: Some(signature(&table, surroundings)?),
        }),
    }
}

/// Passwords belong to version 2; signatures to both.
pub(crate) fn check_version(
    table: &Table<'_>,
    version: Version,
    authentication: &ReadAuthentication,
) {
    let (what, help) = match authentication.authentication {
        Authentication::None => return,
        Authentication::Pass(_) => (
            "VRRP version 3 has no authentication",
            "write `version = 2`, sign with `type = \"hmac\"`, or leave `authentication` out",
        ),
        Authentication::Header(_) => (
            "VRRP version 3 has no authentication header",
            "write `version = 2` for the header (HMAC-MD5 with a password of 8 bytes), or sign with `type = \"hmac\"`",
        ),
    };
    if version == Version::V2 {
        return;
    }
    let place = |key: &str| table.get(key).map_or(table.span(), |value| value.span());
    let mut problem = Problem::error(what)
        .label("belongs to version 2 (RFC 9568 §9)")
        .help(help)
        .at(place("authentication"));
    if let Some(version) = table.get("version") {
        problem = problem.context(version.span(), "the version");
    }
    table.report().push(problem);
}

fn report_foreign_keys(table: &Table<'_>, kind: Kind) {
    let (foreign, message): (&[&str], _) = match kind {
        Kind::None => (&[], ""),
        Kind::Pass | Kind::Header => (&SIGNATURE_KEYS, "belongs to `type = \"hmac\"`"),
        Kind::Signature => (&PASSWORD_KEYS, "belongs to `type = \"pass\"` and \"ah\""),
    };
    for (key, value) in foreign.iter().filter_map(|key| Some((key, table.get(key)?))) {
        let mut problem = Problem::error(format!("`{key}` with another type of authentication"))
            .label(message)
            .at(value.span());
        if let Some(kind) = table.get("type") {
            problem = problem.context(kind.span(), "the type");
        }
        if kind == Kind::Signature {
            problem =
                problem.help("write `key = \"…\"` or `key-file = \"/path\"`, of 32 to 64 bytes");
        }
        table.report().push(problem);
    }
    if kind != Kind::None {
        return;
    }
    let without_use = PASSWORD_KEYS.iter().chain(&SIGNATURE_KEYS).find_map(|key| table.get(key));
    if let Some(value) = without_use {
        let problem = Problem::warning("a secret without authentication").label("has no effect");
        table.report().push(problem.at(value.span()));
    }
}

/// The password, from the text or from a file. The value itself stands in no message.
fn password(
    table: &Table<'_>,
    kind: Option<Kind>,
    surroundings: &Surroundings,
) -> Option<Password> {
    let needed = matches!(kind, Some(Kind::Pass | Kind::Header));
    let help = "write `password = \"…\"` or `password-file = \"/path\"`";
    let secret = secret(table, PASSWORD_KEYS, needed.then_some(help), surroundings)?;
    checked_password(table.report(), secret.text, secret.span)
}

fn checked_password(report: &Report, text: &str, span: Range<usize>) -> Option<Password> {
    if text.contains(['\n', '\0']) {
        report.push(
            Problem::error("the password is more than one line of text")
                .label("holds a newline or zero")
                .at(span),
        );
        return None;
    }
    if text.len() > PASSWORD_LENGTH {
        report.push(
            Problem::warning(format!(
                "only the first {PASSWORD_LENGTH} bytes of the password are used"
            ))
            .label("is longer (RFC 2338 §5.3.10)")
            .help("keepalived cuts it too, so both ends agree; shorten it to say what is used")
            .at(span.clone()),
        );
    }
    let password = Password::new(text);
    if let Err(error) = &password {
        report.push(Problem::error(error.to_string()).label("must be 1 to 8 bytes").at(span));
    }
    password.ok()
}

fn signature(table: &Table<'_>, surroundings: &Surroundings) -> Option<Trailer> {
    let modes = [
        ("enforce", TrailerMode::Enforce),
        ("permissive", TrailerMode::Permissive),
        ("receive-only", TrailerMode::ReceiveOnly),
    ];
    let first = numbered_key(table, surroundings);
    let others = table.or("other-keys", Vec::new(), |value| {
        value.list("the keys", |element| {
            let place = element.span();
            let table = element.table(&OTHER_KEY, "this key")?;
            numbered_key(&table, surroundings).map(|(id, key)| (id, key, place))
        })
    });
    let mode = table.or("mode", TrailerMode::default(), |value| value.word("mode", &modes));
    let freshness = table.optional("window", window);
    let (key_id, key) = first?;
    let mut other_keys = BTreeMap::new();
    for (id, key, place) in others? {
        if id == key_id || other_keys.insert(id, key).is_some() {
            let problem = Problem::error(format!("two keys have the number {id}"));
            table.report().push(problem.label("is taken").at(place));
        }
    }
    Some(Trailer { key_id, key, other_keys, mode: mode?, freshness: freshness? })
}

fn window(value: &Value<'_>) -> Option<Duration> {
    let window = value.duration(WINDOW.0..=WINDOW.1)?;
    if window.subsec_nanos() != 0 {
        return value.reject(
            Problem::error("the window is not in whole seconds").label("must be 1s to 5m"),
        );
    }
    Some(window)
}

/// `key-id` with `key` or `key-file`.
fn numbered_key(table: &Table<'_>, surroundings: &Surroundings) -> Option<(KeyId, TrailerKey)> {
    let id = table
        .require("key-id", "write `key-id = 1`, the same number for the same key on every router")
        .and_then(|value| KeyId::new(value.integer(1..=u8::MAX)?));
    let help = "write `key = \"…\"` or `key-file = \"/path\"`, of 32 to 64 bytes";
    let secret = secret(table, ["key", "key-file"], Some(help), surroundings)?;
    let key = checked_key(table.report(), secret.text, secret.span)?;
    Some((id?, key))
}

fn checked_key(report: &Report, text: &str, span: Range<usize>) -> Option<TrailerKey> {
    let problem = match text.strip_prefix(HEXADECIMAL) {
        Some(digits) => match bytes(digits) {
            Some(bytes) => TrailerKey::new(&bytes).map_err(|error| error.to_string()),
            None => Err("a key that is not hexadecimal".to_owned()),
        },
        None => TrailerKey::new(text.as_bytes()).map_err(|error| error.to_string()),
    };
    match problem {
        Ok(key) => Some(key),
        Err(message) => {
            let label = "must be 32 to 64 bytes, or \"hex:\" and two digits for each byte";
            report.push(Problem::error(message).label(label).at(span));
            None
        }
    }
}

/// The bytes of pairs of hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// A secret and the place that gives it.
struct SecretText<'a> {
    text: &'a str,
    span: Range<usize>,
}

/// The secret of one of two keys: its text, or the path of a file that holds it. `needed` is the
/// help when neither is there.
fn secret<'a>(
    table: &Table<'a>,
    [inline_key, file_key]: [&'static str; 2],
    needed: Option<&str>,
    surroundings: &'a Surroundings,
) -> Option<SecretText<'a>> {
    let what = inline_key;
    match (table.get(inline_key), table.get(file_key)) {
        (Some(inline), Some(file)) => {
            let problem =
                Problem::error(format!("two {what}s")).label("and here").help("keep one of them");
            table.report().push(problem.at(file.span()).context(inline.span(), "one here"));
            None
        }
        (Some(value), None) => Some(SecretText { text: value.string()?, span: value.span() }),
        (None, Some(value)) => {
            let path = PathBuf::from(value.string()?);
            if !path.is_absolute() {
                let problem = Problem::error(format!("the path of a {what} file is relative"));
                return value.reject(problem.label("must begin with `/`"));
            }
            match surroundings.files.get(&path) {
                Some(Ok(secret)) => Some(SecretText { text: secret.text(), span: value.span() }),
                Some(Err(why)) => value
                    .reject(Problem::error(format!("the {what} file cannot be used")).label(why)),
                None => value.reject(
                    Problem::error(format!("the {what} file was not read"))
                        .label("its contents are not known"),
                ),
            }
        }
        (None, None) => {
            if let Some(help) = needed {
                table.require(inline_key, help);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn hexadecimal_keys_are_pairs_of_digits() {
        assert_eq!(bytes("00fFa0"), Some(vec![0, 0xff, 0xa0]));
        for odd in ["0", "0g", "é0", "00 1"] {
            assert_eq!(bytes(odd), None, "{odd}");
        }
    }
}
